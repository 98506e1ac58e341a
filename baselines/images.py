"""Train the net of the mel CNN on the spectrogram images of the Kaggle archive, not on its audio.

    python -m baselines.images "data/GTZAN Genre Collection.zip" --split filtered

`images_original` has one PNG per track, of its whole 30 s, with or without white margins around the
plot. The net learns from random crops of 7.5 s, and averages over crops when it is scored. The
splits and metrics are those of the other models. Each run writes its report to
runs/mel-cnn-images-SPLIT/seed-N, for `python -m baselines`.
"""

import argparse
import hashlib
import io
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.special import softmax
from torch import nn
from tqdm import tqdm
from transformers import EvalPrediction, Trainer, TrainingArguments, set_seed

from baselines.comparison import IMAGES
from data_prep import splits
from data_prep.archive import Member, MemberError, open_archive
from data_prep.gtzan import (
    DESCRIPTIONS,
    GENRES,
    SPLITS,
    artists_and_titles,
    as_tracks,
    genre_of,
)
from data_prep.leakage import describe_leakage, leakage
from music_genre.errors import InputError, exit_with_message
from music_genre.evaluation.environment import hardware, versions
from music_genre.evaluation.metrics import GenreMetrics, summarize
from music_genre.evaluation.plots import plot_learning_curves
from music_genre.mel_cnn import MelCnnConfig, PictureNet
from music_genre.report import REPORT_FILE, write_report

IMAGE_NAME = re.compile(rf"({'|'.join(GENRES)})\.?(\d{{5}})", re.IGNORECASE)  # blues00000.png
WHITE = 250  # of 255; the lightest colour of a spectrogram has far less blue
HEIGHT, WIDTH = 96, 256  # of a plot; Kaggle's have 217 by 335 pixels
CROP = 64  # columns: 7.5 s
EDGE = 3  # pixels: the line of an axis is two wide and blurs into a third
MAX_PIXELS = 4_000_000  # Kaggle's have 124,416
MODEL = Path(__file__).resolve().parents[1] / "configs" / "mel-cnn"


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m baselines.images",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("archive", type=Path, help="the Kaggle zip, or a folder unpacked from it")
    parser.add_argument("--split", choices=splits.METHODS, default="filtered", help="%(default)s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run each")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--output_dir", type=Path, help="runs/mel-cnn-images-SPLIT")
    arguments = parser.parse_args(argv)
    arguments.output_dir = arguments.output_dir or Path(f"runs/mel-cnn-images-{arguments.split}")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    with exit_with_message("Stopped: no report was written."):
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    folders = {seed: arguments.output_dir / f"seed-{seed}" for seed in arguments.seeds}
    for folder in folders.values():
        if (folder / REPORT_FILE).exists():
            raise InputError(f"{folder} holds another run: choose another --output_dir.")
    plots, hashes = read_images(arguments.archive)
    gtzan = as_tracks(hashes)
    assignment = splits.assign(gtzan, arguments.split, seed=0)  # all runs on the same tracks
    parts = {name: [t for t in sorted(assignment) if assignment[t] == name] for name in SPLITS}
    for name, tracks in parts.items():
        if not tracks:
            raise InputError(
                f"The {arguments.split} split of these {len(plots)} images has no {name} track: "
                "take another --split."
            )
    print(
        f"{DESCRIPTIONS[arguments.split]}: "
        + ", ".join(f"{name} {len(tracks)}" for name, tracks in parts.items())
        + f" images.\nLeakage: {describe_leakage(leakage(assignment, gtzan))}."
    )
    for seed, folder in folders.items():
        trainer, seconds = train(plots, parts, folder, arguments.epochs, seed)
        write_results(trainer, parts, plots, folder, arguments.split, seconds)


# --- images ---------------------------------------------------------------------------------


def read_images(archive: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the plots of an archive's images, and hash each file, by track_id.

    Returns:
        The plots, float32 from 0 to 1, shape (HEIGHT, WIDTH), and the SHA-256 of the files.

    Raises:
        InputError: it is not an archive, or has no usable image of a GTZAN track.
    """
    plots, hashes, unusable = {}, {}, []
    with open_archive(archive, {".png"}) as members:
        for member in tqdm(members, desc=f"Reading {archive.name}", unit=" files"):
            match = IMAGE_NAME.fullmatch(Path(member.basename).stem)
            if match:
                track_id = f"{match[1].lower()}.{match[2]}"
                try:
                    data, plots[track_id] = _read(member)
                    hashes[track_id] = hashlib.sha256(data).hexdigest()
                except (MemberError, ImageError) as error:
                    unusable.append(f"{member.basename} ({error})")
    if unusable:
        print(f"Unusable images: {len(unusable)}, such as {', '.join(unusable[:5])}.")
    if not plots:
        raise InputError(
            f"{archive} has no images such as images_original/blues/blues00000.png: "
            "train the mel CNN on the audio (train_hf.py configs/mel-cnn.json)."
        )
    return plots, hashes


class ImageError(InputError):
    """One image that cannot be used; the message says why."""


def _read(member: Member) -> tuple[bytes, np.ndarray]:
    data = member.read()
    try:
        image = Image.open(io.BytesIO(data), formats=["PNG"])
        if image.width * image.height > MAX_PIXELS:
            raise ImageError(f"{image.width} x {image.height} pixels")
        rgba = image.convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(str(error) or type(error).__name__) from error
    paper = Image.new("RGBA", rgba.size, "white")
    plot = plot_area(np.asarray(Image.alpha_composite(paper, rgba).convert("RGB")))
    grey = Image.fromarray(plot).convert("L").resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    return data, np.asarray(grey, dtype=np.float32) / 255


def plot_area(pixels: np.ndarray) -> np.ndarray:
    """Cut off margins, ticks and axes: the plot is where most of a row or column is not white.

    Args:
        pixels: uint8, shape (height, width, 3).

    Returns:
        A part of it, less EDGE at each side.

    Raises:
        ImageError: there is no plot.
    """
    inked = (pixels < WHITE).any(axis=2)
    rows = np.flatnonzero(inked.mean(axis=1) > 0.5)
    columns = np.flatnonzero(inked.mean(axis=0) > 0.5)
    if len(rows) < 16 or len(columns) < 16:
        raise ImageError("it has no plot")
    return pixels[rows[0] + EDGE : rows[-1] + 1 - EDGE, columns[0] + EDGE : columns[-1] + 1 - EDGE]


# --- training -------------------------------------------------------------------------------


class PlotClassifier(nn.Module):
    """The mel CNN without its spectrogram.

    Input: float32, shape (batch, 1, HEIGHT, WIDTH). In training each plot is cut to a random crop;
    otherwise the logits are the mean over crops.
    """

    def __init__(self) -> None:
        super().__init__()
        config = MelCnnConfig.from_pretrained(MODEL)
        self.net = PictureNet(config.channels, config.dropout, len(GENRES))
        self.net.to(memory_format=torch.channels_last)  # a step takes two thirds of the time
        self.register_state_dict_post_hook(_make_contiguous)  # as safetensors wants them

    def forward(self, plots: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        plots = plots - plots.mean(dim=(2, 3), keepdim=True)
        if self.training:
            logits = self.net(_random_crops(plots))
        else:
            crops = plots.unfold(3, CROP, CROP // 2)  # (batch, 1, HEIGHT, crops, CROP)
            crops = crops.permute(0, 3, 1, 2, 4).flatten(0, 1)
            logits = self.net(crops).unflatten(0, (len(plots), -1)).mean(1)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def _make_contiguous(_: nn.Module, tensors: dict[str, torch.Tensor], *__: object) -> None:
    for name, tensor in tensors.items():
        tensors[name] = tensor.contiguous()


def _random_crops(plots: torch.Tensor) -> torch.Tensor:
    starts = torch.randint(plots.shape[3] - CROP + 1, (len(plots), 1), device=plots.device)
    columns = starts + torch.arange(CROP, device=plots.device)
    return plots.gather(3, columns[:, None, None].expand(-1, 1, plots.shape[2], -1))


def train(
    plots: Mapping[str, np.ndarray],
    parts: Mapping[str, list[str]],
    folder: Path,
    epochs: int,
    seed: int,
) -> tuple[Trainer, float]:
    """Train and keep the epoch with the best accuracy on validation.

    Returns:
        The Trainer, and the seconds of training.
    """
    set_seed(seed)
    trainer = Trainer(
        PlotClassifier(),
        TrainingArguments(
            str(folder),
            num_train_epochs=epochs,
            learning_rate=1e-3,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            weight_decay=0.01,
            per_device_train_batch_size=16,
            per_device_eval_batch_size=16,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="accuracy",
            logging_steps=10,
            label_names=["labels"],
            seed=seed,
            use_cpu=not torch.cuda.is_available(),
        ),
        train_dataset=_examples(plots, parts["train"]),
        eval_dataset=_examples(plots, parts["validation"]),
        compute_metrics=_compute_metrics,
    )
    start = time.monotonic()
    trainer.train()
    return trainer, time.monotonic() - start


def _examples(plots: Mapping[str, np.ndarray], tracks: list[str]) -> list[dict]:
    return [{"plots": plots[t][None], "labels": GENRES.index(genre_of(t))} for t in tracks]


def _compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    return GenreMetrics().compute(
        predictions=prediction.predictions.argmax(-1), references=prediction.label_ids
    )


def write_results(
    trainer: Trainer,
    parts: Mapping[str, list[str]],
    plots: Mapping[str, np.ndarray],
    folder: Path,
    split: str,
    seconds: float,
) -> None:
    """Write report.json and the learning curves; no model, as nothing here could serve it."""
    report = {
        "model": "configs/mel-cnn",
        "input": IMAGES,
        "from_scratch": True,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "dataset": "GTZAN",
        "is_synthetic": False,
        "split": split,
        "seed": trainer.args.seed,
        "train": {
            "seconds": round(seconds, 1),
            "epochs": trainer.args.num_train_epochs,
            "hardware": hardware(),
            "precision": "fp32",
        },
        "versions": versions(),
    }
    names = artists_and_titles()
    for name in ("validation", "test"):
        output = trainer.predict(_examples(plots, parts[name]))
        probabilities = softmax(output.predictions, axis=-1)
        artists = [names[track_id][0] if track_id in names else "" for track_id in parts[name]]
        report[name] = summarize(probabilities, output.label_ids, artists, list(GENRES))
    plot_learning_curves(folder / "learning_curves.png", trainer.state.log_history)
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    write_report(report, folder)
    test = report["test"]
    print(f"Test accuracy {test['accuracy']:.3f} (n {test['n']}). Written to {folder}.")


if __name__ == "__main__":
    main()
