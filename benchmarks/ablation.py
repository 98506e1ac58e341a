"""What each ingredient of the recipe is worth: validation accuracy, mean and spread over seeds.

    python benchmarks/ablation.py data/gtzan --model_name_or_path ntu-spml/distilhubert

Source of the table in docs/training.md. Trains the audio course's recipe (course_recipe.py) and
then train_hf.py with the recipe of configs/gtzan.json, built up ingredient by ingredient. Only the
validation split is scored. Prints a Markdown table and keeps every run under --output_dir; finished
runs are not repeated, and --jobs runs are trained side by side with one thread each.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import ROOT, print_head, print_row

NO_AUGMENTATION = {"mixup": 0, "speed_perturbation": False, "spec_augment": False}
CPU_MINUTES = "cpu_minutes.txt"  # of the whole run: other work on the machine adds nothing
COURSE = "the course's recipe"
ROWS: dict[str, dict[str, object]] = {
    "windows of 3 s, random crops, genres in turn": {
        **NO_AUGMENTATION,
        "linear_probe": False,
        "learning_rate": 5e-5,
    },
    "the linear probe, on the best layer": {"max_steps": 1, "learning_rate": 0},
    "linear probe first, then fine-tuned": NO_AUGMENTATION,
    "+ mixup": {"speed_perturbation": False, "spec_augment": False},
    "+ SpecAugment, speed perturbation = configs/gtzan.json": {},
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="a folder that data_prep made")
    parser.add_argument("--model_name_or_path", default="ntu-spml/distilhubert")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", default=[COURSE, *ROWS], choices=[COURSE, *ROWS])
    parser.add_argument("--course_epochs", type=int, default=10)
    parser.add_argument("--precision", default="bf16", choices=("fp32", "fp16", "bf16"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output_dir", type=Path, default=ROOT / "runs" / "ablation")
    return parser.parse_args()


def run_course(arguments: argparse.Namespace, seed: int, folder: Path) -> dict:
    result = folder / "course.json"
    if not result.is_file():
        call(
            "benchmarks/course_recipe.py", arguments.dataset, seed=seed, output=result,
            model_name_or_path=arguments.model_name_or_path, precision=arguments.precision,
            num_train_epochs=arguments.course_epochs, log=folder / "log.txt",
        )  # fmt: skip
    scores = json.loads(result.read_text())
    return {
        "accuracy": scores["accuracy"],
        "short": scores["short_accuracy"],
    }


def run_ours(arguments: argparse.Namespace, changes: dict, seed: int, folder: Path) -> dict:
    report = folder / "report.json"
    if not report.is_file():
        if any(folder.glob("checkpoint-*")):  # it was stopped
            changes = changes | {"resume_from_checkpoint": "last"}
        call(
            "train_hf.py", "configs/gtzan.json", dataset=arguments.dataset, seed=seed,
            model_name_or_path=arguments.model_name_or_path, precision=arguments.precision,
            output_dir=folder, save_total_limit=1, disable_tqdm=True, log=folder / "log.txt",
            **changes,
        )  # fmt: skip
    content = json.loads(report.read_text())
    return {
        "accuracy": content["validation"]["accuracy"],
        "short": content["validation"]["short"]["accuracy"],
    }


def call(script: str, first: str, log: Path, **options: object) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    flags = [str(text) for name, value in options.items() for text in (f"--{name}", value)]
    threads = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, script, str(first), *flags], cwd=ROOT, env=threads, stdout=file,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{script} failed; its output is in {log}")
    (log.parent / CPU_MINUTES).write_text(f"{(usage.ru_utime + usage.ru_stime) / 60:.2f}\n")


def run_row(arguments: argparse.Namespace, row: str, seed: int) -> dict:
    folder = arguments.output_dir / f"{row.replace(' ', '-').replace('/', '-')}-{seed}"
    if row == COURSE:
        scores = run_course(arguments, seed, folder)
    else:
        scores = run_ours(arguments, ROWS[row], seed, folder)
    return scores | {"minutes": float((folder / CPU_MINUTES).read_text())}


def mean_and_spread(accuracies: list[float]) -> str:
    """With the standard deviation, where there are several seeds."""
    spread = f" ± {statistics.stdev(accuracies):.3f}" if len(accuracies) > 1 else ""
    return f"{statistics.mean(accuracies):.3f}{spread}"


def main() -> None:
    arguments = parse_arguments()
    with ThreadPoolExecutor(arguments.jobs) as pool:
        results = {
            row: [pool.submit(run_row, arguments, row, seed) for seed in arguments.seeds]
            for row in arguments.rows
        }
        print(f"{arguments.model_name_or_path}, validation, seeds {arguments.seeds}")
        print_head("recipe", "whole clips", "2 s of each", "minutes of one core")
        for row, futures in results.items():
            runs = [future.result() for future in futures]
            cells = [mean_and_spread([run[key] for run in runs]) for key in ("accuracy", "short")]
            minutes = statistics.median(run["minutes"] for run in runs)
            print_row(row, *cells, f"{minutes:.1f}")


if __name__ == "__main__":
    main()
