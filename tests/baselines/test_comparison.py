"""The table and the picture: reports in, figures out, and "not run" for all the rest."""

import json
import sys

import numpy as np
import pytest
from matplotlib import image

import train_hf
from baselines.__main__ import main
from baselines.comparison import Row, TestResult, add_missing, plot_rows, read_runs, to_markdown
from music_genre import GenreClassifier
from music_genre.errors import InputError
from music_genre.training.arguments import parse_arguments


def report(accuracy: float, split="filtered", n=40, seconds=600, **more) -> dict:
    return {
        "model": "ntu-spml/distilhubert",
        "from_scratch": False,
        "dataset": "GTZAN",
        "split": split,
        "window_seconds": 5,
        "train": {"seconds": seconds},
        "test": {"accuracy": accuracy, "accuracy_ci95": [accuracy - 0.1, accuracy + 0.2], "n": n},
        "parameters": 23_000_000,
    } | more


def write(folder, content: dict):
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def two_splits(tmp_path):
    """Three seeds on the filtered split, one run on the random one."""
    for seed, accuracy in enumerate((0.5, 0.6, 0.7)):
        write(tmp_path / "f" / f"seed-{seed}", report(accuracy, seconds=600 + 60 * seed))
    return [tmp_path / "f", write(tmp_path / "r", report(0.8, "random", 20))]


def test_seeds_and_splits_of_a_model_are_one_row(two_splits):
    (row,) = read_runs(two_splits)
    assert (row.model, row.input) == ("distilhubert, fine-tuned", "audio, windows of 5 s")
    assert row.results["filtered"].accuracies == [0.5, 0.6, 0.7]
    assert row.results["filtered"].seconds == pytest.approx(660)
    assert row.results["filtered"].interval == pytest.approx((0.5, 0.8))
    assert row.difference == pytest.approx(-0.2)
    line = to_markdown([row]).splitlines()[2]
    assert line == (
        "| distilhubert, fine-tuned | audio, windows of 5 s | 23.0 million | 11.0 "
        "| **0.80** (0.70 to 1.00); n 20 "
        "| **0.60** (0.50 to 0.80); n 40, seeds 0.50 / 0.60 / 0.70 | -0.20 |"
    )


def test_a_run_that_kept_its_linear_probe_is_named_so(tmp_path):
    train = {"seconds": 60, "linear_probe": {"is_kept": True}}
    (row,) = read_runs([write(tmp_path / "run", report(0.5, train=train))])
    assert row.model == "distilhubert, linear probe"


def test_the_artist_split_stands_in_for_the_filtered_one(tmp_path):
    runs = [
        write(tmp_path / "a", report(0.5, "artist")),
        write(tmp_path / "r", report(0.8, "random", 20)),
    ]
    assert read_runs(runs)[0].difference == pytest.approx(-0.3)


def test_what_was_not_run_says_so():
    lines = to_markdown(add_missing([])).splitlines()
    assert lines[0].split(" | ")[4:] == ["random split", "filtered split", "difference |"]
    assert [line.split(" | ")[:2] for line in lines[2:]] == [
        ["| mel CNN", "audio"],
        ["| mel CNN", "images_original"],
        ["| fine-tuned encoder", "audio"],
    ]
    assert all(line.count("not run") == 5 for line in lines[2:])


def test_what_was_run_is_not_missing(tmp_path):
    cnn = {"model": "configs/mel-cnn", "from_scratch": True}
    rows = read_runs(
        [
            write(tmp_path / "a", report(0.6, **cnn)),
            write(tmp_path / "b", report(0.5, **cnn, input="images_original")),
            write(tmp_path / "c", report(0.7)),
        ]
    )
    assert add_missing(rows) == rows
    assert [row.model for row in rows] == ["mel CNN", "mel CNN", "distilhubert, fine-tuned"]
    # One split only: no difference is made up.
    assert all(line.endswith("| not run |") for line in to_markdown(rows).splitlines()[2:])


def test_another_split_gets_a_column_and_other_data_a_name(tmp_path):
    run = write(tmp_path / "a", report(0.6, "artist", dataset="synthesised music"))
    table = to_markdown(read_runs([run]))
    assert "| random split | filtered split | artist split | difference |" in table
    assert "audio, windows of 5 s (synthesised music)" in table


def test_runs_on_other_tracks_are_not_averaged(tmp_path):
    runs = [write(tmp_path / "a", report(0.6)), write(tmp_path / "b", report(0.6, n=41))]
    with pytest.raises(InputError, match="41 tracks of the filtered split"):
        read_runs(runs)


@pytest.mark.parametrize("content", [None, {"test": None, "split": "filtered"}])
def test_a_folder_without_figures_is_named(tmp_path, content):
    folder = write(tmp_path / "a", content) if content else tmp_path / "a"
    with pytest.raises(InputError, match=str(folder)):
        read_runs([folder])


def test_picture_has_every_row(tmp_path):
    rows = [
        Row(
            "a",
            "b",
            {
                "random": TestResult([0.8], [(0.7, 0.9)], 50, 1),
                "filtered": TestResult([0.5], [(0.4, 0.6)], 50, 1),
            },
        )
    ]
    plot_rows(rows, tmp_path / "one.png")
    plot_rows(add_missing(rows), tmp_path / "four.png")
    one, four = (image.imread(tmp_path / name) for name in ("one.png", "four.png"))
    assert four.shape[0] > one.shape[0]
    blue = np.abs(one[..., :3] - np.array([0x32, 0x66, 0xA8]) / 255).max(axis=2) < 0.02
    orange = np.abs(one[..., :3] - np.array([0xD9, 0x77, 0x2B]) / 255).max(axis=2) < 0.02
    assert blue.any() and orange.any()


def test_mel_cnn_is_trained_served_and_compared(
    prepared, root, tmp_path, tone, monkeypatch, capsys
):
    """From the recipe through the one Trainer into the one table, by the command line."""
    folder = tmp_path / "mel-cnn"
    options = ["--dataset", prepared, "--output_dir", folder, "--num_train_epochs", 1]
    options += ["--window_seconds", 1, "--disable_tqdm", True, "--precision", "fp32"]
    options += ["--model_name_or_path", root / "configs" / "mel-cnn"]
    train_hf.run(*parse_arguments([str(root / "configs" / "mel-cnn.json"), *map(str, options)]))
    saved = json.loads((folder / "report.json").read_text())
    assert saved["test"]["n"] == 10
    assert len(GenreClassifier(folder)(tone, 16_000).timeline) == 3
    argv = ["baselines", "--runs", str(folder), "--output_dir", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", argv)
    main()
    table = (tmp_path / "out" / "comparison.md").read_text()
    assert table in capsys.readouterr().out
    assert "| mel CNN | audio, windows of 1 s (synthesised music) | 0.4 million |" in table
    assert f"**{saved['test']['accuracy']:.2f}**" in table
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give at least one"),
        (["--runs", "nowhere"], "error: nowhere holds no finished run"),
        (["--dataset", "tests"], "error: tests is not a prepared dataset"),
    ],
)
def test_bad_arguments_get_a_sentence(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["baselines", *arguments])
    with pytest.raises(SystemExit) as exit:
        main()
    assert exit.value.code == 2
    assert message in capsys.readouterr().err
