"""Train the mel CNN's net on the spectrogram images of the Kaggle archive, not on its audio.

    python -m baselines.images "data/GTZAN Genre Collection.zip" --split filtered

`images_original` has one PNG a track, of its whole 30 s, with white margins around the plot. Splits
and metrics are those of the other models; the report is left in runs/mel-cnn-images-SPLIT.
"""

import argparse
import hashlib
import io
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep import splits
from data_prep.archive import Member, MemberError, open_archive
from data_prep.gtzan import GENRES, SPLITS
from music_genre.errors import InputError, exit_with_message
from music_genre.report import REPORT_FILE, write_report

if TYPE_CHECKING:
    import torch
    from torch import nn

IMAGE_NAME = re.compile(rf"({'|'.join(GENRES)})\.?(\d{{5}})", re.IGNORECASE)  # blues00000.png
WHITE = 250  # of 255; the lightest colour of a spectrogram has far less blue
HEIGHT, WIDTH = 96, 256  # of what the net sees; Kaggle's plots have 217 by 335 pixels
EDGE = 3  # pixels: an axis' own line is two wide and blurs into a third
MAX_PIXELS = 4_000_000  # Kaggle's have 124,416
MODEL = "configs/mel-cnn"


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m baselines.images",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("archive", type=Path, help="the Kaggle zip, or a folder unpacked from it")
    parser.add_argument("--split", choices=splits.METHODS, default="filtered", help="%(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--output_dir", type=Path, help="runs/mel-cnn-images-SPLIT")
    arguments = parser.parse_args(argv)
    arguments.output_dir = arguments.output_dir or Path(f"runs/mel-cnn-images-{arguments.split}")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    with exit_with_message("Stopped: no report was written."):
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    if (arguments.output_dir / REPORT_FILE).exists():
        raise InputError(f"{arguments.output_dir} holds another run: choose another --output_dir.")
    pictures, hashes = read_images(arguments.archive)
    assignment = splits.assign(hashes, arguments.split, arguments.seed)
    parts = {name: [t for t in sorted(assignment) if assignment[t] == name] for name in SPLITS}
    for name, tracks in parts.items():
        if not tracks:
            raise InputError(
                f"The {arguments.split} split of these {len(pictures)} images has no {name} track: "
                "take another --split."
            )
    print(
        f"{splits.DESCRIPTIONS[arguments.split]}: "
        + ", ".join(f"{name} {len(tracks)}" for name, tracks in parts.items())
        + f" images.\nLeakage: {splits.describe_leakage(splits.leakage(assignment, hashes))}."
    )
    trainer, seconds = train(pictures, parts, arguments)
    write_results(trainer, parts, pictures, arguments, seconds)


# --- images ---------------------------------------------------------------------------------


def read_images(archive: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The plots of an archive's images, and a hash of each file, by track_id.

    Raises:
        InputError: the archive is none, or has no image of a GTZAN track that can be used.
    """
    from tqdm import tqdm

    pictures, hashes, unusable = {}, {}, []
    with open_archive(archive, {".png"}) as members:
        for member in tqdm(members, desc=f"Reading {archive.name}", unit=" files"):
            match = IMAGE_NAME.fullmatch(Path(member.basename).stem)
            if match:
                track_id = f"{match[1].lower()}.{match[2]}"
                try:
                    data, pictures[track_id] = _read(member)
                    hashes[track_id] = hashlib.sha256(data).hexdigest()
                except (MemberError, ImageError) as error:
                    unusable.append(f"{member.basename} ({error})")
    if unusable:
        print(f"{len(unusable)} images cannot be used: {', '.join(unusable[:5])}.")
    if not pictures:
        raise InputError(
            f"{archive} has no images such as images_original/blues/blues00000.png: "
            "train the mel CNN on the audio (train_hf.py configs/mel-cnn.json)."
        )
    return pictures, hashes


class ImageError(InputError):
    """One image that cannot be used; the message says why."""


def _read(member: Member) -> tuple[bytes, np.ndarray]:
    from PIL import Image

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
    """Cut margins, ticks and axes off: where most of a line isn't white, there the plot is.

    Args:
        pixels: uint8, shape (height, width, 3).

    Returns:
        A part of it, less EDGE at each side.

    Raises:
        ImageError: there is no plot on it.
    """
    inked = (pixels < WHITE).any(axis=2)
    rows = np.flatnonzero(inked.mean(axis=1) > 0.5)
    columns = np.flatnonzero(inked.mean(axis=0) > 0.5)
    if len(rows) < 16 or len(columns) < 16:
        raise ImageError("no plot on it")
    return pixels[rows[0] + EDGE : rows[-1] + 1 - EDGE, columns[0] + EDGE : columns[-1] + 1 - EDGE]


# --- training -------------------------------------------------------------------------------


def _classifier(config: Any) -> "nn.Module":
    from torch import nn

    from music_genre.mel_cnn import PictureNet

    class PictureClassifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = PictureNet(config.channels, config.dropout, len(GENRES))

        def forward(self, pictures: "torch.Tensor", labels: "torch.Tensor") -> dict:
            logits = self.net(pictures)
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    return PictureClassifier()


def train(
    pictures: Mapping[str, np.ndarray], parts: Mapping[str, list[str]], arguments: Any
) -> tuple[Any, float]:
    """Train, keep the epoch that is best in validation, and tell the seconds that it took."""
    import torch
    from transformers import AutoConfig, Trainer, TrainingArguments, set_seed

    import music_genre.mel_cnn  # noqa: F401  a model type of our own

    root = Path(__file__).resolve().parents[1]
    set_seed(arguments.seed)
    trainer = Trainer(
        _classifier(AutoConfig.from_pretrained(root / MODEL)),
        TrainingArguments(
            str(arguments.output_dir),
            num_train_epochs=arguments.epochs,
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
            seed=arguments.seed,
            use_cpu=not torch.cuda.is_available(),
        ),
        train_dataset=_examples(pictures, parts["train"]),
        eval_dataset=_examples(pictures, parts["validation"]),
        compute_metrics=_compute_metrics,
    )
    start = time.monotonic()
    trainer.train()
    return trainer, time.monotonic() - start


def _examples(pictures: Mapping[str, np.ndarray], tracks: list[str]) -> list[dict[str, Any]]:
    return [
        {"pictures": pictures[t][None], "labels": GENRES.index(splits.genre_of(t))} for t in tracks
    ]


def _compute_metrics(prediction: Any) -> dict[str, float]:
    from music_genre.evaluation.metrics import GenreMetrics

    return GenreMetrics().compute(
        predictions=prediction.predictions.argmax(-1), references=prediction.label_ids
    )


def write_results(
    trainer: Any,
    parts: Mapping[str, list[str]],
    pictures: Mapping[str, np.ndarray],
    arguments: Any,
    seconds: float,
) -> None:
    """Leave report.json and the learning curves, and no model: nothing here could hear with it."""
    from scipy.special import softmax

    from music_genre.evaluation import plots
    from music_genre.evaluation.environment import hardware, versions
    from music_genre.evaluation.metrics import summarize

    folder = arguments.output_dir
    report = {
        "model": MODEL,
        "input": "images_original",
        "from_scratch": True,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "dataset": "GTZAN",
        "is_synthetic": False,
        "split": arguments.split,
        "seed": arguments.seed,
        "train": {
            "seconds": round(seconds, 1),
            "epochs": arguments.epochs,
            "hardware": hardware(),
            "precision": "fp32",
        },
        "versions": versions(),
    }
    for name in ("validation", "test"):
        output = trainer.predict(_examples(pictures, parts[name]))
        probabilities = softmax(output.predictions, axis=-1)
        report[name] = summarize(probabilities, output.label_ids, list(GENRES))
    plots.plot_learning_curves(folder / "learning_curves.png", trainer.state.log_history)
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    write_report(report, folder)
    print(f"Test accuracy {report['test']['accuracy']:.3f} (n {report['test']['n']}). In {folder}.")


if __name__ == "__main__":
    main()
