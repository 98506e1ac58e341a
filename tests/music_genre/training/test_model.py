"""Loading a pretrained encoder: what is said of tensors that it lacks, and its window."""

import logging

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ASTForAudioClassification, AutoConfig, AutoFeatureExtractor, AutoModel

from music_genre.errors import InputError
from music_genre.loading import LOADING_LOGGERS, find_model
from music_genre.training.model import load_for_training
from tests.families import FAMILIES


@pytest.fixture
def encoder(tiny_config, tmp_path):
    """As on the Hub: an encoder without a head."""
    AutoModel.from_config(AutoConfig.from_pretrained(tiny_config)).save_pretrained(tmp_path)
    changes = {"do_normalize": False, "return_attention_mask": True}
    extractor = AutoFeatureExtractor.from_pretrained(tiny_config, **changes)
    extractor.save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def warnings():
    """What transformers prints when it loads a model."""
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = logging.getLogger(LOADING_LOGGERS[0])
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


def load(folder):
    return load_for_training(find_model(str(folder)), ["a", "b"], 1.0, from_scratch=False)


def test_a_new_head_is_no_news(encoder, warnings, capsys):
    _, extractor = load(encoder)
    assert extractor.do_normalize, "loudness does not matter, whatever the base did"
    assert not extractor.return_attention_mask
    assert not warnings
    assert not capsys.readouterr().out


@pytest.mark.parametrize("is_there", [False, True])
def test_a_tensor_that_the_encoder_lacks_is_named(encoder, warnings, capsys, is_there):
    """Or has in another shape."""
    file = encoder / "model.safetensors"
    tensors = load_file(file)
    lost = next(name for name in tensors if "q_proj.weight" in name)
    tensors |= {lost: torch.zeros(3, 3)}
    if not is_there:
        del tensors[lost]
    save_file(tensors, file, metadata={"format": "pt"})
    load(encoder)
    assert not warnings
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Warning: ")
    assert "lacks 1 tensors of the encoder" in line
    assert lost in line


def test_whisper_is_cut_to_a_window_of_whole_seconds(tmp_path):
    for part in FAMILIES["whisper"]:
        part.save_pretrained(tmp_path)
    base = find_model(str(tmp_path))
    for seconds in (2.5, 31.0):
        with pytest.raises(InputError, match="1 to 30 whole seconds"):
            load_for_training(base, ["a", "b"], seconds, from_scratch=True)
    model, extractor = load_for_training(base, ["a", "b"], 2.0, from_scratch=True)
    assert (model.config.max_source_positions, extractor.n_samples) == (100, 32_000)
    assert not model.encoder.embed_positions.weight.requires_grad, "they are sinusoids"


def test_asts_grid_of_positions_is_cut_to_its_middle(tmp_path):
    """Two bands of twelve times; a window of 0.64 s has five."""
    config, feature_extractor = FAMILIES["ast"]
    base = ASTForAudioClassification(config)
    torch.nn.init.normal_(base.audio_spectrogram_transformer.embeddings.position_embeddings)
    for part in (base, feature_extractor):
        part.save_pretrained(tmp_path)
    model, _ = load_for_training(find_model(str(tmp_path)), ["a", "b"], 0.64, from_scratch=False)
    assert model.config.window_seconds == 0.64
    old, new = (
        net.audio_spectrogram_transformer.embeddings.position_embeddings.squeeze(0)
        for net in (base, model)
    )
    assert torch.equal(new[:2], old[:2])
    assert torch.equal(new[2:].unflatten(0, (2, 5)), old[2:].unflatten(0, (2, 12))[:, 3:8])
