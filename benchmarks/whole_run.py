"""From a folder of music to the page: the seconds of each stage of the two commands.

    python benchmarks/whole_run.py                            # 300 clips, five genres, probe alone
    python benchmarks/whole_run.py --genres 10 --clips 640 --epochs 8 --course    # GTZAN's size

Source of "The whole run" in docs/speed.md. Synthesised clips of 30 s, written before the clock
starts, a folder per genre; `accelerate launch train_hf.py` and then `python app.py`, each in a
process of its own, as docs/your-own-genres.md has them. A stage ends with the line that the run
prints. The default model has DistilHuBERT's architecture and random weights: only time is measured.
`--course` adds the stages of Hugging Face's audio course on the same clips, without its start. It
encodes them all; its hours of training are computed from a few steps, and scoring from a few clips.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, as train_hf.py has it

import soundfile
from datasets import Audio, load_from_disk
from tqdm import tqdm
from transformers import TrainerCallback

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import course_recipe
from benchmarks.inputs import save_distilhubert
from benchmarks.measuring import ROOT, print_head, print_row
from benchmarks.page_client import serving
from data_prep.prepared import PREPARATION_FILE
from data_prep.synthetic import GENRES, synthesise
from music_genre.evaluation.environment import hardware

RATE = 22_050  # hertz, as GTZAN has
STAGES = {  # how the line begins that ends a stage
    "start, and read the folder": "Genres: ",
    "prepare the dataset": "Precision",
    "linear probe: features, layer, strength": "Linear probe on",
    "linear probe: scored, written, servable": "Written to",
    "fine-tune, score, written": "Written to",
}
COURSE_EPOCHS, COURSE_BATCH, COURSE_STEPS = 10, 8, 2  # steps: after a first one


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--genres", type=int, default=5)
    parser.add_argument("--clips", type=int, default=300, help="of all genres together")
    parser.add_argument("--clip_seconds", type=float, default=30.0)
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--model", type=Path, help="default: DistilHuBERT's architecture")
    parser.add_argument("--course", action="store_true", help="the course's stages, too (16 GB)")
    return parser.parse_args()


def write_music(folder: Path, arguments: argparse.Namespace) -> None:
    for i in tqdm(range(arguments.clips), "Synthesising", unit=" clips"):
        genre = GENRES[i % arguments.genres]
        path = folder / genre / f"{i:04}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, synthesise(genre, i, arguments.clip_seconds, RATE), RATE)


def seconds_of_stages(command: list[str], folder: Path, n_stages: int) -> dict[str, float]:
    """Run a command that prints a line at the end of each of the first stages."""
    names, seconds, printed = list(STAGES)[:n_stages], {}, []
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    )
    start = time.perf_counter()
    for line in process.stdout:
        printed.append(line)
        current = names[len(seconds)] if len(seconds) < n_stages else None
        if current and line.startswith(STAGES[current]):
            now = time.perf_counter()
            seconds[current], start = now - start, now
    if process.wait() or len(seconds) < n_stages:
        sys.exit("".join(printed))
    seconds[names[-1]] += time.perf_counter() - start  # until the process has ended
    return seconds


def seconds_of_course(prepared: Path, model: Path) -> dict[str, float]:
    """Of each stage; training and scoring are computed from their first steps and clips."""
    options = argparse.Namespace(
        dataset=str(prepared), model_name_or_path=str(model), seed=0, from_scratch=True,
        precision="auto", num_train_epochs=COURSE_EPOCHS, checkpoints=None,
        max_steps=1 + COURSE_STEPS,
    )  # fmt: skip
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs) -> None:
            ends.append(time.perf_counter())

    clips = load_from_disk(prepared).cast_column("audio", Audio(decode=False))
    start = time.perf_counter()
    trainer = course_recipe.make_trainer(options)
    scored = {
        name: course_recipe.encode(clips[name], trainer.processing_class)
        for name in ("validation", "test")
    }
    encoding = time.perf_counter() - start
    trainer.add_callback(Clock())
    trainer.train()
    of_step = (ends[-1] - ends[0]) / COURSE_STEPS
    some = scored["validation"].select(range(min(COURSE_BATCH, len(scored["validation"]))))
    start = time.perf_counter()
    trainer.predict(some)
    of_clip = (time.perf_counter() - start) / len(some)
    n_steps = -(-len(clips["train"]) // COURSE_BATCH)
    n_scored = COURSE_EPOCHS * len(scored["validation"]) + len(scored["test"])
    return {
        "encode the clips": encoding,
        f"train {COURSE_EPOCHS} epochs": COURSE_EPOCHS * n_steps * of_step,
        "score validation after each, and test": n_scored * of_clip,
    }


def print_table(seconds: dict[str, float]) -> None:
    total = sum(seconds.values())
    print_head("stage", "seconds", "share")
    for name, value in (seconds | {"together": total}).items():
        print_row(name, f"{value:.1f}", f"{value / total:.0%}")


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_music(folder / "My Music", arguments)
        model = arguments.model or save_distilhubert(folder / "model")
        launch = [sys.executable, "-u", "-m", "accelerate.commands.launch", ROOT / "train_hf.py"]
        command = [
            *launch, "--dataset", "My Music", "--output_dir", "runs/mine",
            "--num_train_epochs", arguments.epochs, "--model_name_or_path", model.resolve(),
        ]  # fmt: skip
        n_stages = len(STAGES) if arguments.epochs else len(STAGES) - 1
        seconds = seconds_of_stages([str(part) for part in command], folder, n_stages)
        start = time.perf_counter()
        with serving(str(folder / "runs" / "mine"), folder / "page"):
            seconds["python app.py: the page is ready"] = time.perf_counter() - start
        if arguments.course:
            (prepared,) = (path.parent for path in folder.glob(f"data/*/{PREPARATION_FILE}"))
            of_course = seconds_of_course(prepared, model)
    print(
        f"{hardware()}; {arguments.clips} clips of {arguments.clip_seconds:g} s, "
        f"{arguments.genres} genres, {arguments.epochs} epochs, one run"
    )
    print_table(seconds)
    if arguments.course:
        print(f"\nThe audio course's recipe, from {COURSE_STEPS} steps and {COURSE_BATCH} clips:")
        print_table(of_course)


if __name__ == "__main__":
    main()
