"""The dataset card of `python -m data_prep`: what is in it, what is wrong with it, whose it is."""

from typing import TYPE_CHECKING

from data_prep import splits
from data_prep.gtzan import GENRES, SPLITS

if TYPE_CHECKING:
    from huggingface_hub import DatasetCard

TEMPLATE = """---
{{ card_data }}
---

# {{ title }}

{{ n_kept }} clips ({{ minutes }} minutes) in ten genres, mono, 16 kHz, 16-bit PCM.
{% if is_synthetic %}
**A demonstration: this music was synthesised by the project. It is no real music, and a model
trained on it is no music classifier.**
{% endif %}
| genre |{% for s in split_names %} {{ s }} |{% endfor %}
| --- |{% for s in split_names %} ---: |{% endfor %}
{% for g in genres -%}
| {{ g }} |{% for s in split_names %} {{ counts[s][g] }} |{% endfor %}
{% endfor -%}
| all |{% for s in split_names %} {{ counts[s].values() | sum }} |{% endfor %}

Columns: `file`, `audio` (WAV bytes embedded), `genre` (class label), `track_id`, `artist` (empty if
unknown). `manifest.csv` lists every audio file of the archive with its length, the SHA-256 of its
samples, its split, and why it was left out if it was ({{ n_dropped }} were).

## Split

{{ split_description }}{% if split != "filtered" %}, seed {{ seed }}{% endif %}. Leakage:
{{ leakage }}.
{% if identical_samples %}
Sample for sample the same: {{ identical_samples }}.
{% endif %}
{% if not is_synthetic -%}
## Faults of GTZAN

The set was collected in 2000 and 2001 from CDs, radio and microphone recordings. Mislabelled
tracks put a perfect classifier at about 94.5 %; reggae.00086 is mostly static; Kaggle's
jazz.00054.wav cannot be decoded. 35 of the 100 reggae tracks are by Bob Marley, and 66 groups of
tracks share artist and title, so splits that ignore artists, above all splits of 3-second pieces,
measure memory rather than hearing.

## Licence and citation

GTZAN carries no licence and its author asked no rights holder: use it for private study and
measurement, and do not publish the audio.

- G. Tzanetakis, P. Cook, "Musical Genre Classification of Audio Signals", IEEE Trans. Speech and
  Audio Processing 10(5), 2002.
- B. L. Sturm, "An Analysis of the GTZAN Music Genre Dataset", Proc. ACM Workshop MIRUM, 2012
  (artists and titles).
- C. Kereliuk, B. L. Sturm, J. Larsen, "Deep Learning and Music Adversaries", IEEE Trans.
  Multimedia 17(11), 2015 (fault-filtered split).
{%- endif %}

## How it was made

`python -m data_prep` from {{ sources }}: decoded once, channels averaged, resampled with
torchaudio, rounded to 16 bit.
"""


def dataset_card(preparation: dict) -> "DatasetCard":
    """Build the card from the content of `preparation.json`."""
    from huggingface_hub import DatasetCard, DatasetCardData

    is_synthetic = preparation["is_synthetic"]
    title = "Synthesised music in ten styles" if is_synthetic else "GTZAN genres, 16 kHz"
    data = DatasetCardData(
        license="apache-2.0" if is_synthetic else "unknown",
        pretty_name=title,
        task_categories=["audio-classification"],
        tags=["music", "music-genre", "gtzan"],
        size_categories="n<1K" if preparation["n_kept"] < 1000 else "1K<n<10K",
    )
    return DatasetCard.from_template(
        data,
        template_str=TEMPLATE,
        **preparation
        | {
            "title": title,
            "minutes": round(preparation["seconds"] / 60),
            "genres": GENRES,
            "split_names": SPLITS,
            "split_description": splits.DESCRIPTIONS[preparation["split"]].capitalize(),
            "leakage": splits.describe_leakage(preparation["leakage"]),
            "identical_samples": "; ".join(map(", ".join, preparation["identical_samples"])),
            "sources": " and ".join(f"`{s['name']}`" for s in preparation["sources"]),
        },
    )
