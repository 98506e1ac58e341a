"""HuBERT's positional convolution by the Fourier transform: on a CPU up to nine times as fast.

Its kernel is 128 frames wide, about as wide as a window is long, and there the convolution theorem
pays: a product per frequency takes the place of one per frame and position in the kernel.

For inference alone: in training the kernel's transform would be computed anew in every step, which
takes longer than bf16 convolutions do; and the transforms are kept, 47 MB for windows of 5 s.
HuBERT, wav2vec2 and WavLM have this convolution.
"""

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MULTIPLE = 32  # of which transforms have their lengths: those of large primes are slow


def use_fft(model: "PreTrainedModel") -> bool:
    """Let a model's positional convolution, if it has one, compute by Fourier transforms.

    Its parameters stay where they are and must not change from now on.

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
        """Shape (windows, channels, frames) to that and as many frames as the convolution gives."""
        windows, channels, frames = hidden.shape
        kernel, padding = self.convolution.kernel_size[0], self.convolution.padding[0]
        # After the frames zeros, as many as one end needs: the other end finds the same ones.
        length = -(-max(kernel, frames + padding) // MULTIPLE) * MULTIPLE
        known, spectra = self.known  # both at once: visitors are answered by several threads
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
        # What a kernel has before its middle comes before zero in a transform: at its end.
        turned = nn.functional.pad(weight.flip(-1), (0, length - kernel))
        turned = turned.roll(self.convolution.padding[0] + 1 - kernel, -1)
        spectra = torch.fft.rfft(turned).view(groups, out // groups, width, -1)
        return spectra.permute(3, 0, 2, 1).flatten(0, 1).contiguous()
