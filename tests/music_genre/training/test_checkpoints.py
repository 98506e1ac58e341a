import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ASTConfig, ASTForAudioClassification

from music_genre.errors import InputError
from music_genre.training import checkpoints

THIS = checkpoints.Command("options", "data")
COMPLETE = checkpoints.STATE_FILES


def make(folder, step: int, files=COMPLETE) -> str:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    for name in files:
        (checkpoint / name).write_text(json.dumps({"global_step": step, "epoch": 1.0}))
    return str(checkpoint)


def tiny_ast(**changes: object) -> ASTForAudioClassification:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
             "intermediate_size": 16, "max_length": 32, "num_mel_bins": 32}  # fmt: skip
    return ASTForAudioClassification(ASTConfig(**sizes | changes))


def test_weights_are_copied_into_the_same_parameters(tmp_path):
    saved, model = tiny_ast(), tiny_ast()
    saved.save_pretrained(tmp_path)
    parameters = list(model.parameters())
    checkpoints.load_weights(model, tmp_path)
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    for name, tensor in saved.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("changes", [{"num_hidden_layers": 3}, {"hidden_size": 8}])
def test_weights_of_another_model_are_refused(tmp_path, changes):
    tiny_ast().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="does not hold the weights of this model"):
        checkpoints.load_weights(tiny_ast(**changes), tmp_path)


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_weights_must_be_complete(tmp_path, change):
    tiny_ast().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    if change == "missing":
        del tensors["classifier.dense.weight"]
    else:
        tensors["another"] = torch.zeros(1)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"classifier\.dense\.weight|another"):
        checkpoints.load_weights(tiny_ast(), tmp_path)


def test_the_last_one_is_the_one_of_most_steps(tmp_path):
    make(tmp_path, 90)
    newest = make(tmp_path, 100)
    assert checkpoints.find_checkpoint(tmp_path, "last", THIS) == newest
    assert checkpoints.steps_done(newest, "fp32", 100) == 100


def test_one_that_the_disk_had_no_room_for_is_left_out(tmp_path, capsys):
    complete = make(tmp_path, 5)
    make(tmp_path, 10, files=("model.safetensors", "optimizer.pt"))
    assert checkpoints.find_checkpoint(tmp_path, "last", THIS) == complete
    assert "checkpoint-10 has no scheduler.pt" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMPLETE)
def test_a_missing_file_is_named_and_nothing_touched(tmp_path, name):
    wanted = make(tmp_path, 5, files=set(COMPLETE) - {name})
    with pytest.raises(InputError, match=f"it has no {name}"):
        checkpoints.find_checkpoint(tmp_path, wanted, THIS)
    with pytest.raises(InputError, match="no complete checkpoint"):
        checkpoints.find_checkpoint(tmp_path, "last", THIS)
    assert len(list((tmp_path / "checkpoint-5").iterdir())) == len(COMPLETE) - 1


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (None, "holds another run"),
        (checkpoints.Command("others", "data"), "holds another run"),
        (checkpoints.Command("options", "more"), "on other data: to train anew beside it"),
        (THIS, "holds this run, unfinished: add --resume_from_checkpoint last"),
    ],
)
def test_what_is_in_a_folder_is_said(tmp_path, there, message):
    """All of these were "another run", also the same command after one song more."""
    make(tmp_path, 5)
    if there:
        there.write(tmp_path)
    with pytest.raises(InputError, match=message):
        checkpoints.find_checkpoint(tmp_path, None, THIS)


def test_a_finished_run_is_not_to_be_resumed(tmp_path):
    """The advice was to resume it; of a linear probe it hid that it can be fine-tuned."""
    (tmp_path / "report.json").write_text('{"seed": 0}')
    checkpoints.Command("others", "data").write(tmp_path)
    with pytest.raises(InputError, match="another run, which is finished: to train anew"):
        checkpoints.find_checkpoint(tmp_path, None, THIS)
    (tmp_path / "linear_probe").mkdir()
    (tmp_path / "linear_probe" / "choice.json").write_text('{"C": 1.0}')
    with pytest.raises(InputError, match="to fine-tune it, add --resume_from_checkpoint last"):
        checkpoints.find_checkpoint(tmp_path, None, THIS)


def test_a_copy_of_a_checkpoint_is_no_newer_one(tmp_path):
    """int("backup") was a traceback."""
    newest = make(tmp_path, 5)
    Path(make(tmp_path, 10)).rename(tmp_path / "checkpoint-10-backup")
    assert checkpoints.find_checkpoint(tmp_path, "last", THIS) == newest


def test_the_linear_probe_is_the_last_where_no_checkpoint_is_complete(tmp_path, capsys):
    """A run that was killed while it wrote its first checkpoint could not be resumed."""
    make(tmp_path, 5, files=("model.safetensors",))
    (tmp_path / checkpoints.LINEAR_PROBE).mkdir()
    (tmp_path / checkpoints.LINEAR_PROBE / checkpoints.CHOICE_FILE).write_text("{}")
    found = checkpoints.find_checkpoint(tmp_path, "last", THIS)
    assert found == str(tmp_path / checkpoints.LINEAR_PROBE)
    assert "checkpoint-5 has no optimizer.pt" in capsys.readouterr().out
