"""Images as Kaggle's archive has them, drawn here: 432 x 288 pixels, RGBA, white margins."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from baselines import images
from baselines.comparison import read_runs
from data_prep.gtzan import GENRES, filtered_split
from music_genre.errors import InputError

AREA = (0.125, 0.125, 0.775, 0.755)  # left, bottom, width, height; 335 by 217 pixels


def kaggle_png(row: int, seed: int = 0, with_axes: bool = False) -> bytes:
    """A spectrogram that is loud in one of twenty rows."""
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


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """Four genres, of each some tracks of every part of the filtered split."""
    of_part = {
        part: [t for t, s in filtered_split().items() if s == part] for part in images.SPLITS
    }
    members = {}
    for g, genre in enumerate(GENRES[:4]):
        for part, n in (("train", 6), ("validation", 3), ("test", 3)):
            for track in [t for t in of_part[part] if t.startswith(genre)][:n]:
                name = f"Data/images_original/{genre}/{track.replace('.', '')}.png"
                members[name] = kaggle_png(3 + 4 * g, seed=len(members))
    members["Data/images_original/blues/blues00099.png"] = b"no picture"
    members["Data/images_original/rock/cover.png"] = kaggle_png(0)
    members["Data/genres_original/rock/rock.00000.wav"] = b"audio is left alone"
    return make_zip(tmp_path_factory.mktemp("images") / "kaggle.zip", members)


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


def test_a_transparent_margin_is_a_margin_too():
    pixels = np.array(Image.open(io.BytesIO(kaggle_png(19))))
    pixels[(pixels == 255).all(axis=2)] = 0
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    member = images.Member("blues00000.png", buffer.getvalue)
    as_white = images.Member("blues00000.png", lambda: kaggle_png(19))
    np.testing.assert_allclose(images._read(member)[1], images._read(as_white)[1])


def test_reading_leaves_out_what_is_no_track(archive, capsys):
    pictures, hashes = images.read_images(archive)
    assert len(pictures) == len(hashes) == 48
    assert {track.split(".")[0] for track in pictures} == set(GENRES[:4])
    assert all(p.shape == (images.HEIGHT, images.WIDTH) for p in pictures.values())
    assert "Unusable images: 1, such as blues00099.png" in capsys.readouterr().out


def test_a_huge_or_empty_image_is_refused():
    for size, reason in (((3000, 3000), "pixels"), ((432, 288), "no plot")):
        buffer = io.BytesIO()
        Image.new("RGB", size, "white").save(buffer, "PNG")
        with pytest.raises(images.ImageError, match=reason):
            images._read(images.Member("blues00000.png", buffer.getvalue))


def test_an_archive_without_images_says_what_to_do(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"genres_original/rock/rock.00000.wav": b""})
    with pytest.raises(InputError, match="configs/mel-cnn"):
        images.read_images(archive)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(images, "HEIGHT", 32)
    monkeypatch.setattr(images, "WIDTH", 48)
    monkeypatch.setattr(images, "CROP", 24)


def test_it_learns_from_images_on_the_same_splits(archive, tmp_path, small):
    folder = tmp_path / "run"
    arguments = [str(archive), "--output_dir", str(folder), "--epochs", "16", "--seeds", "0", "1"]
    images.run(images.parse_arguments(arguments))
    reports = [json.loads((folder / f"seed-{i}" / "report.json").read_text()) for i in (0, 1)]
    for seed, report in enumerate(reports):
        assert (report["split"], report["seed"], report["test"]["n"]) == ("filtered", seed, 12)
        assert report["test"]["accuracy"] >= 0.75  # 0.25 by chance
        assert report["test"]["per_genre"]["blues"]["n"] == 3
    assert reports[0]["test"]["nll"] != reports[1]["test"]["nll"]
    (row,) = read_runs([folder])
    assert (row.model, row.input) == ("mel CNN", "images_original")
    assert row.results["filtered"].size == "0.4 million"
    assert not list(folder.glob("*/checkpoint-*"))
    with pytest.raises(InputError, match="holds another run"):
        images.run(images.parse_arguments(arguments))


class Recorder(torch.nn.Module):
    """In the place of the net: keeps what it gets; the logits are the crop's mean."""

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        self.crops = crops
        return crops.mean(dim=(1, 2, 3))[:, None].repeat(1, len(GENRES))


def test_in_training_crops_are_random(small):
    model = images.PlotClassifier().train()
    model.net = Recorder()
    # Plot i is i in its left half and -i in its right half.
    plots = torch.arange(1.0, 9)[:, None, None, None].repeat(1, 1, 32, 48)
    plots[..., 24:] *= -1
    model(plots, torch.arange(8))
    crops = model.net.crops
    assert crops.shape == (8, 1, 32, 24)
    assert len({float(row.sum() / row.max()) for row in crops[:, 0, 0]}) > 3  # starts differ
    assert (crops.abs() == plots[..., :24].abs()).all()  # of its own plot


def test_scoring_averages_over_crops_and_changes_nothing(small):
    model = images.PlotClassifier().eval()
    model.net = Recorder()
    plots = torch.randn(2, 1, 32, 48)
    first, again = (model(plots, torch.tensor([0, 1]))["logits"] for _ in range(2))
    assert model.net.crops.shape == (6, 1, 32, 24)  # three of each, half of them overlapping
    torch.testing.assert_close(first, again)
    centred = plots - plots.mean(dim=(2, 3), keepdim=True)
    crops = [centred[..., start : start + 24].mean(dim=(1, 2, 3)) for start in (0, 12, 24)]
    torch.testing.assert_close(first[:, 0], torch.stack(crops).mean(0))
