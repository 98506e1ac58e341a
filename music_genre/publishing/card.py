"""The model card, written from report.json alone: it states what was measured and nothing else.

Its text is in card.md, a Jinja template.
"""

import math
import re
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from music_genre.report import (
    PREDICTIONS_FILES,
    gap_in,
    headline_split,
    split_in_pictures,
    why_not_in_headline,
)

# A copy of the project puts its own address here and elsewhere; see CONTRIBUTING.md.
REPOSITORY = "https://github.com/you/music-genre"
TEMPLATE = Path(__file__).with_name("card.md")
GTZAN_ON_THE_HUB = "marsyas/gtzan"
# Parts of the names of models that were pretrained on speech.
SPEECH_NAMES = ("hubert", "wav2vec2", "wavlm", "whisper")
EXAMPLE_FILE = "example.ogg"
OWN_LICENSE = "apache-2.0"  # for weights that do not come from another model
# Model types that transformers lacks, and the file in the repository that holds their code.
CUSTOM_CODE = {"efficientat": "modeling_efficientat.py"}
# Model types whose pretrained weights all come from one place: their licence and origin.
PRETRAINED = {
    "efficientat": (
        "mit",
        "The weights that training started from are those of EfficientAT (F. Schmid, K. Koutini "
        "and G. Widmer, ICASSP 2023, https://github.com/fschmid56/EfficientAT, MIT licence), "
        "which were trained on AudioSet.",
    )
}


def is_gtzan(report: dict[str, Any]) -> bool:
    return report["dataset"] in ("GTZAN", GTZAN_ON_THE_HUB)


def model_card(report: dict, repo_id: str, base_license: dict[str, str] | None = None) -> ModelCard:
    """Build the card, with a model-index, from the content of report.json.

    Args:
        repo_id: what a user writes to load the model: an id on the Hub, or a folder.
        base_license: `license`, plus `license_name` and `license_link` if the base model's card
            has them; None if unknown.

    Raises:
        KeyError, TypeError or ValueError: the report is not one that train_hf.py wrote.
    """
    name = repo_id.rstrip("/").split("/")[-1]
    is_new, results, onnx = report["from_scratch"], _eval_results(report), report.get("onnx")
    license_fields = base_license or {}
    known_license, origin_of_weights = PRETRAINED.get(report.get("model_type"), (None, None))
    if is_new:
        license_fields, origin_of_weights = {"license": OWN_LICENSE}, None
    elif known_license:
        license_fields = {"license": known_license}
    has_widget = not report["is_synthetic"] and report.get("model_type") not in CUSTOM_CODE
    tags = {
        "gtzan": is_gtzan(report),
        "onnx": onnx,
        "transformers.js": onnx and onnx["transformers_js"],
    }
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="audio-classification",
        tags=["music", "music-genre", *(tag for tag, is_true in tags.items() if is_true)],
        base_model=None if is_new else report["base_model"],
        base_model_relation=None if is_new else "finetune",
        datasets=[GTZAN_ON_THE_HUB] if is_gtzan(report) else None,
        model_name=name if results else None,
        metrics=["accuracy", "f1"],
        eval_results=results or None,
        widget=[{"src": EXAMPLE_FILE, "example_title": "Jazz, synthesised by the project"}]
        if has_widget
        else None,
        **license_fields,
    )
    values = _values(report) | {
        "model_name": plain(name),
        "repo_id": repo_id,
        "repository": None if "/you/" in REPOSITORY else REPOSITORY,
        "is_gtzan": is_gtzan(report),
        "license": license_fields.get("license"),
        "origin_of_weights": origin_of_weights,
    }
    return ModelCard.from_template(data, template_path=str(TEMPLATE), **report | values)


def plain(name: str) -> str:
    """Return a user-chosen name as one line that Markdown and HTML show literally."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", " ".join(name.split()))


def _values(report: dict) -> dict:
    """Return the values that the template needs besides the report itself."""
    shown_name = split_in_pictures(report)
    results = {split: _result(report[split]) for split in ("validation", "test") if report[split]}
    shown, is_new = results[shown_name], report["from_scratch"]
    rate = report["sampling_rate"]
    model, probe = plain(report["model"]), report["train"].get("linear_probe")
    is_linear_probe = bool(probe and probe["is_kept"])
    way = "with a linear probe" if is_linear_probe else "fine-tuned"
    one_pass_seconds = report.get("one_pass_seconds")
    return {
        "model": model,
        "dataset": plain(report["dataset"]),
        "split_description": plain(report["split_description"]),
        "results": results,
        "headline": headline_split(report),
        "no_headline": why_not_in_headline(report),
        "is_linear_probe": is_linear_probe,
        "shown_name": shown_name,
        "shown": shown,
        "onnx": report.get("onnx"),
        "origin": f"{model}, {'trained from random weights' if is_new else way}",
        "is_speech": not is_new and any(n in model.lower() for n in SPEECH_NAMES),
        "version_list": _pairs(report["versions"]),
        "recipe_list": _pairs(report["train"].get("recipe", {})),
        # These files name files and artists, which stay private for the user's own music.
        "predictions_files": [PREDICTIONS_FILES[name] for name in results]
        if is_gtzan(report)
        else [],
        "split_name": "its own split"
        if report["split"] == "given"
        else f"the {report['split']} split",
        "leakage_text": report["leakage_description"]
        or "unknown, the dataset does not name the artists",
        "window_seconds_text": f"{report['window_seconds']:g}",
        "window_samples": int(report["window_seconds"] * rate),
        "sampling_rate": rate,
        "one_pass_part": f"only the first {one_pass_seconds:g} s of a file"
        if one_pass_seconds
        else "a whole file in one pass, longer than in training",
        "custom_code": CUSTOM_CODE.get(report.get("model_type")),
    }


def _result(score: dict) -> dict:
    """Return a split's scores, with names and intervals as text."""
    interval = score["accuracy_ci95"]
    is_known = interval and all(map(math.isfinite, interval))
    return score | {
        "interval": f"{interval[0]:.3f} to {interval[1]:.3f}" if is_known else "unknown",
        "per_genre": {plain(genre): row for genre, row in score["per_genre"].items()},
    }


def _pairs(values: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _eval_results(report: dict) -> list[EvalResult]:
    """Return the model-index: accuracy and macro-F1 of every split that represents the model."""
    if report["is_synthetic"]:
        dataset_type = "synthetic"
    else:
        dataset_type = GTZAN_ON_THE_HUB if report["dataset"] == "GTZAN" else report["dataset"]
    shown = ("validation", "test") if headline_split(report) else ()
    return [
        EvalResult(
            task_type="audio-classification",
            dataset_type=dataset_type,
            dataset_name=f"{report['dataset']}, {report['split']} split",
            dataset_config=report["split"],
            dataset_split=split,
            metric_type=metric_type,
            metric_name=name.format(_result(report[split])["interval"]),
            metric_value=round(report[split][key], 4),
        )
        for split in shown
        if not gap_in(report, split)
        for metric_type, name, key in (
            ("accuracy", "accuracy (95 % interval {})", "accuracy"),
            ("f1", "macro F1", "macro_f1"),
        )
    ]
