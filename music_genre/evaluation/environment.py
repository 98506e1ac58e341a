"""What a run was computed with, for report.json: packages and hardware."""

import importlib.metadata
import platform

import torch

PACKAGES = ("torch", "torchaudio", "transformers", "datasets", "accelerate", "huggingface_hub")


def versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in PACKAGES
    }


def hardware() -> str:
    """The GPU by its name, or the number of CPU cores."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    cpu = torch.cpu.get_capabilities().get("cpu_name", platform.machine())
    return f"{torch.get_num_threads()} cores of {cpu}"
