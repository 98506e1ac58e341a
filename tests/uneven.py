"""Music, a dataset and a net in which everything differs, so that a mistake changes a result.

Genres have different numbers of tracks, and labels are not in alphabetical order. Artists have
different numbers of tracks; some are unknown, one is "Various Artists", and all of ambient's also
play another genre. Songs are cut into several excerpts, and every split has an odd number of clips.
One test track has its artist in train, another only in validation. Two files of different artists
have equal samples. Each part of a track sounds different to the net: tracks get different answers
whole, from their middle only, in one pass and from their first excerpt.

The fixtures `uneven_source`, `uneven` and `uneven_net` in conftest.py use this module.
"""

import csv
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from datasets import Audio, load_from_disk
from transformers import (
    HubertConfig,
    HubertForSequenceClassification,
    Wav2Vec2FeatureExtractor,
)

import data_prep.__main__
from tests.commands import run_here

LABELS = ("techno", "ambient", "swing")
WINDOW_SECONDS = 1.0
SAMPLING_RATE = 11_025  # hertz, of the files; no model uses it
SONG_SECONDS = 63.0  # data_prep cuts files of more than a minute into excerpts
EXCERPTS, EXCERPT_SECONDS = 3, 3.5
PREPARE = (
    "--split", "given", "--min_tracks", 1,
    "--clips_per_track", EXCERPTS, "--clip_seconds", EXCERPT_SECONDS,
)  # fmt: skip


class File(NamedTuple):
    split: str
    genre: str
    name: str
    artist: str
    seconds: float


FILES = (
    File("train", "techno", "t1", "Ada", 2.9),
    File("train", "techno", "t2", "Ada", 3.3),
    File("train", "techno", "t3", "Ada", 2.4),
    File("train", "techno", "t4", "Various Artists", 3.1),
    File("train", "techno", "t5", "Bo", 2.7),
    File("train", "ambient", "a1", "Ada", 3.6),
    File("train", "ambient", "a2", "Bo", 2.6),
    File("train", "swing", "s1", "Dora", 3.2),
    File("train", "swing", "s2", "Dora", SONG_SECONDS),
    File("train", "swing", "s3", "", 2.5),
    File("train", "swing", "s4", "Various Artists", 3.4),
    File("validation", "techno", "t6", "Cy", 3.7),
    File("validation", "techno", "t7", "Various Artists", 2.8),
    File("validation", "swing", "s5", "Eve", SONG_SECONDS),
    File("validation", "swing", "s6", "Eve", 2.3),
    File("validation", "swing", "s7", "", 3.0),
    File("test", "techno", "t8", "Cy", SONG_SECONDS),
    File("test", "techno", "t9", "Ada", 3.8),
    File("test", "ambient", "a3", "Bo", 2.6),
    File("test", "swing", "s8", "Fay", SONG_SECONDS),
    File("test", "swing", "s9", "Fay", 2.9),
    File("test", "swing", "s10", "Fay", 3.5),
    File("test", "swing", "s11", "", 2.7),
)
TWIN, TWIN_OF = File("train", "swing", "s12", "Gus", 3.2), "s1"  # equal samples; data_prep drops it


def write_source(folder: Path) -> None:
    """Write music files and the table that describes them, as a user would have them."""
    for number, file in enumerate(FILES):
        soundfile.write(folder / f"{file.name}.wav", music(number, file.seconds), SAMPLING_RATE)
    shutil.copy(folder / f"{TWIN_OF}.wav", folder / f"{TWIN.name}.wav")
    with (folder / "tracks.csv").open("w", encoding="utf-8", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(["path", "genre", "artist", "split"])
        writer.writerows([f"{f.name}.wav", f.genre, f.artist, f.split] for f in (*FILES, TWIN))


def music(number: int, seconds: float) -> np.ndarray:
    """Chords of notes that change every 0.3 to 1.3 s; float32, shape (samples,)."""
    rng = np.random.default_rng(number)
    parts, n_samples = [], round(seconds * SAMPLING_RATE)
    while sum(map(len, parts)) < n_samples:
        time = np.arange(round(rng.uniform(0.3, 1.3) * SAMPLING_RATE)) / SAMPLING_RATE
        notes = 110 * 2 ** (rng.integers(0, 60, 3) / 12)
        chord = np.sin(2 * np.pi * notes[:, None] * time).sum(0) * np.exp(-time * rng.uniform(0, 6))
        noise = rng.uniform(0.01, 0.4) * rng.standard_normal(len(time))
        parts.append(rng.uniform(0.05, 0.2) * (chord + noise))
    return np.concatenate(parts)[:n_samples].astype(np.float32)


def run_data_prep(*arguments: object) -> str:
    """Run `python -m data_prep`, which must succeed, and return what it prints."""
    done = run_here(data_prep.__main__.main, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def prepare(source: Path, folder: Path) -> None:
    """Prepare it with data_prep's own command, and put its labels in the order of LABELS."""
    run_data_prep(source / "tracks.csv", "--output_dir", folder, *PREPARE)
    dataset = load_from_disk(folder)
    audio = dataset["train"].features["audio"]
    label2id = {label: i for i, label in enumerate(LABELS)}
    for name, split in dataset.items():
        split = split.cast_column("audio", Audio(decode=False))
        split = split.align_labels_with_mapping(label2id, "genre")
        split.cast_column("audio", audio).save_to_disk(folder / f"{name}-aligned")
    for name in dataset:
        shutil.rmtree(folder / name)
        (folder / f"{name}-aligned").rename(folder / name)
    preparation = json.loads((folder / "preparation.json").read_text())
    (folder / "preparation.json").write_text(json.dumps(preparation | {"genres": list(LABELS)}))


def write_net(folder: Path, seed: int = 8) -> None:
    """Write a HuBERT with random weights; its head is scaled so that music changes its answers."""
    config = HubertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        conv_dim=(8,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
        classifier_proj_size=8, layerdrop=0.0, apply_spec_augment=False, initializer_range=0.3,
        label2id={label: i for i, label in enumerate(LABELS)}, id2label=dict(enumerate(LABELS)),
        window_seconds=WINDOW_SECONDS,
    )  # fmt: skip
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = HubertForSequenceClassification(config).eval()
    feature_extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False)
    examples = [music(1000 + i, 1.5)[:16_000] for i in range(40)]
    inputs = feature_extractor(examples, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
        scale = 2 / logits.std(0)
        model.classifier.weight *= scale[:, None]
        model.classifier.bias[:] = (model.classifier.bias - logits.mean(0)) * scale
    model.save_pretrained(folder)
    feature_extractor.save_pretrained(folder)
