"""What the benchmarks run on: DistilHuBERT's architecture with random weights, and music."""

from pathlib import Path

import numpy as np
import torch
from transformers import (
    HubertConfig,
    HubertForSequenceClassification,
    Wav2Vec2FeatureExtractor,
)

from data_prep.gtzan import GENRES
from data_prep.synthetic import synthesise


def save_distilhubert(folder: Path, window_seconds: float = 5.0) -> Path:
    """Save configuration, weights and feature extractor, as ntu-spml/distilhubert has them."""
    torch.manual_seed(0)
    config = HubertConfig(
        num_hidden_layers=2,
        feat_proj_layer_norm=False,
        apply_spec_augment=False,
        layerdrop=0.0,
        id2label=dict(enumerate(GENRES)),
        label2id={genre: i for i, genre in enumerate(GENRES)},
        window_seconds=window_seconds,
    )
    HubertForSequenceClassification(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=False, do_normalize=True).save_pretrained(folder)
    return folder


def music(seconds: float, sampling_rate: int) -> np.ndarray:
    """Synthesised, repeated after 30 s: float32, shape (samples,)."""
    piece = synthesise("jazz", 7, min(seconds, 30.0), sampling_rate)
    return np.resize(piece, int(seconds * sampling_rate)).astype(np.float32)
