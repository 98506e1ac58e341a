"""How the benchmarks measure: alternating variants, a process for each, and tables."""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

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
