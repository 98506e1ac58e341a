"""What the walk has instead of the real thing: a pretrained encoder, music, an archive."""

import io
import json
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import soundfile
import torch
from safetensors.torch import save
from transformers import HubertConfig, HubertModel

from data_prep.gtzan import GENRES, SPLITS, filtered_split
from data_prep.synthetic import synthesise
from music_genre import wav
from tests.data_prep.archives import cut_archive
from tests.hub import HubDouble

OUTSIDE = Path(__file__).with_name("outside")
RATE = 22_050  # GTZAN's
SECONDS = 6.0  # of each track: two windows
SONGS = {"jazz": "Miles/so what.mp3", "metal": "Motörhead/01.flac", "pop": "a.ogg", "rock": "b.wav"}
# config.json of ntu-spml/distilhubert at fa87d96; what it leaves out is HubertConfig's default.
DISTILHUBERT = {
    "architectures": ["HubertModel"],
    "apply_spec_augment": False,
    "feat_proj_layer_norm": False,
    "final_dropout": 0.0,
    "layerdrop": 0.0,
    "num_hidden_layers": 2,
}
NARROW = {"conv_dim": (32,) * 7, "hidden_size": 96, "intermediate_size": 384}


def distilhubert() -> dict[str, bytes]:
    """The files of ntu-spml/distilhubert, narrow and with random weights: path -> content."""
    torch.manual_seed(0)
    config = HubertConfig(**DISTILHUBERT | NARROW)
    weight_norm = "encoder.pos_conv_embed.conv."
    names = {  # older than torch's parametrizations, as in the real file
        f"{weight_norm}parametrizations.weight.original0": f"{weight_norm}weight_g",
        f"{weight_norm}parametrizations.weight.original1": f"{weight_norm}weight_v",
    }
    weights = {names.get(k, k): v for k, v in HubertModel(config).state_dict().items()}
    pickled = io.BytesIO()
    torch.save(weights, pickled)
    preprocessor = {
        "do_normalize": True,
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
        "sampling_rate": 16_000,
    }
    return {
        "README.md": b"---\nlicense: apache-2.0\nlanguage: en\n---\n\n# DistilHuBERT\n",
        "config.json": config.to_json_string().encode(),
        "preprocessor_config.json": json.dumps(preprocessor, indent=2).encode(),
        "model.safetensors": save(weights, {"format": "pt"}),
        "pytorch_model.bin": pickled.getvalue(),
    }


def song(genre: str, seed: int, seconds: float) -> np.ndarray:
    return synthesise(genre, seed, seconds, RATE)


def write_music(folder: Path) -> int:
    """A small library in several formats, with a file that is no music; returns their number."""
    for genre, name in SONGS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, song(genre, 900, 8.0), RATE)
    (folder / "letter.mp3").write_bytes(b"Dear friend, this is not music.\n" * 50)
    return len(SONGS) + 1


def write_archive(path: Path, shared: Path) -> None:
    """Three tracks a genre of the shared sample, or synthesised ones that are named as GTZAN's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    given = os.environ.get("WALK_ARCHIVE")
    if given:
        path.symlink_to(Path(given).resolve())
    elif shared.is_file():
        cut_archive(shared, path, SECONDS, lambda available: _tracks(available, n_train=1))
    else:
        _synthesise(path)


def _synthesise(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for seed, track in enumerate(_tracks(set(filtered_split()), n_train=2)):
            genre = track.split(".")[0]
            content = wav.wav_bytes(wav.to_pcm16(song(genre, seed, SECONDS)), RATE)
            archive.writestr(f"Data/genres_original/{genre}/{track}.wav", content)


def _tracks(available: set[str], n_train: int) -> list[str]:
    """Of each genre, as far as there are some: for train, and one for validation and for test."""
    counts = dict.fromkeys(SPLITS, 1) | {"train": n_train}
    chosen = []
    for genre in GENRES:
        for split, n in counts.items():
            tracks = [t for t, s in filtered_split().items() if s == split and t in available]
            chosen += sorted(t for t in tracks if t.startswith(f"{genre}."))[:n]
    return chosen


def environment(hub: HubDouble, home: Path) -> dict[str, str]:
    """Of a person who has just got the machine: a home, a token for the Hub, no cache."""
    test_prefixes = ("PYTEST_", "PIP_", "HF_", "GRADIO_")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(test_prefixes)}
    return (
        clean
        | hub.environment(home / ".cache" / "huggingface")
        | {
            "HOME": str(home),
            "PATH": os.pathsep.join([str(OUTSIDE / "bin"), os.environ["PATH"]]),
            "PYTHONPATH": str(OUTSIDE),
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "WALK_ENVIRONMENT": sys.prefix,
            "WALK_STEPS": os.environ.get("WALK_STEPS", "1"),
        }
    )
