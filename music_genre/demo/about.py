"""The page's texts about its model: what is loaded, how accurate it is, and its limits."""

from pathlib import Path

from music_genre.classifier import GenreClassifier
from music_genre.report import headline_split, why_not_in_headline


def model_name(classifier: GenreClassifier) -> str:
    """Return the model's Hub id, or its folder's name: visitors read this, so no path."""
    path = Path(classifier.model_id)
    return path.resolve().name if path.is_dir() else classifier.model_id


def model_line(classifier: GenreClassifier) -> str:
    """One line that says what is loaded."""
    origin = f"revision {classifier.commit}" if classifier.commit else "from a local folder"
    return (
        f"{model_name(classifier)} ({origin}): "
        f"{classifier.model.num_parameters() / 1e6:.1f} million parameters, classifies "
        f"windows of {classifier.window_seconds:g} s"
    )


def about(classifier: GenreClassifier, report: dict | None, kept_minutes: int) -> str:
    """The About tab in Markdown: the model, its limits, and its accuracy on which data.

    kept_minutes: how long the server keeps files and recordings.
    """
    limits = (
        f"- It knows {len(classifier.labels)} genres ({', '.join(classifier.labels)}) and always "
        "chooses one of them, even for speech or noise.\n"
        "- “Sure” is the model’s own probability, not how often it is right.\n"
        f"- It processes {classifier.window_seconds:g} s at a time, so it cannot follow the form "
        "of a piece."
    )
    if classifier.is_demonstration:
        limits = (
            "**Classify real music.** It was trained on music that this project synthesised: it is "
            "a demonstration, not a music classifier."
        )
    return (
        f"## The model\n{model_line(classifier)}. The answer for a file is the mean over "
        f"windows that cover it.\n## What it cannot do\n{limits}\n"
        f"## How often it is right\n{_accuracy(report)}\n"
        "## What happens to the sound\nThis server classifies it and shows it to nobody else. "
        f"Files and recordings are deleted within {kept_minutes} minutes after their last use, and "
        "live sound within a minute, or within an hour of closing the page."
    )


def _accuracy(report: dict | None) -> str:
    """The accuracy on the headline split, as on the model card."""
    try:
        name = headline_split(report)
        if not name:
            return f"Unknown. {why_not_in_headline(report)}"
        score = report[name]
        low, high = score["accuracy_ci95"]
        return (
            f"**{score['accuracy']:.1%}** of {score['n']} {name} tracks ({low:.1%} to {high:.1%} "
            f"with 95% confidence); macro-F1, the mean of the genres' F1: {score['macro_f1']:.3f}. "
            f"The data: {report['dataset']}; the split: {report['split_description']}."
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return "Unknown: the model has no report from this project."
