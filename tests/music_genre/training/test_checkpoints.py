import errno
import json

import pytest

from music_genre.errors import InputError
from music_genre.training import checkpoints

COMPLETE = (*checkpoints.STATE_FILES, "model.safetensors", "rng_state.pth")


def make(folder, step: int, files=COMPLETE) -> str:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    for name in files:
        (checkpoint / name).write_text(json.dumps({"global_step": step}))
    return str(checkpoint)


def test_the_last_one_is_the_one_of_most_steps(tmp_path):
    make(tmp_path, 90)
    newest = make(tmp_path, 100)
    assert checkpoints.find_checkpoint(tmp_path, "last") == newest
    assert checkpoints.n_steps_of(newest) == 100


def test_one_that_the_disk_had_no_room_for_is_left_out(tmp_path, capsys):
    complete = make(tmp_path, 5)
    make(tmp_path, 10, files=("model.safetensors", "optimizer.pt"))
    assert checkpoints.find_checkpoint(tmp_path, "last") == complete
    assert "checkpoint-10 has no scheduler.pt" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMPLETE)
def test_a_missing_file_is_named_and_nothing_touched(tmp_path, name):
    wanted = make(tmp_path, 5, files=set(COMPLETE) - {name})
    with pytest.raises(InputError, match=f"it has no {name}"):
        checkpoints.find_checkpoint(tmp_path, wanted)
    with pytest.raises(InputError, match="is complete"):
        checkpoints.find_checkpoint(tmp_path, "last")
    assert len(list((tmp_path / "checkpoint-5").iterdir())) == len(COMPLETE) - 1


def test_a_folder_with_a_checkpoint_is_another_runs(tmp_path):
    make(tmp_path, 5)
    with pytest.raises(InputError, match="holds another run"):
        checkpoints.find_checkpoint(tmp_path, None)


def test_a_full_disk_is_seen_through_the_error_of_a_library(tmp_path):
    hidden = RuntimeError("failed writing file data/7")
    hidden.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert checkpoints.is_disk_full(hidden, tmp_path)
    assert not checkpoints.is_disk_full(RuntimeError("shapes differ"), tmp_path / "not" / "there")
