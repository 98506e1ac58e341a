"""EfficientAT: a small net that was trained on AudioSet, as a transformers model."""

from music_genre.efficientat.modeling_efficientat import (
    EfficientATConfig,
    EfficientATFeatureExtractor,
    EfficientATForAudioClassification,
)

__all__ = [
    "EfficientATConfig",
    "EfficientATFeatureExtractor",
    "EfficientATForAudioClassification",
]
