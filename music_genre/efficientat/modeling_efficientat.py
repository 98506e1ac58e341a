"""EfficientAT for transformers: a MobileNetV3 on log-mel spectrograms, trained on AudioSet.

    python -m music_genre.efficientat mn10 models/efficientat-mn10    # converts the weights
    accelerate launch train_hf.py configs/gtzan-efficientat.json

The nets are those of F. Schmid, K. Koutini and G. Widmer, "Efficient Large-Scale Audio Tagging via
Transformer-to-CNN Knowledge Distillation", ICASSP 2023 (arXiv 2211.04772), on the blocks of
MobileNetV3-Large (Howard et al., "Searching for MobileNetV3", ICCV 2019).

Importing this module registers the model type "efficientat" with transformers' Auto classes. A
saved model includes a copy of this file, so that it loads elsewhere with `trust_remote_code=True`.
Therefore, this file imports nothing from this project.
"""

from typing import ClassVar

import numpy as np
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    PreTrainedConfig,
    PreTrainedModel,
    SequenceFeatureExtractor,
)
from transformers.audio_utils import mel_filter_bank
from transformers.feature_extraction_utils import BatchFeature
from transformers.modeling_outputs import (
    BaseModelOutputWithPoolingAndNoAttention,
    SequenceClassifierOutput,
)

STEM_CHANNELS = 16
# For each block: kernel, expanded channels, output channels, has squeeze-and-excitation,
# activation, stride. Channels are for width 1; see MobileNetV3-Large, table 1.
BLOCKS = (
    (3, 16, 16, False, nn.ReLU, 1),
    (3, 64, 24, False, nn.ReLU, 2),
    (3, 72, 24, False, nn.ReLU, 1),
    (5, 72, 40, True, nn.ReLU, 2),
    (5, 120, 40, True, nn.ReLU, 1),
    (5, 120, 40, True, nn.ReLU, 1),
    (3, 240, 80, False, nn.Hardswish, 2),
    (3, 200, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1),
    (3, 480, 112, True, nn.Hardswish, 1),
    (3, 672, 112, True, nn.Hardswish, 1),
    (5, 672, 160, True, nn.Hardswish, 2),
    (5, 960, 160, True, nn.Hardswish, 1),
    (5, 960, 160, True, nn.Hardswish, 1),
)
LAST_EXPANSION = 6  # of the last convolution
HEAD_CHANNELS = 1280
SQUEEZE_DIVISOR = 4
FROZEN_BLOCKS = 12  # the first blocks detect what all sounds have, such as onsets and pitches


class EfficientATConfig(PreTrainedConfig):
    """The size of the net and its head; the feature extractor defines the input.

    Args:
        width_multiplier: of all channels; 1.0 is "mn10", 0.4 is "mn04".
        classifier_dropout: probability, before the last layer.
        initializer_range: standard deviation of random weights. If it is lower, the outputs of the
            narrow depthwise convolutions are too small for the batch norms after them.
    """

    model_type = "efficientat"

    width_multiplier: float = 1.0
    classifier_dropout: float = 0.2
    initializer_range: float = 0.1


class EfficientATFeatureExtractor(SequenceFeatureExtractor):
    """Turns waveforms into log-mel spectrograms, as the authors compute them in evaluation.

    The steps are pre-emphasis, power of an STFT with a symmetric Hann window, Kaldi's mel bands,
    logarithm, and fixed normalisation: (log - mean) / std.

    Args:
        feature_size: the number of mel bands.
        sampling_rate: hertz.
        padding_value: pads the shorter ones of several waveforms; the default is that of silence.
        n_fft, win_length, hop_length: samples.
        max_frequency: hertz, the upper end of the highest band; the lowest band starts at 0.
    """

    model_input_names: ClassVar = ["input_values"]

    def __init__(
        self,
        feature_size: int = 128,
        sampling_rate: int = 32_000,
        padding_value: float = -1.4026,
        n_fft: int = 1024,
        win_length: int = 800,
        hop_length: int = 320,
        max_frequency: float = 15_000.0,
        preemphasis: float = 0.97,
        mean: float = -4.5,
        std: float = 5.0,
        return_attention_mask: bool = False,
        **kwargs,
    ) -> None:
        kwargs["return_attention_mask"] = return_attention_mask
        super().__init__(feature_size, sampling_rate, padding_value, **kwargs)
        self.n_fft = n_fft
        self.win_length = win_length
        self.hop_length = hop_length
        self.max_frequency = max_frequency
        self.preemphasis = preemphasis
        self.mean = mean
        self.std = std
        # transformers leaves attributes of these two names out of preprocessor_config.json.
        self.window = torch.hann_window(win_length, periodic=False)
        self.mel_filters = torch.from_numpy(
            mel_filter_bank(
                n_fft // 2 + 1,
                feature_size,
                min_frequency=0.0,
                max_frequency=max_frequency,
                sampling_rate=sampling_rate,
                mel_scale="kaldi",
                triangularize_in_mel_space=True,
                dtype=np.float32,
            )
        )

    def log_mel(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Map waveforms, float32, shape (batch, samples), to shape (batch, frames, bands)."""
        emphasized = waveforms[:, 1:] - self.preemphasis * waveforms[:, :-1]
        sizes = (self.n_fft, self.hop_length, self.win_length)
        spectrum = torch.stft(emphasized, *sizes, self.window, center=True, return_complex=True)
        power = torch.view_as_real(spectrum).square().sum(-1)
        mel = power.transpose(1, 2) @ self.mel_filters
        return ((mel + 1e-5).log() - self.mean) / self.std

    def __call__(
        self,
        raw_speech: np.ndarray | list[float] | list[np.ndarray] | list[list[float]],
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        **kwargs,
    ) -> BatchFeature:
        """Spectrograms of one mono waveform, shape (samples,), or several, padded to the longest.

        Returns:
            `input_values`, float32, shape (batch, frames, mel bands).

        Raises:
            ValueError: the sampling rate is another one, or a waveform is not mono or too short.
        """
        if sampling_rate is not None and sampling_rate != self.sampling_rate:
            raise ValueError(
                f"The model takes audio of {self.sampling_rate} Hz, not {sampling_rate}."
            )
        is_batch = len(raw_speech) > 0 and np.ndim(raw_speech[0]) > 0
        waveforms = [np.asarray(w, np.float32) for w in (raw_speech if is_batch else [raw_speech])]
        least = self.n_fft // 2 + 2  # the STFT reflects half a frame at both ends
        for waveform in waveforms:
            if waveform.ndim != 1 or len(waveform) < least:
                raise ValueError(
                    f"A waveform has the shape (samples,), with at least {least}, not "
                    f"{waveform.shape}."
                )
        spectrograms = [self.log_mel(torch.tensor(w)[None])[0].numpy() for w in waveforms]
        return self.pad({"input_values": spectrograms}, return_tensors=return_tensors)


def convolution(
    num_inputs: int,
    num_outputs: int,
    kernel_size: int = 1,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] = nn.Identity,
) -> nn.Sequential:
    """Convolution, batch norm and activation."""
    padding = kernel_size // 2
    return nn.Sequential(
        nn.Conv2d(num_inputs, num_outputs, kernel_size, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(num_outputs, eps=0.001, momentum=0.01),
        activation(),
    )


class EfficientATSqueezeExcitation(nn.Module):
    """Weights channels by the content of the whole clip (Hu et al., CVPR 2018)."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        num_squeezed = round_channels(num_channels // SQUEEZE_DIVISOR)
        self.fc1 = nn.Linear(num_channels, num_squeezed)
        self.fc2 = nn.Linear(num_squeezed, num_channels)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        weights = self.fc2(self.fc1(states.mean((2, 3))).relu()).sigmoid()
        return states * weights[:, :, None, None]


class EfficientATBlock(nn.Module):
    """An inverted residual: expand, convolve each channel, weight the channels, project."""

    def __init__(
        self,
        num_inputs: int,
        kernel_size: int,
        num_expanded: int,
        num_outputs: int,
        has_squeeze_excitation: bool,
        activation: type[nn.Module],
        stride: int,
    ) -> None:
        super().__init__()
        self.is_residual = stride == 1 and num_inputs == num_outputs
        layers = []
        if num_expanded != num_inputs:
            layers.append(convolution(num_inputs, num_expanded, activation=activation))
        layers.append(
            convolution(num_expanded, num_expanded, kernel_size, stride, num_expanded, activation)
        )
        if has_squeeze_excitation:
            layers.append(EfficientATSqueezeExcitation(num_expanded))
        layers.append(convolution(num_expanded, num_outputs))
        self.block = nn.Sequential(*layers)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        projected = self.block(states)
        return projected + states if self.is_residual else projected


class EfficientATPreTrainedModel(PreTrainedModel):
    config_class = EfficientATConfig
    base_model_prefix = "efficientat"
    main_input_name = "input_values"


class EfficientATModel(EfficientATPreTrainedModel):
    """Maps spectrograms of any length to features, per frame and pooled."""

    def __init__(self, config: EfficientATConfig) -> None:
        super().__init__(config)
        num_channels = round_channels(STEM_CHANNELS * config.width_multiplier)
        layers = [convolution(1, num_channels, 3, 2, activation=nn.Hardswish)]
        for kernel_size, expanded, outputs, has_squeeze, activation, stride in BLOCKS:
            sizes = [round_channels(n * config.width_multiplier) for n in (expanded, outputs)]
            layers.append(
                EfficientATBlock(num_channels, kernel_size, *sizes, has_squeeze, activation, stride)
            )
            num_channels = sizes[1]
        self.num_features = LAST_EXPANSION * num_channels
        layers.append(convolution(num_channels, self.num_features, activation=nn.Hardswish))
        self.features = nn.Sequential(*layers)
        self.post_init()

    def train(self, mode: bool = True) -> "EfficientATModel":
        """Set the mode, except for frozen batch norms, which also keep their statistics."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
                module.eval()
        return self

    def forward(
        self, input_values: torch.Tensor, **kwargs
    ) -> BaseModelOutputWithPoolingAndNoAttention:
        """
        Args:
            input_values: float, shape (batch, frames, mel bands).

        Returns:
            `last_hidden_state`, shape (batch, channels, bands, frames), with a 32nd of the input's
            bands and frames; `pooler_output`, its mean, shape (batch, channels).
        """
        states = self.features(input_values.transpose(1, 2).unsqueeze(1))
        return BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=states, pooler_output=states.mean((2, 3))
        )


class EfficientATForAudioClassification(EfficientATPreTrainedModel):
    """The net with a classifier of two layers on its pooled features."""

    def __init__(self, config: EfficientATConfig) -> None:
        super().__init__(config)
        self.efficientat = EfficientATModel(config)
        num_hidden = round_channels(HEAD_CHANNELS * config.width_multiplier)
        self.projector = nn.Linear(self.efficientat.num_features, num_hidden)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(num_hidden, config.num_labels)
        self.post_init()

    def freeze_feature_encoder(self) -> None:
        """Freeze the first blocks and all batch norms: training on few clips spoils both."""
        net = self.efficientat
        net.features[: 1 + FROZEN_BLOCKS].requires_grad_(False)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
        net.train(net.training)

    def forward(
        self, input_values: torch.Tensor, labels: torch.Tensor | None = None, **kwargs
    ) -> SequenceClassifierOutput:
        """As in `EfficientATModel`; with labels, int, shape (batch,), add the cross entropy."""
        outputs = self.efficientat(input_values)
        features = nn.functional.hardswish(self.projector(outputs.pooler_output))
        logits = self.classifier(self.dropout(features))
        loss = nn.functional.cross_entropy(logits.float(), labels) if labels is not None else None
        return SequenceClassifierOutput(loss=loss, logits=logits)


def round_channels(channels: float) -> int:
    """Round to a multiple of 8, at least 8 and at least 0.9 * `channels`, as in MobileNetV3."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


AutoConfig.register(EfficientATConfig.model_type, EfficientATConfig)
AutoFeatureExtractor.register(EfficientATConfig, EfficientATFeatureExtractor)
AutoModel.register(EfficientATConfig, EfficientATModel)
AutoModelForAudioClassification.register(EfficientATConfig, EfficientATForAudioClassification)
EfficientATConfig.register_for_auto_class()
EfficientATFeatureExtractor.register_for_auto_class()
EfficientATModel.register_for_auto_class("AutoModel")
EfficientATForAudioClassification.register_for_auto_class("AutoModelForAudioClassification")
