"""Tiny nets of every family that can have a linear probe, and options to train each of them."""

from pathlib import Path

from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    HubertConfig,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
)

from music_genre.efficientat import EfficientATConfig, EfficientATFeatureExtractor

SPEECH = {
    "conv_dim": (8,) * 7, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 8,
}  # fmt: skip
FAMILIES = {
    "hubert": (HubertConfig(**SPEECH), Wav2Vec2FeatureExtractor()),
    "wav2vec2": (Wav2Vec2Config(**SPEECH), Wav2Vec2FeatureExtractor()),
    "wavlm": (WavLMConfig(**SPEECH), Wav2Vec2FeatureExtractor()),
    "whisper": (
        WhisperConfig(
            d_model=16, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
            classifier_proj_size=8,
        ),
        WhisperFeatureExtractor(),
    ),
    "ast": (
        ASTConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            max_length=128, num_mel_bins=32,
        ),
        ASTFeatureExtractor(max_length=128, num_mel_bins=32),
    ),
    "efficientat": (
        EfficientATConfig(width_multiplier=0.1),
        EfficientATFeatureExtractor(sampling_rate=16_000, max_frequency=7_500),
    ),
}  # fmt: skip


def four_steps(family: str, prepared: Path, folder: Path, output_dir: Path) -> list[str]:
    """Options of a run of four steps that loads the second or the fourth at the end."""
    from tests.training_runs import flags  # it needs torchaudio, and FAMILIES does not

    model = folder / family
    for part in FAMILIES[family]:
        part.save_pretrained(model)
    return flags(
        prepared, model, output_dir, max_steps=4, eval_strategy="steps", eval_steps=2,
        save_strategy="steps", save_steps=2, per_device_train_batch_size=4,
        load_best_model_at_end=True,
    )  # fmt: skip
