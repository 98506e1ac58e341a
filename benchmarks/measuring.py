"""Code that the benchmarks share: alternating variants, tables, and a net to measure.

Decoder processes import the benchmark that starts them, and this file with it. Packages that are
slow to import are therefore imported in functions.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def parser_of(description: str) -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=description, formatter_class=formatter)


def alternate(variants: Mapping[str, Sequence[object]], runs: int) -> dict[str, list[dict]]:
    """Run each variant's command `runs` times, in turn; its last line is its figures, as JSON.

    Threads sleep while they wait, as in train_hf.py and app.py.
    """
    figures: dict[str, list[dict]] = {name: [] for name in variants}
    for _ in range(runs):
        for name, command in variants.items():
            result = subprocess.run(
                [sys.executable, *map(str, command)],
                cwd=ROOT,
                env={"OMP_WAIT_POLICY": "PASSIVE"} | os.environ,
                capture_output=True,
                text=True,
            )
            if result.returncode:
                sys.exit(f"{name} failed:\n{result.stderr[-3000:]}")
            figures[name].append(json.loads(result.stdout.splitlines()[-1]))
    return figures


def peak_gigabytes(who: int = resource.RUSAGE_SELF) -> float:
    return resource.getrusage(who).ru_maxrss / 2**20


def median(figures: Sequence[Mapping[str, float]], key: str) -> float:
    return statistics.median(run[key] for run in figures)


def spread(values: Sequence[float], form: str) -> str:
    """The median and the extremes, such as "3.1 (2.9 to 3.4)"."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def print_row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def print_head(*names: str) -> None:
    """The head of a Markdown table: text on the left, figures on the right."""
    print_row(*names)
    print_row("---", *["---:"] * (len(names) - 1))


def save_distilhubert(folder: Path, window_seconds: float = 5.0) -> Path:
    """Save a net of ntu-spml/distilhubert's architecture, with random weights."""
    import torch
    from transformers import HubertConfig, HubertForSequenceClassification, Wav2Vec2FeatureExtractor

    from data_prep.gtzan import GENRES

    torch.manual_seed(0)
    config = HubertConfig(
        num_hidden_layers=2,
        feat_proj_layer_norm=False,
        apply_spec_augment=False,
        layerdrop=0.0,
        id2label=dict(enumerate(GENRES)),
        label2id={genre: i for i, genre in enumerate(GENRES)},
        window_seconds=window_seconds,
    )
    HubertForSequenceClassification(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=False, do_normalize=True).save_pretrained(folder)
    return folder
