import pytest
import torch

from music_genre.kernels import precision


@pytest.fixture
def model():
    from transformers import HubertConfig, HubertForSequenceClassification

    torch.manual_seed(0)
    config = HubertConfig(conv_dim=(64,) * 7, num_hidden_layers=1, hidden_size=192,
                          intermediate_size=2048, num_attention_heads=4, num_labels=10)  # fmt: skip
    return HubertForSequenceClassification(config).eval()


@pytest.fixture
def features():
    return torch.randn(2, 8_000)


def test_bf16_where_the_cpu_multiplies_it(model, features, monkeypatch):
    monkeypatch.setattr(precision, "cpu_multiplies_bf16", lambda: True)
    assert precision.choose(model, features)[0] == "bf16"
    monkeypatch.setattr(precision, "cpu_multiplies_bf16", lambda: False)
    assert precision.choose(model, features)[0] == "fp32"


def test_not_where_it_changes_the_answers(model, features, monkeypatch):
    monkeypatch.setattr(precision, "cpu_multiplies_bf16", lambda: True)
    monkeypatch.setattr(precision, "TOLERANCE", 1e-9)
    name, reason = precision.choose(model, features)
    assert name == "fp32"
    assert "changes probabilities" in reason


def test_a_tiny_model_stays_exact(tiny_classifier, features, monkeypatch):
    from transformers import AutoModelForAudioClassification

    monkeypatch.setattr(precision, "cpu_multiplies_bf16", lambda: True)
    tiny = AutoModelForAudioClassification.from_pretrained(tiny_classifier).eval()
    assert precision.choose(tiny, features)[0] == "fp32"
