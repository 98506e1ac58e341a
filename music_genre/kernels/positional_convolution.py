"""HuBERT's positional convolution by the Fourier transform: up to nine times as fast on a CPU.

Its kernel is 128 frames wide, about as long as a window, and there the convolution theorem pays:
one product per frequency replaces one product per frame and position in the kernel.

The kernel's transforms are kept in memory, 47 MB for windows of 5 s, until the weights change; in
training they are computed in every step. HuBERT, wav2vec2 and WavLM have this convolution.
"""

import math

import torch
from torch import nn

MULTIPLE = 32  # of frames, for the length of a transform: large prime factors are slow


def use_fft(model: nn.Module) -> bool:
    """Make a model's positional convolution, if it has one, compute by Fourier transforms.

    Its parameters stay in place.

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
        self.known = (None, None)  # length and weights of the last transforms, and these

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Shape (windows, channels, frames) to the same, with as many frames as the convolution."""
        windows, channels, frames = hidden.shape
        kernel, padding = self.convolution.kernel_size[0], self.convolution.padding[0]
        # Zeros after the frames, as many as one end needs: a transform is circular, so the zeros
        # serve both ends.
        length = -(-max(kernel, frames + padding) // MULTIPLE) * MULTIPLE
        parameters = list(self.convolution.parameters())
        is_in_training = self.convolution.training or torch.is_grad_enabled()
        if is_in_training and any(one.requires_grad for one in parameters):
            spectra, self.known = self._spectra(length), (None, None)
        else:
            spectra = self._known_spectra(length, parameters)
        groups = self.convolution.groups
        # Frames come before channels in memory. Per frequency and group: windows by channels.
        spectrum = torch.fft.rfft(hidden.transpose(1, 2).float(), length, dim=1)
        spectrum = spectrum.view(windows, -1, groups, channels // groups).permute(1, 2, 0, 3)
        product = torch.bmm(spectrum.flatten(0, 1), spectra)
        product = product.view(*spectrum.shape).permute(2, 0, 1, 3).flatten(2)
        convolved = torch.fft.irfft(product, length, dim=1)[:, : frames + 2 * padding - kernel + 1]
        return (convolved + self.convolution.bias).to(hidden.dtype).transpose(1, 2)

    def _known_spectra(self, length: int, parameters: list[nn.Parameter]) -> torch.Tensor:
        # Weights that are loaded or averaged have a new version; a fused optimizer counts none up,
        # but acts only after passes that are in training.
        key = (length, [(one.data_ptr(), one._version) for one in parameters])
        known, spectra = self.known  # read both at once: several threads may share the model
        if key != known:
            with torch.inference_mode(False), torch.no_grad():  # training may use them, too
                spectra = self._spectra(length)
            self.known = (key, spectra)
        return spectra

    @torch.autocast("cpu", enabled=False)
    def _spectra(self, length: int) -> torch.Tensor:
        """The kernels' transforms, complex64, shape (frequencies * groups, in, out) of a group.

        By a matrix product: it writes the frequencies first, as they are needed, and is faster than
        tens of thousands of short transforms.
        """
        weight, groups = self.convolution.weight.float(), self.convolution.groups
        out, width, kernel = weight.shape
        # The part of a kernel before its middle has negative positions.
        positions = torch.arange(kernel, dtype=torch.float64) - self.convolution.padding[0]
        angles = torch.arange(length // 2 + 1)[:, None] * positions * (2 * math.pi / length)
        waves = torch.cat([angles.cos(), angles.sin()]).to(weight)
        spectra = (waves @ weight.view(-1, kernel).T).view(2, -1, out // groups, width).mT
        return torch.complex(*spectra)
