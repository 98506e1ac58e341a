"""Which number format a model is served in, and why: the fastest that gives the same answers."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

PRECISIONS = ("fp32", "bf16")
TOLERANCE = 1e-2  # of a probability
MIN_PARAMETERS = 1_000_000  # a smaller model takes no time, and casting takes its own


def autocast(device: "torch.device", precision: str) -> AbstractContextManager:
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def cpu_multiplies_bf16() -> bool:
    """AMX or AVX512-BF16; other CPUs emulate it, which is slower than fp32."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def choose(model: "PreTrainedModel", features: "torch.Tensor") -> tuple[str, str]:
    """The precision to serve a model in, and the reason, as a person would read it.

    No clock is asked: the same machine must give the same answers each time. How much faster it is
    shows benchmarks/serving.py.

    Args:
        model: in evaluation mode.
        features: some windows on the model's device, as `extract_features` gives them.
    """
    if features.device.type != "cpu":
        return "fp32", "exact, and a GPU has time enough"
    if not cpu_multiplies_bf16() or model.num_parameters() < MIN_PARAMETERS:
        return "fp32", "another would not be faster here"
    exact, rounded = (_probabilities(model, features, precision) for precision in PRECISIONS)
    difference = float((exact - rounded).abs().max())
    if difference > TOLERANCE:
        return "fp32", f"bf16 changes probabilities by up to {difference:.3f}"
    return "bf16", f"this CPU multiplies it, and probabilities are within {TOLERANCE:g} of fp32"


def _probabilities(
    model: "PreTrainedModel", features: "torch.Tensor", precision: str
) -> "torch.Tensor":
    import torch

    with torch.inference_mode(), autocast(features.device, precision):
        return model(**{model.main_input_name: features}).logits.float().softmax(-1)
