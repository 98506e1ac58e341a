"""What several tests need: small synthesised archives, tiny nets, and the real data where it is.

Nothing here touches the network: the Hub is told to be offline.
"""

import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def real_archive() -> Path:
    """100 whole GTZAN tracks; the audio may not be published, so most checkouts lack it."""
    path = SHARED / "data" / "GTZAN Genre Collection.zip"
    if not path.is_file():
        pytest.skip(f"real GTZAN tracks are not at {path}")
    return path


@pytest.fixture(scope="session")
def real_encoder() -> Path:
    path = SHARED / "models" / "whisper-tiny.en-encoder"
    if not path.is_dir():
        pytest.skip(f"the pretrained Whisper encoder is not at {path}")
    return path


@pytest.fixture(scope="session")
def archive(tmp_path_factory) -> Path:
    """A GTZAN-shaped zip: ten genres, 6 clips of 2 s each."""
    from data_prep.synthetic import write_archive

    path = tmp_path_factory.mktemp("archive") / "small.zip"
    write_archive(path, clips_per_genre=6, seconds=2.0)
    return path


@pytest.fixture(scope="session")
def prepared(archive, tmp_path_factory) -> Path:
    """That archive as a prepared dataset: 40 clips in train, 10 each in validation and test."""
    from data_prep.prepare import prepare

    folder = tmp_path_factory.mktemp("prepared") / "dataset"
    prepare([archive], folder, split="random")
    return folder


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory) -> Path:
    """A folder with the configuration of a very small net of DistilHuBERT's shape, no weights."""
    from transformers import HubertConfig, Wav2Vec2FeatureExtractor

    folder = tmp_path_factory.mktemp("models") / "tiny-hubert"
    HubertConfig(
        conv_dim=(8,) * 7,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        classifier_proj_size=8,
        feat_extract_norm="group",
        do_stable_layer_norm=False,
        apply_spec_augment=False,
    ).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=False, do_normalize=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_classifier(tiny_config, tmp_path_factory) -> Path:
    """A saved model with random weights that hears 1 s at a time."""
    from transformers import set_seed

    from data_prep.gtzan import GENRES
    from music_genre.model import load_for_training, locate

    set_seed(0)
    model, feature_extractor = load_for_training(
        locate(str(tiny_config)), list(GENRES), window_seconds=1.0, from_scratch=True
    )
    folder = tmp_path_factory.mktemp("models") / "tiny-classifier"
    model.save_pretrained(folder)
    feature_extractor.save_pretrained(folder)
    return folder


@pytest.fixture
def tone() -> np.ndarray:
    """Three seconds of 440 Hz at 16 kHz, float32."""
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 16_000)).astype(np.float32)
