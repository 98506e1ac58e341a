import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ASTConfig, ASTForAudioClassification

from music_genre.errors import InputError
from music_genre.training import checkpoints


def make(folder, step: int, files=("model.safetensors", "trainer_state.json")) -> str:
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


@pytest.mark.parametrize(
    "changes",
    [{"num_hidden_layers": 3}, {"hidden_size": 8}, {"id2label": {0: "LABEL_1", 1: "LABEL_0"}}],
)
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
    with pytest.raises(InputError, match="does not hold the weights of this model"):
        checkpoints.load_weights(tiny_ast(), tmp_path)


def test_the_last_one_is_the_complete_one_of_most_steps(tmp_path):
    """The disk may have been full at the newest; a copy with another name is none."""
    make(tmp_path, 90)
    newest = make(tmp_path, 100)
    Path(make(tmp_path, 110)).rename(tmp_path / "checkpoint-110-backup")
    assert checkpoints.find_checkpoint(tmp_path, "last") == newest
    assert checkpoints.find_checkpoint(tmp_path, "True") == newest, "as transformers has it"
    assert checkpoints.steps_done(newest, "fp32") == 100
    make(tmp_path, 120, files=("model.safetensors", "optimizer.pt"))
    assert checkpoints.find_checkpoint(tmp_path, "last") == newest


def test_one_without_its_last_file_is_not_resumed(tmp_path):
    folder = make(tmp_path, 5, files=("model.safetensors", "optimizer.pt", "scheduler.pt"))
    for wanted in (folder, "last"):
        with pytest.raises(InputError, match=r"no complete checkpoint at .*checkpoint-5"):
            checkpoints.find_checkpoint(tmp_path, wanted)


def test_one_of_another_folder_is_not_resumed(tmp_path, monkeypatch):
    """Neither its linear probe nor its best checkpoint would come along."""
    with pytest.raises(InputError, match="give the --output_dir of its run"):
        checkpoints.find_checkpoint(tmp_path / "other", make(tmp_path, 5))
    monkeypatch.chdir(tmp_path)
    assert checkpoints.find_checkpoint(tmp_path, "checkpoint-5") == "checkpoint-5"


@pytest.mark.parametrize(
    "name",
    ["checkpoint-5", "config.json", "model.safetensors", "preprocessor_config.json", "README.md",
     "report.json"],
)  # fmt: skip
def test_a_new_run_does_not_start_where_it_would_overwrite(name, tmp_path):
    assert checkpoints.find_checkpoint(tmp_path, None) is None
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"{tmp_path} has {name} in it: .*another --output_dir"):
        checkpoints.find_checkpoint(tmp_path, None)


def test_the_linear_probe_is_the_last_where_no_checkpoint_is_complete(tmp_path):
    """A run that was killed while it wrote its first checkpoint could not be resumed."""
    make(tmp_path, 5, files=("model.safetensors",))
    probe = tmp_path / checkpoints.LINEAR_PROBE
    probe.mkdir()
    (probe / checkpoints.CHOICE_FILE).write_text("{}")
    assert checkpoints.find_checkpoint(tmp_path, "last") == str(probe)
    assert checkpoints.steps_done(str(probe), "fp32") == 0
    (tmp_path / "checkpoint-5").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="has linear_probe in it"):
        checkpoints.find_checkpoint(tmp_path, None)  # it may be of other tracks


def test_machines_that_do_not_share_the_run_are_told(tmp_path, monkeypatch):
    """Otherwise the second one would look for the linear probe in vain, after hours."""
    monkeypatch.setattr(checkpoints, "gather_object", lambda here: [*here, False])
    arguments = SimpleNamespace(output_dir=str(tmp_path / "run"), should_save=True)
    half_written = tmp_path / "run" / checkpoints.FINISHING  # by a run that was killed
    half_written.mkdir(parents=True)
    with (
        pytest.raises(InputError, match=r"The machines do not share .*/run: "),
        checkpoints.open_folder(arguments),
    ):
        pass
    assert not half_written.exists()


def test_an_interrupted_replacement_is_not_a_finished_run(tmp_path, monkeypatch):
    """Weights of one run beside the report of another would be served as one model."""
    for name in ("model.safetensors", "report.json"):
        (tmp_path / name).write_text("old")
    replace = os.replace

    def killed_after_one(source: Path, target: Path) -> None:
        if any(path.read_text() == "new" for path in tmp_path.iterdir() if path.is_file()):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed_after_one)
    (tmp_path / checkpoints.FINISHING).mkdir()
    for name in ("model.safetensors", "report.json"):
        (tmp_path / checkpoints.FINISHING / name).write_text("new")
        (tmp_path / checkpoints.FINISHING / name).chmod(0o600)  # as safetensors does
    with pytest.raises(KeyboardInterrupt):
        checkpoints.move_into_place(tmp_path)
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"model.safetensors"}
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o044 == 0o044, "others may read it"


def test_a_run_in_fp16_is_not_resumed_in_another_precision(tmp_path):
    """It ended in a traceback."""
    torch.save({"scale": 65536.0}, tmp_path / "scaler.pt")
    (tmp_path / "trainer_state.json").write_text('{"global_step": 20, "epoch": 2.0}')
    assert checkpoints.steps_done(str(tmp_path), "fp16") == 20
    with pytest.raises(InputError, match="was trained in fp16, and this run would use bf16"):
        checkpoints.steps_done(str(tmp_path), "bf16")
