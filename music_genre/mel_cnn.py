"""A small convolutional net on log-mel spectrograms: a baseline for transfer learning.

    accelerate launch train_hf.py configs/mel-cnn.json --dataset data/gtzan

Importing this module makes transformers' Auto classes know the model type "mel-cnn". A saved one
loads in `GenreClassifier` and the app, but in a plain `pipeline` only after
`import music_genre.mel_cnn`: transformers itself does not know it.
"""

import torch
from torch import nn
from torchaudio.transforms import MelSpectrogram
from transformers import (
    AutoConfig,
    AutoModelForAudioClassification,
    PreTrainedConfig,
    PreTrainedModel,
    initialization,
)
from transformers.modeling_outputs import SequenceClassifierOutput


class MelCnnConfig(PreTrainedConfig):
    """The spectrogram (n_fft and hop_length in samples) and the net's channels, block by block."""

    model_type = "mel-cnn"

    sampling_rate: int = 16_000
    n_fft: int = 1024
    hop_length: int = 256
    n_mels: int = 96
    channels: list[int] | tuple[int, ...] = (32, 64, 128, 256)
    dropout: float = 0.3


class PictureNet(nn.Module):
    """Convolutions over a picture of sound, each block at half the size, then their mean.

    Input: float, shape (batch, 1, height, width), of any size. Output: logits, (batch, labels).
    """

    def __init__(self, channels: list[int] | tuple[int, ...], dropout: float, n_labels: int):
        super().__init__()
        layers: list[nn.Module] = [nn.BatchNorm2d(1)]
        for n_in, n_out in zip((1, *channels), channels, strict=False):
            layers += [
                nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
                nn.BatchNorm2d(n_out),
                nn.MaxPool2d(2, ceil_mode=True),  # a tenth of a second keeps a column to the end
                nn.ReLU(inplace=True),  # after pooling: the same on a quarter of the values
            ]
        self.blocks = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels[-1], n_labels)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.dropout(self.blocks(pictures).mean(dim=(2, 3))))


class MelCnnForAudioClassification(PreTrainedModel):
    """Waveforms at 16 kHz, float32, shape (batch, samples), to logits, shape (batch, labels)."""

    config_class = MelCnnConfig
    base_model_prefix = "net"
    main_input_name = "input_values"

    def __init__(self, config: MelCnnConfig) -> None:
        super().__init__(config)
        # from_pretrained builds models on the meta device, where filters cannot be computed.
        with torch.device("cpu"):
            self.mel = MelSpectrogram(
                config.sampling_rate,
                config.n_fft,
                hop_length=config.hop_length,
                n_mels=config.n_mels,
            )
        self.net = PictureNet(config.channels, config.dropout, config.num_labels)
        self.post_init()

    def log_mel(self, input_values: torch.Tensor) -> torch.Tensor:
        """The natural logarithm of the power: float32, shape (batch, 1, mels, frames).

        Never in half precision: the power of a loud tone is beyond fp16's 65,504.
        """
        with torch.autocast(input_values.device.type, enabled=False):
            return self.mel(input_values.float()).add(1e-4).log().unsqueeze(1)

    def forward(
        self, input_values: torch.Tensor, labels: torch.Tensor | None = None
    ) -> SequenceClassifierOutput:
        logits = self.net(self.log_mel(input_values))
        loss = nn.functional.cross_entropy(logits.float(), labels) if labels is not None else None
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def _init_weights(self, module: nn.Module) -> None:
        """He's initialisation: that of transformers' own nets would be far too small here."""
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            initialization.kaiming_normal_(module.weight, nonlinearity="relu")


AutoConfig.register(MelCnnConfig.model_type, MelCnnConfig)
AutoModelForAudioClassification.register(MelCnnConfig, MelCnnForAudioClassification)
