"""HuBERT's convolutional front end in a form that a CPU computes faster, with the same result.

    use_cpu_modules(model)  # before or after it is loaded, saved, copied or trained

The module takes over the parameters of the old one under the same names, so a saved model is the
same. It knows HuBERT, wav2vec2, WavLM and their relatives; others stay unchanged.
"""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.functional import gelu
from transformers import PreTrainedModel

gelu_ = torch.ops.aten.gelu_.default  # in place; torch.nn.functional has no such function
KERNEL, STRIDE = 10, 5  # of the first convolution, in samples


def use_cpu_modules(model: PreTrainedModel) -> bool:
    """Put the faster module in the place of a model's front end, where that has a known form.

    It has no gradients: only for a front end that is not trained.

    Returns:
        Whether it was replaced.
    """
    encoder = getattr(model.base_model, "feature_extractor", None)
    if not _has_known_form(getattr(encoder, "conv_layers", None)):
        return False
    model.base_model.feature_extractor = MatmulFeatureEncoder(encoder.conv_layers)
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
        and len({c.out_channels for c in convolutions}) == 1
        and all(not hasattr(layer, "layer_norm") for layer in layers[1:])
        and all(_is_gelu(layer.activation) for layer in layers)
    )


def _is_gelu(activation: object) -> bool:
    """Whether it is transformers' GELUActivation, of the exact kind."""
    return getattr(activation, "act", None) is gelu


class MatmulFeatureEncoder(nn.Module):
    """HuBERT's convolutional front end as matrix products, without gradients.

    It is most of DistilHuBERT's work, and PyTorch's 1-D convolutions spend more time on moving data
    between layouts than on multiplying. With time before channels no data moves: a kernel of 2 or 3
    with stride 2 is a product with two neighbouring frames, which are side by side in memory, plus
    a product with the frame after them. The group norm behind the first convolution needs no pass
    over the output: mean and variance of a linear map follow from those of its input, ten samples
    wide, so they are folded into the weights.

    Args:
        conv_layers: those of HuBERT's, wav2vec2's or WavLM's front end in its base form
            (`feat_extract_norm="group"`).
    """

    def __init__(self, conv_layers: nn.ModuleList) -> None:
        super().__init__()
        self.conv_layers = conv_layers

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        """Float, shape (windows, samples), to (windows, channels, frames)."""
        device_type = input_values.device.type
        dtype = torch.float32
        if torch.is_autocast_enabled(device_type):
            dtype = torch.get_autocast_dtype(device_type)
        with torch.no_grad(), torch.autocast(device_type, enabled=False):
            return self._frames(input_values.float(), dtype).transpose(1, 2)

    def _frames(self, waveforms: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Shape (windows, frames, channels). One window at a time, in the same two buffers.

        Otherwise the operating system would allocate and clear the memory of every layer anew.
        """
        lengths = [(waveforms.shape[1] - KERNEL) // STRIDE + 1]
        for layer in self.conv_layers[1:]:
            lengths.append((lengths[-1] - layer.conv.kernel_size[0]) // 2 + 1)
        weights = list(self._weights(dtype))
        width = self.conv_layers[0].conv.out_channels
        buffers = [waveforms.new_empty((n, width), dtype=dtype) for n in lengths[:2]]
        result = waveforms.new_empty((len(waveforms), lengths[-1], width), dtype=dtype)
        for waveform, last in zip(waveforms, result, strict=True):
            frames = self._first(waveform, buffers[0])
            for i, (pair, third) in enumerate(weights, start=1):
                n = lengths[i]
                out = last if i == len(lengths) - 1 else buffers[i % 2][:n]
                torch.mm(frames[: 2 * n].view(n, 2 * width), pair, out=out)
                if third is not None:
                    out.addmm_(frames[2 : 2 * n + 1 : 2], third)
                frames = gelu_(out)
        return result

    def _weights(self, dtype: torch.dtype) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        """Of each convolution but the first: for a pair of frames, and for the one after it."""
        for layer in self.conv_layers[1:]:
            weight = layer.conv.weight.to(dtype)  # shape (out, in, kernel)
            pair = weight[:, :, :2].permute(2, 1, 0).flatten(0, 1)
            yield pair, weight[:, :, 2].T if weight.shape[2] == 3 else None

    def _first(self, waveform: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """The first convolution with its group norm and GELU: shape (frames, channels)."""
        weight, norm = self.conv_layers[0].conv.weight[:, 0], self.conv_layers[0].layer_norm
        blocks = waveform[: (len(out) + 1) * STRIDE].view(-1, STRIDE)
        patches = torch.cat([blocks[:-1], blocks[1:]], dim=1)
        mean = patches.mean(0)
        centred = patches - mean
        covariance = centred.T @ centred / len(out)
        variance = ((weight @ covariance) * weight).sum(1)
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        bias = norm.bias - (weight @ mean) * scale
        # The bias as one more weight, of a sample that is 1: addmm would write `out` twice.
        normed = torch.cat([(weight * scale[:, None]).T, bias[None]])
        patches = nn.functional.pad(patches, (0, 1), value=1.0)
        return gelu_(torch.mm(patches.to(out.dtype), normed.to(out.dtype), out=out))
