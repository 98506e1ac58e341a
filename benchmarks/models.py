"""Models for measuring speed: DistilHuBERT's exact architecture, with random weights."""

from pathlib import Path


def save_distilhubert(folder: Path, window_seconds: float = 5.0) -> str:
    """Configuration, weights and feature extractor, as ntu-spml/distilhubert has them in shape."""
    import torch
    from transformers import HubertConfig, HubertForSequenceClassification, Wav2Vec2FeatureExtractor

    from data_prep.gtzan import GENRES

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
    return str(folder)
