"""The card as a whole: a report in, every word and figure of the card out."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from data_prep.gtzan import DESCRIPTIONS
from data_prep.leakage import describe_leakage
from music_genre.publishing import card as card_module
from music_genre.publishing.card import model_card


def scores(accuracy: float, interval: list[float], macro_f1: float, n: int) -> dict:
    rows = enumerate(("blues", "classical", "jazz"))
    return {
        "accuracy": accuracy,
        "accuracy_ci95": interval,
        "macro_f1": macro_f1,
        "nll": 0.8,
        "ece": 0.043,
        "short": {"seconds": 2.0, "accuracy": accuracy - 0.1},
        "one_pass": {"accuracy": accuracy - 0.05},
        "n": n,
        "per_genre": {
            genre: {"precision": 0.9 - i / 10, "recall": 0.8 + i / 100, "f1": 0.7, "n": 30 + i}
            for i, genre in rows
        },
    }


LEAKAGE = {
    "test_tracks": 290,
    "artist_in_train": 0,
    "artist_unknown": 23,
    "title_in_train": 1,
    "samples_in_train": 2,
}

REPORT = {
    "model": "ntu-spml/distilhubert",
    "base_model": "ntu-spml/distilhubert",
    "base_model_commit": "0123abc",
    "from_scratch": False,
    "dataset": "GTZAN",
    "is_synthetic": False,
    "split": "filtered",
    "split_description": DESCRIPTIONS["filtered"],
    "leakage": LEAKAGE,
    "leakage_description": describe_leakage(LEAKAGE),
    "seed": 3,
    "window_seconds": 5.0,
    "one_pass_seconds": None,
    "train": {
        "seconds": 3030.0,
        "epochs": 10.0,
        "steps": 560,
        "resumed_at_step": 0,
        "best_step": 504,
        "hardware": "1 x Tesla T4",
        "precision": "fp16",
        "processes": 1,
        "recipe": {"learning rate": 1e-4, "clips a step": 16},
    },
    "versions": {"python": "3.11.7", "torch": "2.11.0"},
    "sampling_rate": 16_000,
    "model_type": "hubert",
    "contamination": None,
    "onnx": {
        "max_difference": 1.7e-7,
        "weights_sha256": "0" * 64,
        "transformers_js": True,
        "quantized": {
            "is_kept": True,
            "windows": 20,
            "max_difference": 0.0213,
            "mean_difference": 0.0044,
            "changed": 0.05,
        },
    },
    "validation": scores(0.766497, [0.7025, 0.8203], 0.751, 197),
    "test": scores(0.741379, [0.688, 0.7883], 0.733, 290),
}

# Change it together with the words of the card.
EXPECTED = Path(__file__).with_name("expected_card.md")


def test_the_whole_card():
    card = model_card(REPORT, "you/distilhubert-gtzan", {"license": "mit"})
    assert f"{card}\n" == EXPECTED.read_text(encoding="utf-8")


def in_train(**changes: object) -> dict:
    return {"train": REPORT["train"] | changes}


def in_test(**changes: object) -> dict:
    return {"test": REPORT["test"] | changes}


def with_clips(split: str, **clips: int) -> dict:
    """Other numbers of clips in the genres of a split."""
    per_genre = {
        genre: row | {"n": clips.get(genre, row["n"])}
        for genre, row in REPORT[split]["per_genre"].items()
    }
    n = sum(row["n"] for row in per_genre.values())
    return {split: REPORT[split] | {"per_genre": per_genre, "n": n}}


ONNX, PROBE = REPORT["onnx"], {"layers": 2, "of_layers": 4, "C": 0.01, "is_kept": True}
UNKNOWN = "Its accuracy is not known well."
CASES = {  # changes of the report: what its card says then, and what it does not say
    "synthetic": (
        {"is_synthetic": True, "dataset": "synthesised music", "onnx": None},
        ["# mine\n\n**A demonstration, not a music classifier", "It cannot classify real music."],
        ["Western", "datasets:", "widget:", "- gtzan", "type: marsyas/gtzan"],
    ),
    "without test, artists, ONNX and a recipe": (
        {"test": None, "leakage_description": None, "onnx": None, "dataset": "you/songs",
         "split": "given", "split_description": "its own split", "from_scratch": True}
        | {"train": {k: v for k, v in REPORT["train"].items() if k != "recipe"}},
        ["Its accuracy on the 197 validation tracks of its own split is **0.766**",
         "The test split is empty", "Its own split. Leakage: unknown", "license: apache-2.0",
         "trained from random weights on you/songs"],
        ["predictions.csv", "onnx", "GTZAN", "pretrained", "Recipe", "base_model", "datasets:"],
    ),
    "no int8 form": (
        {"onnx": ONNX | {"quantized": ONNX["quantized"] | {"is_kept": False}}},
        ["`onnx/model_quantized.onnx` was left out: in 20 windows of audio,",
         'await pipeline("audio-classification", "you/mine", { dtype: "fp32" });'],
        ["this uses the int8 form"],
    ),
    "unknown to transformers.js": (
        {"onnx": ONNX | {"transformers_js": False}},
        ["transformers.js does not know models of this type."], ["```js", "- transformers.js"],
    ),
    "linear probe": (
        in_train(linear_probe=PROBE, stages={"linear probe": 90.0}),
        ["linear probe on the frozen encoder: fine-tuning was not better", "layer 2 of 4, ",
         "off. 1.5 minutes on 1 x Tesla T4"],
        ["The weights are those"],
    ),
    "resumed, so that the whole time is not known": (
        in_train(resumed_at_step=100), ["(560 steps) on 1 x Tesla T4"], ["minutes on"],
    ),
    "linear probe of the whole net": (
        in_train(linear_probe=PROBE | {"layers": 1, "of_layers": 1, "known_share": 0.5}),
        ["pretrained model, added to 0.5 times the logits of the base model's own classes"],
        ["cut off"],
    ),
    "average": (
        in_train(best_step=None, linear_probe=PROBE | {"is_kept": False}),
        ["\nThe weights are those after the last step, averaged with those of a linear probe: on "
         "validation the average is better than the probe beyond chance. Nothing was chosen on "
         "test."],
        ["fine-tuning was not better"],
    ),
    "a genre missing in test": (
        with_clips("test", jazz=0, blues=2, classical=2),
        ["Its accuracy on the 197 validation tracks", "By genre, on validation:",
         "The test split has 4 tracks and none of jazz: too few for a figure"],
        ["split: test"],
    ),
    "few clips in both": (
        with_clips("validation", jazz=4) | with_clips("test", blues=0),
        [f"{UNKNOWN} The test split has 63 tracks and none of blues, and"],
        ["**0.", "confidence differs", "model-index", "model_name"],
    ),
    "five clips a genre are enough": (
        with_clips("test", blues=5, classical=5, jazz=5),
        ["Its accuracy on the 15 test tracks"], [],
    ),
    "first seconds only": (
        {"one_pass_seconds": 3.0}, ["only the first 3 s of a file. With each prepared clip in"], [],
    ),
    "one pass not measured": (
        in_test(one_pass=None), ["in one pass, longer than in training.\n", "not measured"], [],
    ),
    "artists": (
        in_test(n_artists=12, n_artist_unknown=0),
        ["The interval is by bootstrap over artists.\n"], [],
    ),
    "some artists": (
        in_test(n_artists=12, n_artist_unknown=3),
        ["by bootstrap over artists, and over single tracks if the artist is unknown.\n"], [],
    ),
    "no artists": (
        in_test(n_artists=0, n_artist_unknown=290),
        ["The interval is by bootstrap over tracks.\n"], [],
    ),
    "contaminated": (
        {"contamination": "the base model was trained on 12 of these 290 test tracks"},
        [f"{UNKNOWN} No figure stands for the model: the base model was trained on 12 of"],
        ["**0.", "model-index"],
    ),
    "another rate": (
        {"sampling_rate": 32_000, "window_seconds": 7.5},
        ["frames=240000)", "files that are not at 32 kHz", 'read_audio("song.mp3", 32000)',
         "int(7.5 * rate)", "processes 7.5 s at a time"],
        ["=80000", " 16000", "16 kHz"],
    ),
    "EfficientAT": (
        {"model_type": "efficientat", "base_model": None},
        ["license: mit", "those of EfficientAT", "trained on AudioSet", "handler.py",
         '{"input_values": audio[None]}', "top_k=None, trust_remote_code=True)",
         "its code is `modeling_efficientat.py`, in this repository"],
        ["AutoFeatureExtractor", "widget:"],
    ),
    "EfficientAT from scratch": (
        {"model_type": "efficientat", "base_model": None, "from_scratch": True},
        ["license: apache-2.0"], ["AudioSet"],
    ),
    "unknown licence": (
        {"model": "you/HuBERT"},
        ["The licence of you/HuBERT also applies", "\n- you/HuBERT was pretrained on speech."],
        ["license:", "AudioSet"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_card_of_a_run_that_differs(case):
    changes, present, absent = CASES[case]
    card = model_card(REPORT | changes, "runs/mine/" if case == "synthetic" else "you/mine")
    text = str(card)
    assert [part for part in present if part not in text] == []
    assert [part for part in absent if part in text] == []
    # No gap that a person should have filled.
    assert not re.search(r"[Mm]ore information needed|\{\{|\}\}|(?<![=\[])None|Undefined", text)
    assert yaml.safe_load(text.split("---")[1])["pipeline_tag"] == "audio-classification"


def test_a_copy_with_an_address_has_an_install_line(monkeypatch):
    monkeypatch.setattr(card_module, "REPOSITORY", "https://github.com/me/genres")
    text = model_card(REPORT, "me/mine").text
    assert '(`pip install "git+https://github.com/me/genres"`), which also reads MP3' in text
    assert "in a checkout" not in text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("R&B | Soul", r"R&B \| Soul"),
        ("a\nb\t c", "a b c"),
        ("<img src=x>", r"\<img src=x\>"),
        ("[x](javascript:1)", r"\[x\](javascript:1)"),
        ("{{ report }}", "{{ report }}"),
    ],
)
def test_names_are_plain_text(name, shown):
    """Of genres, datasets and models, wherever they stand."""
    row = REPORT["test"]["per_genre"]["jazz"]
    changes = in_test(per_genre={"blues": row, name: row})
    changes |= {"dataset": name, "model": name, "split_description": name}
    text = model_card(REPORT | changes, "you/mine").text
    assert f"into 2 genres: blues, {shown}." in text
    assert f"\nIt is {shown}, fine-tuned on {shown}." in text
    assert f"| {shown} | 0.70 | 0.82 | 0.70 | 32 |" in text
    assert name == shown or name not in text


def test_an_address_cannot_end_the_string_it_stands_in():
    text = model_card(REPORT, 'runs/it"s; import os').text
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        imports = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Import)]
        assert "os" not in {name.name for node in imports for name in node.names}
