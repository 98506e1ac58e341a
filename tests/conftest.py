"""Fixtures for several tests: small synthesised archives, tiny nets, and the real data if present.

Nothing here uses the network: HF_HUB_OFFLINE is set, which huggingface_hub reads when it is
imported. So each fixture imports what it needs, and this file does not.
"""

import gc
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_SERVER_PORT", "7960")  # test_readme.py uses 7860
if "PYTEST_XDIST_WORKER" in os.environ:  # other tests use the other cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import numpy as np
import pytest
from xdist.scheduler import LoadFileScheduling

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
# These files start first, and short ones fill the time until the last of them ends, because
# `--dist loadfile` hands out files in the order of collection.
LONGEST = (
    "tests/test_readme.py",
    "tests/test_app_browser.py",
    "tests/test_train_hf.py",
    "tests/test_train_resume.py",
    "tests/test_train_processes.py",
    "tests/test_notebook.py",
    "tests/music_genre/publishing/test_failed_pushes.py",
    "tests/music_genre/publishing/test_onnx.py",
    "tests/test_hostile.py",
)
# One worker runs these three files, because their fixture trains and exports a model for 12 s.
PUSHED_RUN_FILES = {
    f"tests/music_genre/publishing/{name}.py"
    for name in ("test_failed_pushes", "test_hub", "test_pulled")
}


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, as tests also wait for a browser or a second of sound."""
    return (os.cpu_count() or 1) + 1


class Scheduling(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "pushed run" if file in PUSHED_RUN_FILES else file


def pytest_xdist_make_scheduler(config: pytest.Config, log) -> Scheduling | None:
    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {ROOT / name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


def pytest_collection_finish() -> None:
    """Keep the Trainer's garbage collection from scanning all imports, which takes half a run."""
    gc.freeze()


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
    """`archive` as a prepared dataset: 40 clips in train, 10 each in validation and test."""
    from data_prep.prepare import prepare

    folder = tmp_path_factory.mktemp("prepared") / "dataset"
    prepare([archive], folder, split="random")
    return folder


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory) -> Path:
    """A folder with the configuration of a very small net of DistilHuBERT's shape, no weights."""
    from transformers import HubertConfig, Wav2Vec2FeatureExtractor

    from tests.families import SPEECH

    folder = tmp_path_factory.mktemp("models") / "tiny-hubert"
    shape = SPEECH | {"num_hidden_layers": 1, "apply_spec_augment": False}
    HubertConfig(**shape).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=False, do_normalize=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pretrained(tiny_config, tmp_path_factory) -> Path:
    """A tiny encoder of three layers with weights, like one from the Hub."""
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification

    folder = tmp_path_factory.mktemp("models") / "pretrained"
    config = AutoConfig.from_pretrained(tiny_config, num_hidden_layers=3)
    AutoModelForAudioClassification.from_config(config).save_pretrained(folder)
    AutoFeatureExtractor.from_pretrained(tiny_config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_classifier(tiny_config, tmp_path_factory) -> Path:
    """A saved model with random weights and windows of 1 s."""
    from transformers import set_seed

    from data_prep.gtzan import GENRES
    from music_genre.loading import find_model
    from music_genre.training.model import load_for_training

    set_seed(0)
    model, feature_extractor = load_for_training(
        find_model(str(tiny_config)), list(GENRES), window_seconds=1.0, from_scratch=True
    )
    folder = tmp_path_factory.mktemp("models") / "tiny-classifier"
    model.save_pretrained(folder)
    feature_extractor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def jazz_model(tmp_path_factory) -> Path:
    """A random HuBERT of a few thousand parameters that answers jazz, with a run's report."""
    import json

    import torch
    from transformers import HubertConfig, HubertForSequenceClassification, Wav2Vec2FeatureExtractor

    from data_prep.gtzan import GENRES
    from tests.families import SPEECH

    folder = tmp_path_factory.mktemp("model") / "tiny-jazz"
    torch.manual_seed(0)
    config = HubertConfig(
        **SPEECH | {"num_hidden_layers": 1},
        id2label=dict(enumerate(GENRES)),
        label2id={genre: i for i, genre in enumerate(GENRES)},
        window_seconds=5.0,
        trained_on_synthetic_music=True,
    )
    model = HubertForSequenceClassification(config)
    with torch.no_grad():
        model.classifier.bias[GENRES.index("jazz")] = 3.0  # so that it is sure of something
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(folder)
    score = {"accuracy": 0.75, "accuracy_ci95": [0.5, 0.9], "macro_f1": 0.7, "n": 50}
    score["per_genre"] = {genre: {"n": 5} for genre in GENRES}
    report = {"dataset": "GTZAN", "split": "filtered", "validation": None, "test": score}
    report["split_description"] = "fault-filtered (Kereliuk, Sturm and Larsen 2015)"
    (folder / "report.json").write_text(json.dumps(report))
    return folder


@pytest.fixture(scope="session")
def uneven_source(tmp_path_factory) -> Path:
    """A folder of music with tracks.csv in which everything differs; see uneven.py."""
    from tests import uneven

    folder = tmp_path_factory.mktemp("uneven")
    uneven.write_source(folder)
    return folder


@pytest.fixture(scope="session")
def uneven(uneven_source, tmp_path_factory) -> Path:
    """`uneven_source` as a prepared dataset, with labels that are not in alphabetical order."""
    from tests import uneven

    folder = tmp_path_factory.mktemp("prepared") / "uneven"
    uneven.prepare(uneven_source, folder)
    return folder


@pytest.fixture(scope="session")
def uneven_net(tmp_path_factory) -> Path:
    """A tiny HuBERT with `uneven`'s labels that answers differently whole, short, in one pass."""
    from tests import uneven

    folder = tmp_path_factory.mktemp("models") / "uneven-net"
    uneven.write_net(folder)
    return folder


@pytest.fixture(scope="session")
def classifier(jazz_model):
    from music_genre import GenreClassifier

    return GenreClassifier(jazz_model, device="cpu")


@pytest.fixture
def hub(tmp_path):
    from tests.hub import HubDouble

    with HubDouble(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def song(tmp_path) -> Path:
    """Twelve seconds of synthesised jazz as a WAV file."""
    from data_prep.synthetic import synthesise
    from music_genre import wav

    path = tmp_path / "song.wav"
    path.write_bytes(wav.wav_bytes(wav.to_pcm16(synthesise("jazz", 1, 12.0)), 22_050))
    return path


@pytest.fixture
def tone() -> np.ndarray:
    """Three seconds of 440 Hz at 16 kHz, float32."""
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 16_000)).astype(np.float32)
