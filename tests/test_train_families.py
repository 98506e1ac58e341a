"""The best checkpoint is saved, tensor by tensor, for every family the README names.

transformers renames the tensors of some families when it saves and loads them.
"""

import pytest
from safetensors.torch import load_file
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

from music_genre import GenreClassifier
from music_genre.report import read_report
from music_genre.training.trainer import GenreTrainer
from tests.families import FAMILIES, four_steps
from tests.training_runs import (
    check_saved_is_best,
    evaluation_favouring,
    step_interrupted_after,
    train,
)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_best_checkpoint_is_saved_on_request_even_after_a_stop_and_a_move(
    family, prepared, tmp_path, monkeypatch
):
    run_dir = tmp_path / "run"
    monkeypatch.setattr(GenreTrainer, "evaluate", evaluation_favouring(2))
    with monkeypatch.context() as patched, pytest.raises(SystemExit) as stop:
        patched.setattr(GenreTrainer, "training_step", step_interrupted_after(2))
        train(*four_steps(family, prepared, tmp_path, run_dir))
    assert stop.value.code == 143
    moved = run_dir.rename(tmp_path / "moved")
    train(*four_steps(family, prepared, tmp_path, moved), "--resume_from_checkpoint", "last")
    check_saved_is_best(moved, best=2, last=4)


def test_the_configuration_for_ast(prepared, tmp_path, caplog):
    """A tiny AST with a head of 527 labels, like the published one, is trained the same way."""
    base, output = tmp_path / "ast", tmp_path / "run"
    config = ASTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        num_labels=527,
    )  # fmt: skip
    ASTForAudioClassification(config).save_pretrained(base)
    ASTFeatureExtractor().save_pretrained(base)
    train(
        "configs/gtzan-ast.json", "--dataset", prepared, "--model_name_or_path", base,
        "--output_dir", output, "--max_steps", "1", "--per_device_train_batch_size", "2",
        "--bf16", "False", "--disable_tqdm", "True",
    )  # fmt: skip
    assert not [record for record in caplog.records if record.name.startswith("transformers")]
    assert read_report(output)["train"]["linear_probe"]["of_layers"] == 2
    assert GenreClassifier(output).window_seconds == 5
    n_positions = 12 * 49 + 2  # bands of the grid, times in 5 s, and two tokens
    saved = load_file(output / "model.safetensors")
    (grid,) = [tensor for name, tensor in saved.items() if name.endswith("position_embeddings")]
    assert grid.shape == (1, n_positions, 16)
