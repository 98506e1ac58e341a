"""The average of probe and fine-tuned model replaces the probe if it is better beyond chance."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.torch import load_file

from music_genre.training import averaging
from tests.uneven import write_net

N_TRACKS = 40
REFERENCES = np.arange(N_TRACKS) % 4


def predictions(right: np.ndarray, p: float = 0.7) -> list[np.ndarray]:
    """One window per track, with the probability `p` for the right genre or for another one."""
    found = np.full((N_TRACKS, 4), (1 - p) / 3)
    found[np.arange(N_TRACKS), np.where(right, REFERENCES, (REFERENCES + 1) % 4)] = p
    return list(found[:, None])


EVEN = np.arange(N_TRACKS) % 2 == 0
ONE_MORE = EVEN | (np.arange(N_TRACKS) == 1)
FIRST_THIRD = np.arange(N_TRACKS) < 13


def choose(of_average: list[np.ndarray], artists: int, monkeypatch) -> dict:
    """Of a probe that is right on every second track, and the average with a fine-tuned model."""
    quality = {"probe": predictions(EVEN), "average": of_average}
    monkeypatch.setattr(averaging, "average", lambda *_: None)
    monkeypatch.setattr(averaging, "load", lambda folder: folder.name)
    monkeypatch.setattr(averaging, "score_windows", lambda name, *_: quality[name])
    arguments = SimpleNamespace(should_save=True)
    names = [f"artist {i * artists // N_TRACKS}" for i in range(N_TRACKS)]
    tracks = SimpleNamespace(artists=names, labels=REFERENCES)
    return averaging.average_and_choose(Path("average"), Path("probe"), tracks, arguments)


@pytest.mark.parametrize(
    ("fine_tuned", "artists", "is_kept"),
    [
        (EVEN, N_TRACKS, True),  # no better
        (ONE_MORE, N_TRACKS, True),  # better by one track: chance
        (np.ones(N_TRACKS, bool), N_TRACKS, False),
        (EVEN & FIRST_THIRD, N_TRACKS, True),  # worse
        (EVEN | FIRST_THIRD, N_TRACKS, False),
        (EVEN | FIRST_THIRD, 3, True),  # better on the tracks of one artist of three
    ],
)
def test_the_linear_probe_is_kept_unless_it_is_beaten_beyond_chance(
    fine_tuned, artists, is_kept, monkeypatch
):
    found = choose(predictions(fine_tuned), artists, monkeypatch)
    assert found["is_kept"] == is_kept
    assert (found["fine_tuned_calibrated_loss"] < found["calibrated_loss"]) == (
        fine_tuned.sum() > EVEN.sum()
    )


def test_what_is_compared_is_calibrated(monkeypatch):
    """Better on a third of the tracks, and much too sure of itself."""
    found = choose(predictions(EVEN | FIRST_THIRD, p=0.998), N_TRACKS, monkeypatch)
    assert not found["is_kept"]
    assert found["fine_tuned_calibrated_loss"] < found["calibrated_loss"]


def test_weights_are_averaged_one_by_one(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    write_net(one, seed=1)
    write_net(other, seed=2)
    before, two = (load_file(folder / "model.safetensors") for folder in (one, other))
    averaging.average(one, other)
    for name, tensor in load_file(one / "model.safetensors").items():
        np.testing.assert_allclose(tensor, (before[name] + two[name]) / 2, rtol=1e-6)
