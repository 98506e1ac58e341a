"""Images as Kaggle's archive has them, drawn here: 432 x 288 pixels, RGBA, white margins."""

import io
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from baselines import images
from data_prep.gtzan import filtered_split
from music_genre.efficientat import EfficientATConfig, EfficientATForAudioClassification
from music_genre.errors import InputError

AREA = (0.125, 0.125, 0.775, 0.755)  # left, bottom, width, height; 335 by 217 pixels


def kaggle_png(row: int | list[int], seed: int = 0, with_axes: bool = False) -> bytes:
    """A spectrogram that is loud in one or several of twenty rows."""
    loudness = np.random.default_rng(seed).uniform(0, 0.5, (20, 60))
    loudness[row] = 1
    figure = Figure(figsize=(4.32, 2.88), dpi=100)
    axes = figure.add_axes(AREA)
    axes.imshow(loudness, aspect="auto", origin="lower", cmap="magma", interpolation="nearest")
    if not with_axes:
        axes.set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """Three genres of unequal size, of each some tracks of train and test of the filtered split."""
    members = {
        "Data/images_original/blues/blues00099.png": b"no picture",
        "Data/images_original/rock/cover.png": kaggle_png(0),
        "Data/genres_original/rock/rock.00000.wav": b"audio is left alone",
    }
    for g, (genre, n_train) in enumerate({"jazz": 5, "blues": 9, "rock": 7}.items()):
        for part, n in (("train", n_train), ("test", 3)):
            tracks = [t for t, s in filtered_split().items() if s == part and t.startswith(genre)]
            for track in tracks[:n]:
                name = f"Data/images_original/{genre}/{track.replace('.', '')}.png"
                members[name] = kaggle_png(list(range(0, 20, (2, 5, 10)[g])), seed=len(members))
    path = tmp_path_factory.mktemp("images") / "kaggle.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


@pytest.mark.parametrize("with_axes", [False, True])
def test_margins_and_axes_are_cut_off(with_axes):
    image = Image.open(io.BytesIO(kaggle_png(19, with_axes=with_axes)))
    assert (image.size, image.mode) == ((432, 288), "RGBA")
    plot = images.plot_area(np.asarray(image.convert("RGB")))
    height, width, _ = plot.shape
    assert abs(height - 211) <= 3 and abs(width - 329) <= 3
    light = plot.astype(int).sum(axis=2) > 500
    assert light[:6].all()  # the loud row, at the top
    assert not light[20:].any()  # no margin, tick or number


def test_unusable_images_are_named_and_left_out(archive, capsys):
    plots = images.read_images(archive)
    assert len(plots) == 30
    assert {plot.shape for plot in plots.values()} == {(images.FRAMES, images.BANDS)}
    assert "Unusable images: 1, such as blues00099.png (" in capsys.readouterr().out


def test_a_plot_is_a_spectrogram_with_the_lowest_band_first():
    plot = images.read_plot(kaggle_png(19))
    assert plot.mean() == pytest.approx(0, abs=1e-4) and plot.std() == pytest.approx(1, abs=1e-4)
    bands = plot.mean(axis=0)
    assert bands[-4:].min() > 2 > 1 > bands[:100].max()
    with pytest.raises(ValueError, match="one colour"):
        buffer = io.BytesIO()
        Image.new("RGB", (40, 40), "black").save(buffer, format="png")
        images.read_plot(buffer.getvalue())


def test_the_crops_that_are_scored_cover_the_plot_in_the_order_of_tracks():
    shape = (images.FRAMES, images.BANDS)
    plots = {
        "rock.00001": np.zeros(shape, np.float32),
        "jazz.00001": np.tile(np.arange(images.FRAMES, dtype=np.float32)[:, None], images.BANDS),
    }
    crops = images.Crops(plots, list(plots), is_random=False)
    rows = [crops[i] for i in range(len(crops))]
    assert [row["labels"] for row in rows] == [9] * 7 + [5] * 7
    firsts = [row["input_values"][0, 0] for row in rows[7:]]
    assert np.diff(firsts).tolist() == [128.0] * 6
    assert firsts[0] == 0 and rows[13]["input_values"][-1, 0] == images.FRAMES - 1


def test_a_track_is_right_by_its_crops_and_by_the_share_of_seeds(archive, monkeypatch):
    """The stub knows each crop. With seed 1 it takes jazz for rock, by one crop of seven."""

    class Stub:
        def __init__(self, crops: images.Crops, epochs: int, seed: int, model: None) -> None:
            assert {crops[i]["labels"] for i in range(len(crops))} == {0, 5, 9}
            assert (len(crops), epochs, model) == (21, 3, None)
            self.seed = seed
            self.model = SimpleNamespace(num_parameters=lambda: 840_000)

        def train(self) -> None: ...

        def predict(self, crops: images.Crops) -> SimpleNamespace:
            logits = 2.0 * np.eye(10)[[crops[i]["labels"] for i in range(len(crops))]]
            if self.seed:
                is_jazz = logits[:, 5] > 0
                is_jazz[np.arange(len(crops)) % 7 != 3] = False
                logits[is_jazz, 9] = 90.0
            return SimpleNamespace(predictions=logits)

    monkeypatch.setattr(images, "make_trainer", Stub)
    plots = images.read_images(archive)
    row = images.evaluate(plots, "filtered", [0, 1], 3, None)
    assert (row.split, row.n, row.accuracy) == ("filtered", 9, pytest.approx(1 - 1 / 6))
    assert (row.model, row.size) == ("EfficientAT from random weights, seeds: 2", "0.8 million")


def test_it_begins_with_the_weights_that_are_named_and_trains_the_later_ones(tmp_path):
    torch.manual_seed(3)
    config = EfficientATConfig(width_multiplier=0.1, num_labels=527)
    before = EfficientATForAudioClassification(config)
    before.save_pretrained(tmp_path / "tiny")
    plot = np.random.default_rng(0).normal(size=(images.FRAMES, images.BANDS))
    crops = images.Crops({"jazz.00001": plot.astype(np.float32)}, ["jazz.00001"], is_random=True)
    trainer = images.make_trainer(crops, 3, 0, tmp_path / "tiny")
    trainer.train()
    net = trainer.model
    assert net.classifier.out_features == 10
    stem = before.efficientat.features[0][0].weight
    assert torch.equal(net.efficientat.features[0][0].weight, stem)
    assert not torch.equal(net.projector.weight, before.projector.weight)
    assert torch.allclose(net.projector.weight, before.projector.weight, atol=0.02)
    one, same = (images.make_trainer(crops, 3, 5, None).model.projector.weight for _ in range(2))
    assert torch.equal(one, same), "random weights are those of the seed"


def test_an_archive_without_images_is_one_sentence(tmp_path):
    (tmp_path / "rock").mkdir()
    with pytest.raises(InputError, match=r"has no images such as .*: leave out --images"):
        images.read_images(tmp_path)
