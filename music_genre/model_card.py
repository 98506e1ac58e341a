"""The model card, written from report.json alone: it says what was measured and nothing else."""

from typing import TYPE_CHECKING

from data_prep.splits import DESCRIPTIONS, describe_leakage

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

TEMPLATE = """---
{{ card_data }}
---

# {{ model_name }}

{% if is_synthetic -%}
**A demonstration, no music classifier: it was trained on music that the project synthesised itself.
It answers with a genre for anything, and the answer means nothing for real music.**
{%- else -%}
Tells which of ten genres a piece of music belongs to. {{ model }} fine-tuned on {{ dataset }}.
{%- endif %}

## How good it is

{{ split_description }}. Leakage: {{ leakage_text }}.

| | clips | accuracy | 95 % interval | macro-F1 |
| --- | ---: | ---: | :---: | ---: |
{% for name in ("validation", "test") if results[name] -%}
| {{ name }} | {{ results[name].n }} | {{ "%.3f" | format(results[name].accuracy) }} | \
{{ "%.3f" | format(results[name].accuracy_ci95[0]) }} to \
{{ "%.3f" | format(results[name].accuracy_ci95[1]) }} | \
{{ "%.3f" | format(results[name].macro_f1) }} |
{% endfor %}
The best epoch was chosen on validation; test was scored once. A clip's answer is the mean over
windows of {{ "%g" | format(window_seconds) }} s that cover it; the interval is Wilson's.

{% if results.test -%}
| genre | precision | recall | F1 | clips |
| --- | ---: | ---: | ---: | ---: |
{% for genre, row in results.test.per_genre.items() -%}
| {{ genre }} | {{ "%.2f" | format(row.precision) }} | {{ "%.2f" | format(row.recall) }} | \
{{ "%.2f" | format(row.f1) }} | {{ row.n }} |
{% endfor %}
![Confusion matrix](confusion_matrix.png)
{%- endif %}

## How to use it

```python
from transformers import pipeline

classify = pipeline("audio-classification", model="{{ repo_id }}")
classify("song.mp3")  # needs the ffmpeg program; hears the whole file at once
```

With the project's code, which needs no ffmpeg, averages over windows and gives a timeline:

```python
from music_genre import GenreClassifier

prediction = GenreClassifier("{{ repo_id }}")("song.mp3")
print(prediction.genre, prediction.probabilities)
```

## What it cannot do
{% if is_synthetic %}
Anything with real music.
{% else %}
- It knows ten Western genres, on recordings from 2001 and before, and must choose one of them even
  for silence or speech.
- GTZAN has mislabelled and repeated tracks; its audio carries no licence and is not part of this
  repository.
- It was trained on clips of 30 s and hears {{ "%g" | format(window_seconds) }} s at a time: the
  form of a piece is beyond it.
{% endif %}
## How it was trained

{{ "%.1f" | format(train.epochs) }} epochs in {{ "%.1f" | format(train.seconds / 60) }} minutes on \
{{ train.hardware }} ({{ train.precision }}), seed {{ seed }}: \
{{ "%.0f" | format(train.audio_seconds_per_second) }} seconds of audio a second.
{{ version_list }}. All figures are in `report.json`, the answer for every test clip in
`predictions.csv`.

![Learning curves](learning_curves.png)
"""


def model_card(report: dict, repo_id: str) -> "ModelCard":
    """Build the card, with a model-index, from the content of report.json.

    Args:
        repo_id: what a user writes to load the model: an id on the Hub, or a folder.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    name = repo_id.rstrip("/").split("/")[-1]
    results = {split: report.get(split) for split in ("validation", "test")}
    data = ModelCardData(
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="audio-classification",
        tags=["music", "music-genre", "gtzan"],
        base_model=report["base_model"],
        model_name=name,
        metrics=["accuracy", "f1"],
        eval_results=[
            EvalResult(
                task_type="audio-classification",
                dataset_type="synthetic" if report["is_synthetic"] else "gtzan",
                dataset_name=f"{report['dataset']}, {report['split']} split",
                dataset_config=report["split"],
                dataset_split=split,
                metric_type=metric_type,
                metric_name=metric_name,
                metric_value=round(results[split][key], 4),
            )
            for split in results
            if results[split]
            for metric_type, metric_name, key in (
                ("accuracy", "accuracy", "accuracy"),
                ("f1", "macro F1", "macro_f1"),
            )
        ],
    )
    return ModelCard.from_template(
        data,
        template_str=TEMPLATE,
        **report
        | {
            "model_name": name,
            "repo_id": repo_id,
            "results": results,
            "version_list": ", ".join(f"{name} {v}" for name, v in report["versions"].items()),
            "split_description": DESCRIPTIONS.get(report["split"], report["split"]).capitalize(),
            "leakage_text": describe_leakage(report["leakage"])
            if report["leakage"]
            else "unknown, the dataset does not say who plays what",
        },
    )
