"""HuBERT's convolutions as plain matrix products: on a CPU several times as fast, same result.

The convolutional front end is 72 % of DistilHuBERT's work. PyTorch's 1-D convolutions spend more
time on moving data between layouts than on multiplying. With time before channels no data moves:
a kernel of 2 or 3 with stride 2 is a product with two neighbouring frames, which lie side by side
in memory, plus one with the frame after them. And the group norm behind the first convolution needs
no pass over its output: mean and variance of a linear map follow from those of its input, ten
samples wide, so they are folded into the weights of that window.

For inference, and for training with a frozen front end. Nets of HuBERT's, wav2vec2's and WavLM's
base form (`feat_extract_norm="group"`) have it; others are left as they are.
"""

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import gelu

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KERNEL, STRIDE = 10, 5  # of the first convolution, in samples


def speed_up(model: "PreTrainedModel") -> bool:
    """Let a model's front end compute by matrix products, if it has the form they are made for.

    Its parameters stay where they are and must not change from now on.

    Returns:
        Whether it has that form.
    """
    encoder = getattr(model.base_model, "feature_extractor", None)
    if not _has_known_form(getattr(encoder, "conv_layers", None)):
        return False
    encoder.forward = _MatrixProducts(encoder.conv_layers)
    return True


def _has_known_form(layers: nn.ModuleList | None) -> bool:
    if layers is None or not isinstance(getattr(layers[0], "layer_norm", None), nn.GroupNorm):
        return False
    convolutions = [layer.conv for layer in layers]
    shapes = [(c.kernel_size[0], c.stride[0]) for c in convolutions]
    norm = layers[0].layer_norm
    return (
        shapes[0] == (KERNEL, STRIDE)
        and all(shape in ((3, 2), (2, 2)) for shape in shapes[1:])
        and all(c.bias is None for c in convolutions)
        and norm.num_groups == norm.num_channels
        and all(not hasattr(layer, "layer_norm") for layer in layers[1:])
        and all(_is_gelu(layer.activation) for layer in layers)
    )


def _is_gelu(activation: object) -> bool:
    from transformers.activations import GELUActivation

    return isinstance(activation, GELUActivation) and activation.act is gelu


class _MatrixProducts:
    def __init__(self, layers: nn.ModuleList) -> None:
        self.layers = layers
        self.weights: dict[torch.dtype, list[tuple[torch.Tensor, torch.Tensor | None]]] = {}

    def __call__(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Shape (windows, samples) to (windows, channels, frames), like the encoder's own."""
        device_type = waveforms.device.type
        dtype = torch.float32
        if torch.is_autocast_enabled(device_type):
            dtype = torch.get_autocast_dtype(device_type)
        with torch.no_grad(), torch.autocast(device_type, enabled=False):
            if dtype not in self.weights:
                self.weights[dtype] = [
                    _split(layer.conv.weight, dtype) for layer in self.layers[1:]
                ]
            # One window at a time: its activations (16 MB for 5 s) stay closer to the cores.
            frames = [self._one(window.float(), dtype) for window in waveforms]
            return torch.stack(frames).transpose(1, 2)

    def _one(self, waveform: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        frames = self._first(waveform, dtype)
        for pair_weight, third_weight in self.weights[dtype]:
            width = frames.shape[1]
            if third_weight is None:
                n = len(frames) // 2
                frames = gelu(frames[: 2 * n].view(n, 2 * width) @ pair_weight)
            else:
                n = (len(frames) - 3) // 2 + 1
                product = frames[: 2 * n].view(n, 2 * width) @ pair_weight
                frames = gelu(product.addmm_(frames[2 : 2 * n + 1 : 2], third_weight))
        return frames

    def _first(self, waveform: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The first convolution with its group norm and GELU: shape (frames, channels)."""
        weight, norm = self.layers[0].conv.weight[:, 0], self.layers[0].layer_norm
        n = (len(waveform) - KERNEL) // STRIDE + 1
        blocks = waveform[: (n + 1) * STRIDE].view(-1, STRIDE)
        patches = torch.cat([blocks[:-1], blocks[1:]], dim=1)
        mean = patches.mean(0)
        centred = patches - mean
        covariance = centred.T @ centred / n
        variance = ((weight @ covariance) * weight).sum(1)
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        bias = norm.bias - (weight @ mean) * scale
        normed_weight = (weight * scale[:, None]).T
        return gelu(torch.addmm(bias.to(dtype), patches.to(dtype), normed_weight.to(dtype)))


def _split(weight: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A kernel of 2 or 3, shape (out, in, kernel), for a pair of frames and the one after it."""
    out, width, kernel = weight.shape
    pair = weight[:, :, :2].permute(2, 1, 0).reshape(2 * width, out)
    third = weight[:, :, 2].T.to(dtype).contiguous() if kernel == 3 else None
    return pair.to(dtype).contiguous(), third
