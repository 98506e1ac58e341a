"""Images as Kaggle's archive has them, drawn here: 432 x 288 pixels, RGBA, white margins."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from baselines import images
from data_prep.gtzan import filtered_split
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
    assert {plot.shape for plot in plots.values()} == {(images.HEIGHT, images.WIDTH)}
    assert "Unusable images: 1, such as blues00099.png (" in capsys.readouterr().out


def test_the_crops_that_are_scored_cover_the_plot_in_the_order_of_tracks():
    plots = {
        "rock.00001": np.zeros((images.HEIGHT, images.WIDTH), np.float32),
        "jazz.00001": np.tile(np.arange(images.WIDTH, dtype=np.float32), (images.HEIGHT, 1)),
    }
    crops = images.Crops(plots, list(plots), is_random=False)
    rows = [crops[i] for i in range(len(crops))]
    assert [row["labels"] for row in rows] == [9] * 7 + [5] * 7
    firsts = [row["pixel_values"][0, 0, 0] for row in rows[7:]]
    assert np.diff(firsts).tolist() == [32.0] * 6
    assert rows[13]["pixel_values"][0, 0, -1] - firsts[0] == images.WIDTH - 1


def test_a_net_is_trained_and_scored(archive):
    """Stripes that are narrow or wide are easy to tell."""
    (row,) = images.image_rows(archive, ["filtered"], [0], epochs=20)
    assert (row.model, row.split, row.n) == ("ResNet, seeds: 1", "filtered", 9)
    assert row.accuracy > 0.6
    assert row.size == "0.3 million"


def test_an_archive_without_images_is_one_sentence(tmp_path):
    (tmp_path / "rock").mkdir()
    with pytest.raises(InputError, match=r"has no images such as .*: leave out --images"):
        images.read_images(tmp_path)
