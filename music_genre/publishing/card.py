"""The model card, written from report.json alone: it says what was measured and nothing else."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

GTZAN_ON_THE_HUB = "marsyas/gtzan"
SPEECH_MODELS = ("hubert", "wav2vec2", "wavlm", "whisper")
EXAMPLE_FILE = "example.ogg"

TEMPLATE = """---
{{ card_data }}
---

# {{ model_name }}

{% if is_synthetic -%}
**A demonstration, no music classifier: it was trained on music that the project synthesised itself.
It answers with a genre for anything, and the answer means nothing for real music.**
{%- else -%}
Tells which of {{ genres | length }} genres a piece of music belongs to: {{ genres | join(", ") }}.
It is {{ origin }} on {{ dataset }}. On the {{ best.n }} {{ best_name }} clips of {{ split_name }} \
its accuracy is **{{ "%.3f" | format(best.accuracy) }}** \
(95 % interval {{ "%.3f" | format(best.accuracy_ci95[0]) }} to \
{{ "%.3f" | format(best.accuracy_ci95[1]) }}).
{%- endif %}

## How good it is

{{ split_description[0] | upper }}{{ split_description[1:] }}. Leakage: {{ leakage_text }}.

| | clips | accuracy | 95 % interval | macro-F1 | \
heard for {{ "%g" | format(best.short.seconds) }} s only |
| --- | ---: | ---: | :---: | ---: | ---: |
{% for name in ("validation", "test") if results[name] -%}
| {{ name }} | {{ results[name].n }} | {{ "%.3f" | format(results[name].accuracy) }} | \
{{ "%.3f" | format(results[name].accuracy_ci95[0]) }} to \
{{ "%.3f" | format(results[name].accuracy_ci95[1]) }} | \
{{ "%.3f" | format(results[name].macro_f1) }} | \
{{ "%.3f" | format(results[name].short.accuracy) }} |
{% endfor %}
The best epoch was chosen on validation{{ "; test was scored once" if results.test }}. \
{% if train.linear_probe and train.linear_probe.is_kept -%}
No epoch was better than the linear probe on the frozen encoder, so this model is that probe. \
{% endif -%}
A clip's \
answer is the mean over windows of {{ "%g" | format(window_seconds) }} s that cover it; the \
interval is by bootstrap over tracks.

By genre, on {{ best_name }}:

| genre | precision | recall | F1 | clips |
| --- | ---: | ---: | ---: | ---: |
{% for genre, row in best.per_genre.items() -%}
| {{ genre }} | {{ "%.2f" | format(row.precision) }} | {{ "%.2f" | format(row.recall) }} | \
{{ "%.2f" | format(row.f1) }} | {{ row.n }} |
{% endfor %}
![Confusion matrix](confusion_matrix.png)

## How to use it

With transformers, which hears the whole file at once:

```python
import soundfile
from transformers import pipeline

waveform, sampling_rate = soundfile.read("song.wav", dtype="float32", always_2d=True)
classify = pipeline("audio-classification", model="{{ repo_id }}")
print(classify({"raw": waveform.mean(axis=1), "sampling_rate": sampling_rate}))
```

With the code of the project that trained it, which hears it as it was measured, takes MP3 and most
else, and answers over time as well:

```python
from music_genre import GenreClassifier

prediction = GenreClassifier("{{ repo_id }}")("song.wav")
print(prediction.genre, prediction.probabilities, prediction.timeline)
```
{% if onnx %}
With ONNX Runtime, without PyTorch (the logits are within \
{{ "%.0e" | format(onnx.max_difference) }} of PyTorch's; transformers.js takes the same file):

```python
import onnxruntime
import soundfile
from huggingface_hub import hf_hub_download
from transformers import AutoConfig, AutoFeatureExtractor

waveform, sampling_rate = soundfile.read("song.wav", dtype="float32")  # mono, 16 kHz
extract = AutoFeatureExtractor.from_pretrained("{{ repo_id }}")
features = extract(waveform, sampling_rate=sampling_rate, return_tensors="np")
session = onnxruntime.InferenceSession(hf_hub_download("{{ repo_id }}", "onnx/model.onnx"))
(logits,) = session.run(["logits"], dict(features))
print(AutoConfig.from_pretrained("{{ repo_id }}").id2label[int(logits[0].argmax())])
```
{% endif %}
## What it cannot do
{% if is_synthetic %}
Anything with real music.
{% else %}
- It names one of these genres whatever it hears: silence, speech, a genre it has never met.
{%- if is_gtzan %}
- GTZAN was collected in 2000 and 2001: ten Western genres, and nothing made since.
- GTZAN has mislabelled and repeated tracks. The licence of its audio is unknown, and none of it is
  in this repository.
- It was trained on clips of 30 s: the form of a piece is beyond it.
{%- endif %}
- It hears {{ "%g" | format(window_seconds) }} s at a time and forgets what came before.
{%- if speech %}
- {{ model }} was pretrained on speech: what music has and speech has not, it met in these clips \
only.
{%- endif %}
- How sure it says it is differs from how often it is right by {{ "%.2f" | format(best.ece) }} on \
average ({{ best_name }}, expected calibration error; its temperature was fitted on validation). \
On other music than this it may well be surer than it should.

![How sure against how often right](reliability.png)
{% endif %}
## How it was trained

{{ "%.1f" | format(train.epochs) }} epochs ({{ train.steps }} steps) in \
{{ "%.1f" | format(train.seconds / 60) }} minutes on {{ train.hardware }} ({{ train.precision }}), \
seed {{ seed }}: {{ "%.0f" | format(train.audio_seconds_per_second) }} seconds of audio a second.
{%- if train.recipe %}
Recipe: {{ recipe_list }}.
{%- endif %}
{{ version_list }}. All figures are in `report.json`, the answer for every {{ best_name }} clip in
`predictions.csv`.

![Learning curves](learning_curves.png)
"""


def model_card(report: dict, repo_id: str) -> "ModelCard":
    """Build the card, with a model-index, from the content of report.json.

    Args:
        repo_id: what a user writes to load the model: an id on the Hub, or a folder.
    """
    from huggingface_hub import ModelCard, ModelCardData

    name = repo_id.rstrip("/").split("/")[-1]
    results = {split: report.get(split) for split in ("validation", "test")}
    best_name = "test" if results["test"] else "validation"
    is_new = report["from_scratch"]
    is_gtzan = report["dataset"] in ("GTZAN", GTZAN_ON_THE_HUB)
    split = report["split"]
    data = ModelCardData(
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="audio-classification",
        tags=["music", "music-genre"]
        + (["gtzan"] if is_gtzan else [])
        + (["onnx"] if report.get("onnx") else []),
        base_model=None if is_new else report["base_model"],
        datasets=[GTZAN_ON_THE_HUB] if is_gtzan else None,
        model_name=name,
        metrics=["accuracy", "f1"],
        eval_results=_eval_results(report, results),
        widget=None
        if report["is_synthetic"]
        else [{"src": EXAMPLE_FILE, "example_title": "Jazz, synthesised by the project"}],
    )
    return ModelCard.from_template(
        data,
        template_str=TEMPLATE,
        **report
        | {
            "model_name": name,
            "repo_id": repo_id,
            "results": results,
            "best_name": best_name,
            "best": results[best_name],
            "genres": list(results[best_name]["per_genre"]),
            "onnx": report.get("onnx"),
            "origin": f"{report['model']}, {'trained from nothing' if is_new else 'fine-tuned'}",
            "speech": not is_new and any(n in report["model"].lower() for n in SPEECH_MODELS),
            "version_list": _pairs(report["versions"]),
            "recipe_list": _pairs(report["train"].get("recipe", {})),
            "is_gtzan": is_gtzan,
            "split_name": "its own split" if split == "its own" else f"the {split} split",
            "leakage_text": report["leakage_description"]
            or "unknown, the dataset does not say who plays what",
        },
    )


def _dataset_type(report: dict) -> str:
    """The dataset's id on the Hub if it is known."""
    if report["is_synthetic"]:
        return "synthetic"
    return GTZAN_ON_THE_HUB if report["dataset"] == "GTZAN" else report["dataset"]


def _pairs(values: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _eval_results(report: dict, results: dict[str, dict | None]) -> list:
    from huggingface_hub import EvalResult

    entries = []
    for split, scores in results.items():
        if not scores:
            continue
        low, high = scores["accuracy_ci95"]
        for metric_type, metric_name, value in (
            ("accuracy", f"accuracy (95 % interval {low:.3f} to {high:.3f})", scores["accuracy"]),
            ("f1", "macro F1", scores["macro_f1"]),
        ):
            entries.append(
                EvalResult(
                    task_type="audio-classification",
                    dataset_type=_dataset_type(report),
                    dataset_name=f"{report['dataset']}, {report['split']} split",
                    dataset_config=report["split"],
                    dataset_split=split,
                    metric_type=metric_type,
                    metric_name=metric_name,
                    metric_value=round(value, 4),
                )
            )
    return entries
