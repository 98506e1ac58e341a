"""How the benchmarks measure: alternating variants, a process for each, operations, tables."""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.inputs import music
from music_genre.loading import find_model, load_classifier, load_feature_extractor
from music_genre.windows import extract_features

ROOT = Path(__file__).resolve().parents[1]


def alternate(variants: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Time each variant `runs` times, in turn, after one round of warm-up; in seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for i in range(runs + 1):
        for name, variant in variants.items():
            start = time.perf_counter()
            variant()
            if i:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def run_apart(script: str, *arguments: object) -> dict[str, float]:
    """Run a benchmark in a process of its own; it prints its figures as JSON, in the last line.

    Threads sleep while they wait, as train_hf.py and app.py have it.
    """
    result = subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        cwd=ROOT,
        env={"OMP_WAIT_POLICY": "PASSIVE"} | os.environ,
        capture_output=True,
        text=True,
    )
    if result.returncode:
        sys.exit(f"{' '.join(map(str, arguments))} failed:\n{result.stderr[-3000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def peak_gigabytes(who: int = resource.RUSAGE_SELF) -> float:
    return resource.getrusage(who).ru_maxrss / 2**20


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def spread(values: Sequence[float], form: str) -> str:
    """The median and the extremes, such as "3.1 (2.9 to 3.4)"."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def print_row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def print_head(*names: str) -> None:
    """The head of a Markdown table: text on the left, figures on the right."""
    print_row(*names)
    print_row("---", *["---:"] * (len(names) - 1))


def count_operations(model: str | Path, seconds: float) -> tuple[int, int]:
    """Floating point operations of transformers' own forward pass over a window.

    Returns:
        Those of the feature encoder, 0 where the model has none, and those of the whole pass.
    """
    found = find_model(str(model))
    net = load_classifier(found)
    net.set_attn_implementation("eager")  # the counter does not know the products of the others
    features = extract_features(load_feature_extractor(found), [music(seconds)])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(features)
    encoder = f"{type(net).__name__}.{net.base_model_prefix}.feature_extractor"
    of_modules = counter.get_flop_counts()
    return sum(of_modules.get(encoder, {}).values()), counter.get_total_flops()


def matrix_products(
    n_operations: float, dtype: torch.dtype, device: torch.device
) -> tuple[Callable[[], None], int]:
    """Products of large matrices, of about as many operations, and their exact number."""
    a = torch.randn(2048, 2048).to(device, dtype)
    of_one = 2 * len(a) ** 3
    n_products = max(1, round(n_operations / of_one))

    def multiply() -> None:
        for _ in range(n_products):
            product = a @ a
        product[0, 0].item()  # waits for a GPU

    return multiply, n_products * of_one
