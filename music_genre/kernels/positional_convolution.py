"""HuBERT's positional convolution by the Fourier transform: up to nine times as fast on a CPU.

Its kernel is 128 frames wide, about as long as a window, and there the convolution theorem pays:
one product per frequency replaces one product per frame and position in the kernel.

For inference only: in training the kernel's transform would be computed in every step, which takes
longer than the convolution in bf16. The transforms are kept in memory, 47 MB for windows of 5 s.
HuBERT, wav2vec2 and WavLM have this convolution.
"""

import torch
from torch import nn

MULTIPLE = 32  # of frames, for the length of a transform: large prime factors are slow


def use_fft(model: nn.Module) -> bool:
    """Make a model's positional convolution, if it has one, compute by Fourier transforms.

    Its parameters stay in place and must not change afterwards.

    Args:
        model: of transformers.

    Returns:
        Whether it has one.
    """
    encoder = getattr(model.base_model, "encoder", None)
    convolution = getattr(getattr(encoder, "pos_conv_embed", None), "conv", None)
    if not isinstance(convolution, nn.Conv1d) or convolution.stride != (1,):  # SEW's strides
        return False
    convolution.forward = FFTConvolution(convolution)
    return True


class FFTConvolution:
    def __init__(self, convolution: nn.Conv1d) -> None:
        self.convolution = convolution
        self.known = (0, None)  # the length of the last windows' transform, and the kernels'

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Shape (windows, channels, frames) to the same, with as many frames as the convolution."""
        windows, channels, frames = hidden.shape
        kernel, padding = self.convolution.kernel_size[0], self.convolution.padding[0]
        # Zeros after the frames, as many as one end needs: a transform is circular, so the zeros
        # serve both ends.
        length = -(-max(kernel, frames + padding) // MULTIPLE) * MULTIPLE
        known, spectra = self.known  # read both at once: several threads may share the model
        if length != known:
            spectra = self._spectra(length)
            self.known = (length, spectra)
        groups = self.convolution.groups
        # Frames come before channels in memory. Per frequency and group: windows by channels.
        spectrum = torch.fft.rfft(hidden.transpose(1, 2).float(), length, dim=1)
        spectrum = spectrum.view(windows, -1, groups, channels // groups).permute(1, 2, 0, 3)
        product = torch.bmm(spectrum.flatten(0, 1), spectra)
        product = product.view(*spectrum.shape).permute(2, 0, 1, 3).flatten(2)
        convolved = torch.fft.irfft(product, length, dim=1)[:, : frames + 2 * padding - kernel + 1]
        return (convolved + self.convolution.bias).to(hidden.dtype).transpose(1, 2)

    @torch.no_grad()
    def _spectra(self, length: int) -> torch.Tensor:
        """The kernels' transforms, complex64, shape (frequencies * groups, in, out) of a group."""
        weight, groups = self.convolution.weight.float(), self.convolution.groups
        out, width, kernel = weight.shape
        # The part of a kernel before its middle has negative positions: the end of a transform.
        turned = nn.functional.pad(weight.flip(-1), (0, length - kernel))
        turned = turned.roll(self.convolution.padding[0] + 1 - kernel, -1)
        spectra = torch.fft.rfft(turned).view(groups, out // groups, width, -1)
        return spectra.permute(3, 0, 2, 1).flatten(0, 1).contiguous()
