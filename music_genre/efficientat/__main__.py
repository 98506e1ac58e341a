"""Convert the authors' weights of EfficientAT to the format of transformers.

    python -m music_genre.efficientat mn10 models/efficientat-mn10
    python -m music_genre.efficientat mn20_as_mAP_478.pt models/efficientat-mn20

The first form downloads a file of https://github.com/fschmid56/EfficientAT/releases/tag/v0.0.1 and
checks its hash. The second reads a local .pt or .safetensors file, or a folder with
model.safetensors: a model "mn.._as" of any width with the default head. No pickled code is run.
"""

import argparse
import tempfile
from http.client import HTTPException
from pathlib import Path

import torch
from safetensors.torch import load_file

from music_genre.efficientat.modeling_efficientat import (
    HEAD_CHANNELS,
    EfficientATConfig,
    EfficientATFeatureExtractor,
    EfficientATForAudioClassification,
)
from music_genre.errors import InputError, exit_with_message, first_line

RELEASE = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1"
# A file of the release -> its SHA-256, as several unrelated projects have published it.
# No hash of mn05 and mn20 is published: download them yourself.
SHA256 = {
    "mn04_as_mAP_432.pt": "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c",
    "mn10_as_mAP_471.pt": "0bd7dc2443af498c289a2e739f02ebb515d6aa3fd3ab9db539c86123ae368a4e",
}
WEIGHTS = {file.split("_")[0]: (file, sha256) for file, sha256 in SHA256.items()}
# Parts of the authors' tensor names that differ here; the other names are the same.
NAMES = {
    "features.": "efficientat.features.",
    "conc_se_layers.0.": "",
    "classifier.2.": "projector.",
    "classifier.5.": "classifier.",
}
# AudioSet's class names, in the order of its class_labels_indices.csv (CC BY 4.0, Google).
CLASS_NAMES = Path(__file__).with_name("audioset_classes.txt")
CARD = """---
license: mit
library_name: transformers
pipeline_tag: audio-classification
tags: [audioset, efficientat]
---

# EfficientAT {name}

The weights of F. Schmid, K. Koutini and G. Widmer, "Efficient Large-Scale Audio Tagging via
Transformer-to-CNN Knowledge Distillation", ICASSP 2023 (https://arxiv.org/abs/2211.04772), from
https://github.com/fschmid56/EfficientAT (MIT licence), trained on AudioSet, in transformers format.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m music_genre.efficientat",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("weights", help=f"{', '.join(WEIGHTS)}, or a file")
    parser.add_argument("output_dir", type=Path, help="a new folder for the model")
    arguments = parser.parse_args()
    with exit_with_message("Stopped: no model was written.", OSError):
        run(arguments.weights, arguments.output_dir)


def run(weights: str, output_dir: Path) -> None:
    """Write a model's folder.

    Raises:
        InputError: the weights cannot be obtained or are not those expected, or the folder is not
            empty.
    """
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise InputError(f"{output_dir} already exists: name a new folder.")
    model = convert(read_weights(weights))
    names = CLASS_NAMES.read_text(encoding="utf-8").splitlines()
    if model.config.num_labels == len(names):
        model.config.id2label = dict(enumerate(names))
        model.config.label2id = {name: i for i, name in enumerate(names)}
    model.save_pretrained(output_dir)
    EfficientATFeatureExtractor().save_pretrained(output_dir)
    (output_dir / "README.md").write_text(CARD.format(name=Path(weights).name), encoding="utf-8")
    print(f"{output_dir}: {model.num_parameters() / 1e6:.1f} million parameters.")


def read_weights(weights: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a release, a file or a folder with one, by the authors' names."""
    path = Path(weights)
    if path.is_dir():
        path /= "model.safetensors"
    try:
        if weights in WEIGHTS:
            name, sha256 = WEIGHTS[weights]
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / name
                download(f"{RELEASE}/{name}", path, sha256)
                return torch.load(path, map_location="cpu", weights_only=True)
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path} is neither a file nor one of {', '.join(WEIGHTS)}.") from error
    except InputError:
        raise
    except Exception as error:  # pickle raises its own error for anything but plain tensors
        raise InputError(
            f"{weights} holds no tensors that can be read safely: {first_line(error)}"
        ) from error


def download(url: str, path: Path, sha256: str) -> None:
    """Download a file. Raises InputError: this fails, or the file has another hash."""
    elsewhere = "get the file elsewhere, and give its path instead of the name."
    try:
        torch.hub.download_url_to_file(url, path, sha256, progress=False)
    except (OSError, HTTPException) as error:
        raise InputError(f"{url} cannot be downloaded ({error!r}): {elsewhere}") from error
    except RuntimeError as error:
        raise InputError(f"{url} is another file ({error}): try again, or {elsewhere}") from error


def convert(tensors: dict[str, torch.Tensor]) -> EfficientATForAudioClassification:
    """Build the model that these tensors belong to.

    Args:
        tensors: by the authors' names, of a model with their "mlp" head.

    Raises:
        InputError: the tensors are not those of such a model.
    """
    try:
        num_hidden, num_labels = (len(tensors[f"classifier.{i}.bias"]) for i in (2, 5))
        width = num_hidden / HEAD_CHANNELS
        config = EfficientATConfig(width_multiplier=width, num_labels=num_labels)
        model = EfficientATForAudioClassification(config)
        model.load_state_dict({own_name(name): tensor for name, tensor in tensors.items()})
    except (KeyError, TypeError, RuntimeError) as error:
        raise InputError(
            'These are not the weights of an EfficientAT "mn" with its default head: '
            f"{first_line(error)}"
        ) from error
    return model.eval()


def own_name(name: str) -> str:
    """Translate the authors' name of a tensor to its name here."""
    for theirs, ours in NAMES.items():
        name = name.replace(theirs, ours)
    return name


if __name__ == "__main__":
    main()
