"""Choose the number format that a model computes in, by one rule for training and serving.

name, reason = fast_precision(torch.device("cuda"))  # training uses this
name = serving_precision(model, features)  # serving also checks the probabilities
"""

import torch
from transformers import PreTrainedModel

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MAX_PROBABILITY_CHANGE = 1e-2  # that serving accepts for speed
MIN_PARAMETERS = 1_000_000  # a smaller model is fast anyway, and casting its weights costs time
MAX_WINDOWS = 64  # 64 of 3 s take 2.5 GB in DistilHuBERT's convolutions; song batches have hundreds


def fast_precision(device: torch.device) -> tuple[str, str]:
    """Return the number format in which a device multiplies matrices fastest, and the reason.

    Nothing is timed, so the same machine always gives the same answer.

    Returns:
        A key of DTYPES, and a reason to show to a person.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        capability = torch.cuda.get_device_capability(device)
        if capability >= (8, 0):
            return "bf16", f"{name} has tensor cores for it, and it needs no loss scaling"
        if capability >= (7, 0):
            return "fp16", f"{name} has tensor cores for it and none for bf16"
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        if capabilities.get("amx_bf16"):
            return "bf16", "this CPU multiplies matrices in it (AMX)"
        if capabilities.get("avx512_bf16"):
            return "bf16", "this CPU multiplies vectors in it (AVX-512 BF16)"
    return "fp32", "no other format is faster on this hardware"


def serving_precision(model: PreTrainedModel, features: torch.Tensor) -> str:
    """Return the precision to serve a model in: the fast one if it gives the same probabilities.

    Args:
        model: an audio classifier in evaluation mode.
        features: those of some windows, from `extract_features`, on the model's device.

    Returns:
        A key of DTYPES.
    """
    precision, _ = fast_precision(features.device)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    if precision == "fp32" or n_parameters < MIN_PARAMETERS:
        return "fp32"
    exact, rounded = (probabilities_in(name, model, features) for name in ("fp32", precision))
    change = float((exact - rounded).abs().max())
    return precision if change <= MAX_PROBABILITY_CHANGE else "fp32"  # also if it is NaN


def probabilities_in(
    precision: str, model: PreTrainedModel, features: torch.Tensor
) -> torch.Tensor:
    """Return the windows' probabilities, float32, shape (windows, labels), computed in `precision`.

    Each pass takes at most MAX_WINDOWS windows.
    """
    device_type, dtype = features.device.type, DTYPES[precision]
    with torch.inference_mode(), torch.autocast(device_type, dtype, enabled=precision != "fp32"):
        passes = features.split(MAX_WINDOWS)
        logits = [model(**{model.main_input_name: part}).logits for part in passes]
        return torch.cat(logits).float().softmax(-1)
