"""One rule for the hardware; serving also refuses a precision that changes probabilities."""

from types import SimpleNamespace

import pytest
import torch
from transformers import HubertConfig, HubertForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutput

from music_genre import precision
from music_genre.training.arguments import RecipeArguments

CPU = torch.device("cpu")


def pretend_cpu(monkeypatch, **capabilities: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)


def pretend_gpu(monkeypatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "a GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)


class Shifted(torch.nn.Module):
    """Two classes; under autocast the first probability is higher by `change`."""

    main_input_name = "input_values"

    def __init__(self, change: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(precision.MIN_PARAMETERS))
        self.change = change

    def forward(self, input_values: torch.Tensor) -> SimpleNamespace:
        p = 0.5 + self.change * torch.is_autocast_enabled("cpu")
        logits = torch.tensor([[p, 1 - p]]).log()
        return SimpleNamespace(logits=logits.expand(len(input_values), 2))


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = HubertConfig(conv_dim=(64,) * 7, num_hidden_layers=1, hidden_size=192,
                          intermediate_size=2048, num_attention_heads=4, num_labels=10)  # fmt: skip
    return HubertForSequenceClassification(config).eval()


@pytest.fixture
def features():
    return torch.randn(2, 8_000)


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((6, 1), "fp32"), ((7, 0), "fp16"), ((8, 0), "bf16")],
)
def test_a_gpu_computes_in_what_its_tensor_cores_multiply(monkeypatch, capability, expected):
    pretend_gpu(monkeypatch, capability)
    assert precision.fast_precision(torch.device("cuda"))[0] == expected


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"amx_bf16": True}, "bf16"),
        ({"avx512_bf16": True}, "bf16"),
        ({}, "fp32"),
    ],
)
def test_training_and_serving_follow_the_same_rule_on_a_cpu(
    monkeypatch, tmp_path, model, features, capabilities, expected
):
    pretend_cpu(monkeypatch, **capabilities)
    name, reason = precision.fast_precision(CPU)
    assert name == expected
    training = RecipeArguments(output_dir=str(tmp_path), use_cpu=True)
    assert (training.precision, training.precision_reason) == (name, reason)
    assert precision.serving_precision(model, features) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [(0.0, "bf16"), (0.005, "bf16"), (0.02, "fp32"), (float("nan"), "fp32")],
)
def test_serving_accepts_a_change_of_one_percentage_point(monkeypatch, features, change, expected):
    pretend_cpu(monkeypatch, avx512_bf16=True)
    assert precision.serving_precision(Shifted(change), features) == expected


def test_a_tiny_model_stays_exact(features, monkeypatch):
    pretend_cpu(monkeypatch, amx_bf16=True)
    tiny = Shifted(0.0)
    tiny.weight = torch.nn.Parameter(torch.zeros(10))
    assert precision.serving_precision(tiny, features) == "fp32"


def test_no_pass_has_more_windows_than_fit_into_memory():
    """A batch of eight songs of ten minutes has 1,600 windows."""

    class Model:
        main_input_name = "input_values"

        def __call__(self, input_values: torch.Tensor) -> SequenceClassifierOutput:
            sizes.append(len(input_values))
            return SequenceClassifierOutput(logits=input_values[:, :2])

    sizes, features = [], torch.rand(163, 5)
    found = precision.probabilities_in("fp32", Model(), features)
    assert sizes == [64, 64, 35]
    torch.testing.assert_close(found, features[:, :2].softmax(-1))
