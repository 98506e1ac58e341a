"""The packages and the hardware that a run used, for report.json."""

import importlib.metadata
import platform

import torch

PACKAGES = ("torch", "torchaudio", "transformers", "datasets", "accelerate", "huggingface_hub")


def versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in PACKAGES
    }


def hardware(device: torch.device | None = None, num_processes: int = 1) -> str:
    """Describe the hardware of num_processes: GPUs by their name, or the number of CPU cores.

    device: the device of one process; by default a GPU if there is one.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        return f"{num_processes} x {torch.cuda.get_device_name(device)}"
    if device.type == "mps":
        return "an Apple GPU"
    cpu = torch.cpu.get_capabilities().get("cpu_name", platform.machine())
    return f"{torch.get_num_threads()} cores of {cpu}"
