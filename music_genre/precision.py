"""Which number format a model is computed in, and why: the fastest that gives the same answers."""

import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

PRECISIONS = ("fp32", "bf16")
TOLERANCE = 1e-2  # of a probability
MIN_GAIN = 1.2  # below, fp32 is as good and the same on every machine


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

    Args:
        model: in evaluation mode.
        features: some windows on the model's device, as `extract_features` gives them.
    """
    if features.device.type != "cpu":
        return "fp32", "exact, and a GPU has time enough"
    if not cpu_multiplies_bf16():
        return "fp32", "this CPU is not faster in any other"
    exact, exact_seconds = _answer(model, features, "fp32")
    rounded, rounded_seconds = _answer(model, features, "bf16")
    difference, gain = float((exact - rounded).abs().max()), exact_seconds / rounded_seconds
    if difference > TOLERANCE:
        return "fp32", f"bf16 changes probabilities by up to {difference:.3f}"
    if gain < MIN_GAIN:
        return "fp32", "bf16 is hardly faster for this model"
    return "bf16", f"{gain:.1f} times as fast on this CPU, probabilities within {TOLERANCE:g}"


def _answer(
    model: "PreTrainedModel", features: "torch.Tensor", precision: str
) -> tuple["torch.Tensor", float]:
    import torch

    from music_genre.windows import clip_probabilities

    seconds = float("inf")
    with torch.inference_mode(), autocast(features.device, precision):
        for _ in range(3):  # the first one sets up memory and kernels
            start = time.perf_counter()
            (probabilities,) = clip_probabilities(model, [features])
            seconds = min(seconds, time.perf_counter() - start)
    return probabilities, seconds
