"""The saved model is the best checkpoint, tensor by tensor, for every family the README names.

transformers renames the tensors of some families when it saves and loads them.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    HubertConfig,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
)

from music_genre.training.trainer import ClipTrainer
from tests.training_runs import (
    check_saved_is_best,
    evaluation_favouring,
    flags,
    launch,
    step_interrupted_after,
    train,
)

SPEECH = {
    "conv_dim": (8,) * 7, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 8,
}  # fmt: skip
FAMILIES = {
    "hubert": (HubertConfig(**SPEECH), Wav2Vec2FeatureExtractor()),
    "wav2vec2": (Wav2Vec2Config(**SPEECH), Wav2Vec2FeatureExtractor()),
    "wavlm": (WavLMConfig(**SPEECH), Wav2Vec2FeatureExtractor()),
    "whisper": (
        WhisperConfig(
            d_model=16, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
            classifier_proj_size=8,
        ),
        WhisperFeatureExtractor(),
    ),
    "ast": (
        ASTConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            max_length=128, num_mel_bins=32,
        ),
        ASTFeatureExtractor(max_length=128, num_mel_bins=32),
    ),
}  # fmt: skip


def options(family: str, prepared: Path, folder: Path, output_dir: Path) -> list[str]:
    """Four steps, of which the second and the fourth are validated and saved."""
    model = folder / family
    for part in FAMILIES[family]:
        part.save_pretrained(model)
    return flags(
        prepared, model, output_dir, max_steps=4, eval_strategy="steps", eval_steps=2,
        save_strategy="steps", save_steps=2, per_device_train_batch_size=4,
    )  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_the_saved_model_is_the_best_checkpoint_also_after_sigterm(
    family, prepared, tmp_path, monkeypatch
):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    monkeypatch.setattr(ClipTrainer, "evaluate", evaluation_favouring(2))
    train(*options(family, prepared, tmp_path, whole))
    check_saved_is_best(whole, best=2, last=4)

    with monkeypatch.context() as patched, pytest.raises(SystemExit) as stop:
        patched.setattr(ClipTrainer, "training_step", step_interrupted_after(2))
        train(*options(family, prepared, tmp_path, stopped))
    assert stop.value.code == 143
    train(*options(family, prepared, tmp_path, stopped), "--resume_from_checkpoint", "last")
    check_saved_is_best(stopped, best=2, last=4)
    last, resumed = (
        load_file(folder / "checkpoint-4" / "model.safetensors") for folder in (whole, stopped)
    )
    assert [name for name in last if not torch.equal(last[name], resumed[name])] == []


@pytest.mark.parametrize("family", ["hubert", "ast"])
def test_two_processes_save_the_best_checkpoint(family, root, prepared, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import train_hf\n"
        "from music_genre.training.trainer import ClipTrainer\n"
        "from tests.training_runs import evaluation_favouring\n"
        "ClipTrainer.evaluate = evaluation_favouring(2)\n"
        "train_hf.main()\n"
    )
    arguments = [*options(family, prepared, tmp_path, tmp_path / "run"), "--use_cpu", "True"]
    launcher = ["--multi_gpu", "--num_processes", "2"]
    result = launch(root, *arguments, launcher=launcher, script=script)
    assert result.returncode == 0, result.stderr[-3000:]
    check_saved_is_best(tmp_path / "run", best=2, last=4)
