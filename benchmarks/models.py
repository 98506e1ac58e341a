"""Models for measuring speed: DistilHuBERT's exact architecture; and what a pass of one costs."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

RATE = 16_000  # hertz


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


def operations(model: str, seconds: float = 5.0) -> tuple[int, int]:
    """Floating point operations of transformers' own pass over a window: of a front end of
    convolutions, if it has one, and of all of it.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from music_genre.loading import find_model, load_classifier, load_feature_extractor
    from music_genre.windows import extract_features

    location = find_model(model)
    net = load_classifier(location)
    net.set_attn_implementation("eager")  # the counter does not know the others' products
    heard = torch.randn(int(seconds * RATE)).numpy()
    features = extract_features(load_feature_extractor(location), [heard])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(features)
    front_end = f"{type(net).__name__}.{net.base_model_prefix}.feature_extractor"
    counts = counter.get_flop_counts()
    return sum(counts.get(front_end, {}).values()), counter.get_total_flops()


def products(
    n_operations: float, dtype: "torch.dtype", device: "torch.device"
) -> tuple[Callable[[], None], int]:
    """Products of large matrices with about as many floating point operations; and how many."""
    import torch

    a = torch.randn(2048, 2048).to(device, dtype)
    of_one = 2 * len(a) ** 3
    n_products = max(1, round(n_operations / of_one))

    def multiply() -> None:
        for _ in range(n_products):
            product = a @ a
        product[0, 0].item()  # waits for a GPU

    return multiply, n_products * of_one
