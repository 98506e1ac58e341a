"""The model card, written from report.json alone: it states what was measured and nothing else.

Its text is the template card.md, in Jinja.
"""

from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from music_genre.publishing.quantized import describe
from music_genre.report import PREDICTIONS_FILES, gap_in, headline_split, split_in_pictures

# A copy of the project puts its own address here and elsewhere; CONTRIBUTING.md says how.
REPOSITORY = "https://github.com/you/music-genre"
TEMPLATE = Path(__file__).with_name("card.md")
GTZAN_ON_THE_HUB = "marsyas/gtzan"
SPEECH_MODELS = ("hubert", "wav2vec2", "wavlm", "whisper")
EXAMPLE_FILE = "example.ogg"
OWN_LICENSE = "apache-2.0"  # of weights that come from no other model


def model_card(report: dict, repo_id: str, base_license: dict[str, str] | None = None) -> ModelCard:
    """Build the card, with a model-index, from the content of report.json.

    Args:
        repo_id: what a user writes to load the model: an id on the Hub, or a folder.
        base_license: `license`, and where the base model's card has them `license_name` and
            `license_link`; None if they are unknown.
    """
    name = repo_id.rstrip("/").split("/")[-1]
    is_new = report["from_scratch"]
    is_gtzan = report["dataset"] in ("GTZAN", GTZAN_ON_THE_HUB)
    results, onnx = _eval_results(report), report.get("onnx")
    license_fields = {"license": OWN_LICENSE} if is_new else base_license or {}
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="audio-classification",
        tags=["music", "music-genre"]
        + (["gtzan"] if is_gtzan else [])
        + (["onnx"] if onnx else [])
        + (["transformers.js"] if onnx and onnx["transformers_js"] else []),
        base_model=None if is_new else report["base_model"],
        base_model_relation=None if is_new else "finetune",
        datasets=[GTZAN_ON_THE_HUB] if is_gtzan else None,
        model_name=name if results else None,
        metrics=["accuracy", "f1"],
        eval_results=results or None,
        widget=None
        if report["is_synthetic"]
        else [{"src": EXAMPLE_FILE, "example_title": "Jazz, synthesised by the project"}],
        **license_fields,
    )
    values = _values(report) | {
        "model_name": name,
        "repo_id": repo_id,
        "repository": None if "/you/" in REPOSITORY else REPOSITORY,
        "is_gtzan": is_gtzan,
        "license": license_fields.get("license"),
    }
    return ModelCard.from_template(data, template_path=str(TEMPLATE), **report | values)


def _values(report: dict) -> dict:
    """What the template needs besides the report itself."""
    results = {split: report.get(split) for split in ("validation", "test")}
    headline, shown_name = headline_split(report), split_in_pictures(report)
    shown, is_new = results[shown_name], report["from_scratch"]
    passed_over = ("test", "validation") if not headline else ("test",)
    one_pass = shown.get("one_pass")
    is_linear_probe = (report["train"].get("linear_probe") or {}).get("is_kept", False)
    way = "with a linear probe" if is_linear_probe else "fine-tuned"
    return {
        "results": results,
        "headline": headline,
        "is_linear_probe": is_linear_probe,
        "gaps": [gap for name in passed_over if (gap := gap_in(report, name))],
        "shown_name": shown_name,
        "shown": shown,
        "genres": list(shown["per_genre"]),
        "onnx": report.get("onnx"),
        "quantized_text": describe(report["onnx"]["quantized"]) if report.get("onnx") else None,
        "origin": f"{report['model']}, {'trained from random weights' if is_new else way}",
        "speech": not is_new and any(n in report["model"].lower() for n in SPEECH_MODELS),
        "version_list": _pairs(report["versions"]),
        "recipe_list": _pairs(report["train"].get("recipe", {})),
        "predictions_files": " and ".join(
            f"`{PREDICTIONS_FILES[name]}`" for name in ("validation", "test") if results[name]
        ),
        "split_name": "its own split"
        if report["split"] == "its own"
        else f"the {report['split']} split",
        "leakage_text": report["leakage_description"]
        or "unknown, the dataset does not name the artists",
        "window_seconds_text": f"{report['window_seconds']:g}",
        "window_samples": int(report["window_seconds"] * 16_000),
        "windows_first": not one_pass or shown["accuracy"] > one_pass["accuracy"],
        "one_pass_part": _part_in_one_pass(report),
        "comparison": _comparison(report, shown_name),
    }


def _part_in_one_pass(report: dict) -> str:
    seconds = report.get("one_pass_seconds")
    return f"only the first {seconds:g} s of the file," if seconds else "the whole file"


def _comparison(report: dict, name: str) -> str:
    """What windows and one pass reach, and why they differ."""
    score, seconds = report[name], report["window_seconds"]
    if not score.get("one_pass"):
        return "A plain `pipeline` was not measured."
    reason = (
        "Its input has a fixed length, and the rest of the file is not used."
        if report.get("one_pass_seconds")
        else f"It was trained on windows of {seconds:g} s, and a whole file is longer."
    )
    return (
        f"On the {score['n']} {name} clips, windows reach an accuracy of {score['accuracy']:.3f}, "
        f"a plain `pipeline` {score['one_pass']['accuracy']:.3f}. {reason}"
    )


def _pairs(values: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _eval_results(report: dict) -> list[EvalResult]:
    """The model-index: accuracy and macro-F1 of every split that is fit to stand for the model."""
    if report["is_synthetic"]:
        dataset_type = "synthetic"
    else:
        dataset_type = GTZAN_ON_THE_HUB if report["dataset"] == "GTZAN" else report["dataset"]
    entries = []
    for split in ("validation", "test"):
        scores = report.get(split)
        if not scores or gap_in(report, split):
            continue
        low, high = scores["accuracy_ci95"]
        for metric_type, metric_name, value in (
            ("accuracy", f"accuracy (95 % interval {low:.3f} to {high:.3f})", scores["accuracy"]),
            ("f1", "macro F1", scores["macro_f1"]),
        ):
            entries.append(
                EvalResult(
                    task_type="audio-classification",
                    dataset_type=dataset_type,
                    dataset_name=f"{report['dataset']}, {report['split']} split",
                    dataset_config=report["split"],
                    dataset_split=split,
                    metric_type=metric_type,
                    metric_name=metric_name,
                    metric_value=round(value, 4),
                )
            )
    return entries
