"""HuBERT's convolutions in forms that a CPU computes several times as fast, with the same result.

    use_cpu_modules(model)  # before or after it is loaded, saved, copied or trained

Both modules take over the parameters of the ones that they replace, under the same names, so a
saved model is the same. They support HuBERT, wav2vec2 and WavLM; other models stay unchanged.
"""

import math
from collections.abc import Iterator

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

gelu_ = torch.ops.aten.gelu_.default  # in place; torch.nn.functional has no in-place GELU
FAMILIES = ("hubert", "wav2vec2", "wavlm")
KERNEL, STRIDE = 10, 5  # of the first convolution, in samples
MULTIPLE = 32  # a transform's length, in frames, is a multiple of it: large prime factors are slow


def use_cpu_modules(model: PreTrainedModel) -> None:
    """Replace a model's convolutions with faster modules, where they have a known form.

    The front end is replaced only if it is frozen, because its faster form has no gradients.

    Args:
        model: a transformers model, on a CPU.
    """
    base, config = model.base_model, model.config
    if config.model_type not in FAMILIES:
        return
    layers = base.feature_extractor.conv_layers
    if _has_known_form(config) and not any(p.requires_grad for p in layers.parameters()):
        base.feature_extractor = MatmulFeatureEncoder(layers)
    if not getattr(config, "conv_pos_batch_norm", False):
        embedding = base.encoder.pos_conv_embed
        base.encoder.pos_conv_embed = FourierPositionalEmbedding(
            embedding.conv, embedding.activation
        )


def _has_known_form(config: PreTrainedConfig) -> bool:
    first, *others = zip(config.conv_kernel, config.conv_stride, strict=True)
    return (
        config.feat_extract_norm == "group"
        and config.feat_extract_activation == "gelu"
        and not config.conv_bias
        and first == (KERNEL, STRIDE)
        and all(one in ((3, 2), (2, 2)) for one in others)
        and len(set(config.conv_dim)) == 1
    )


class MatmulFeatureEncoder(nn.Module):
    """HuBERT's convolutional front end as matrix products, without gradients.

    The front end is most of DistilHuBERT's work, and PyTorch's 1-D convolutions spend more time on
    moving data between layouts than on multiplying. With time before channels, no data is moved: a
    kernel of 2 or 3 with stride 2 is a product with two neighbouring frames, which are adjacent in
    memory, plus a product with the frame after them. The group norm after the first convolution
    needs no pass over the output: the mean and variance of a linear map follow from those of its
    input, which is ten samples wide, so they are folded into the weights.

    Args:
        conv_layers: the layers of HuBERT's, wav2vec2's or WavLM's front end in its base form
            (`feat_extract_norm="group"`).
    """

    def __init__(self, conv_layers: nn.ModuleList) -> None:
        super().__init__()
        self.conv_layers = conv_layers

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        """Map waveforms, float, shape (windows, samples), to (windows, channels, frames)."""
        device_type = input_values.device.type
        dtype = torch.float32
        if torch.is_autocast_enabled(device_type):
            dtype = torch.get_autocast_dtype(device_type)
        with torch.no_grad(), torch.autocast(device_type, enabled=False):
            return self._frames(input_values.float(), dtype).transpose(1, 2)

    def _frames(self, waveforms: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return shape (windows, frames, channels), using the same two buffers for each window.

        Otherwise the operating system would allocate and clear new memory for every layer.
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
        """Yield each later convolution's weights: for a pair of frames, and for the next frame."""
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
        # The bias is one more weight, for a sample that is 1: addmm would write `out` twice.
        normed = torch.cat([(weight * scale[:, None]).T, bias[None]])
        patches = nn.functional.pad(patches, (0, 1), value=1.0)
        return gelu_(torch.mm(patches.to(out.dtype), normed.to(out.dtype), out=out))


class FourierPositionalEmbedding(nn.Module):
    """HuBERT's positional convolution by the Fourier transform, with gradients.

    Its kernel is 128 frames wide, about as long as a window, so the convolution theorem pays off:
    one product per frequency replaces one product per frame and position in the kernel. In half
    precision the convolution itself is faster, and is used instead.

    While none of its parameters is trained, the kernel's transforms are cached; `load_state_dict`
    clears the cache.
    """

    def __init__(self, conv: nn.Conv1d, activation: nn.Module) -> None:
        super().__init__()
        self.conv, self.activation = conv, activation
        self.kept: tuple[tuple, torch.Tensor] | None = None  # the cache's key, and the transforms
        self.register_load_state_dict_post_hook(_forget)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map hidden states, shape (windows, frames, channels), to the same shape."""
        frames = hidden_states.shape[1]
        if torch.is_autocast_enabled(hidden_states.device.type):
            convolved = self.conv(hidden_states.transpose(1, 2))[:, :, :frames].transpose(1, 2)
        else:
            convolved = self._convolved(hidden_states)
        return self.activation(convolved)

    def _convolved(self, hidden: torch.Tensor) -> torch.Tensor:
        windows, frames, channels = hidden.shape
        kernel, padding, groups = self.conv.kernel_size[0], self.conv.padding[0], self.conv.groups
        # The zeros after the frames are only as many as one end needs: a transform is circular, so
        # they serve both ends.
        length = -(-max(kernel, frames + padding) // MULTIPLE) * MULTIPLE
        spectra = self._spectra_for(length)
        # Frames come before channels in memory. Per frequency and group: windows by channels.
        spectrum = torch.fft.rfft(hidden.float(), length, dim=1)
        spectrum = spectrum.view(windows, -1, groups, channels // groups).permute(1, 2, 0, 3)
        product = torch.bmm(spectrum.flatten(0, 1), spectra)
        product = product.view(*spectrum.shape).permute(2, 0, 1, 3).flatten(2)
        convolved = torch.fft.irfft(product, length, dim=1)[:, :frames]
        return (convolved + self.conv.bias).to(hidden.dtype)

    def _spectra_for(self, length: int) -> torch.Tensor:
        if any(parameter.requires_grad for parameter in self.conv.parameters()):
            self.kept = None
            return self._spectra(length)
        key = (length, self.conv.bias.device, self.conv.bias.dtype)
        kept = self.kept  # read once: several threads may share the model
        if kept is None or kept[0] != key:
            with torch.inference_mode(False), torch.no_grad():  # training may also use the cache
                kept = self.kept = (key, self._spectra(length))
        return kept[1]

    def _spectra(self, length: int) -> torch.Tensor:
        """Return the kernels' transforms: complex64, shape (frequencies * groups, in, out).

        They are computed by a matrix product, which writes the frequencies first, as needed, and is
        faster than tens of thousands of short transforms. `in` and `out` are those of a group.
        """
        weight, groups = self.conv.weight.float(), self.conv.groups
        out, width, kernel = weight.shape
        # The part of a kernel before its middle has negative positions.
        positions = torch.arange(kernel, dtype=torch.float64) - self.conv.padding[0]
        angles = torch.arange(length // 2 + 1)[:, None] * positions * (2 * math.pi / length)
        waves = torch.cat([angles.cos(), angles.sin()]).to(weight)
        spectra = (waves @ weight.view(-1, kernel).T).view(2, -1, out // groups, width).mT
        return torch.complex(*spectra)


def _forget(module: FourierPositionalEmbedding, incompatible_keys: object) -> None:
    module.kept = None
