"""Compare training with what people run today: seconds of audio a second, on the same clips.

    python benchmarks/training.py                              # DistilHuBERT's architecture
    python benchmarks/training.py --steps 40 --precision fp16  # on a T4

Source of the table "Training" in docs/speed.md. Clips of 30 s are synthesised and weights are
random, because only speed is measured. The recipe of Hugging Face's audio course
(course_recipe.py), transformers' example script with its default arguments (`example`) and ours
(configs/gtzan.json) alternate, each in its own process. The first few steps are not timed. "Peak
memory" is the GPU's, or the process's if there is no GPU.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before importing torch, as in train_hf.py

import numpy as np
import torch
from datasets import Audio, load_from_disk
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import course_recipe
from benchmarks.measuring import (
    ROOT,
    alternate,
    median,
    parser_of,
    peak_gigabytes,
    print_head,
    print_row,
    save_distilhubert,
    spread,
)
from data_prep.prepare import prepare
from data_prep.prepared import load_prepared
from data_prep.synthetic import write_archive
from music_genre.evaluation.environment import hardware
from music_genre.loading import find_model
from music_genre.training.arguments import parse_arguments as parse_recipe
from music_genre.training.setup import make_run, use_all_cores
from music_genre.wav import read_wav

WARM_UP = 2  # steps
EXAMPLE_SECONDS = 20.0
COURSE_BATCH = EXAMPLE_BATCH = 8


def parse_arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--steps", type=int, default=8, help="timed steps per run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--clips_per_genre", type=int, default=6)
    parser.add_argument("--clip_seconds", type=float, default=30.0, help="length of each clip")
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16"), default="fp32")
    parser.add_argument("--model", type=Path, help="default: DistilHuBERT's architecture")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


class Clock(TrainerCallback):
    """The seconds of the steps after the warm-up."""

    def __init__(self, steps: int) -> None:
        self.last_step, self.start, self.seconds = WARM_UP + steps, 0.0, 0.0

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if state.global_step == WARM_UP:
            self.start = time.perf_counter()
        if state.global_step == self.last_step:
            self.seconds = time.perf_counter() - self.start


# --- the variants: a trainer, the clips in a step, and the seconds of each -------------------


def course(folder: Path, arguments: argparse.Namespace) -> tuple[Trainer, int, float]:
    options = argparse.Namespace(
        dataset=str(folder / "dataset"), model_name_or_path=str(folder / "model"), seed=0,
        from_scratch=True, precision=arguments.precision, checkpoints=None,
        max_steps=WARM_UP + arguments.steps,
    )  # fmt: skip
    return course_recipe.make_trainer(options), COURSE_BATCH, arguments.clip_seconds


def example(folder: Path, arguments: argparse.Namespace) -> tuple[Trainer, int, float]:
    """Like transformers' run_audio_classification.py: 20 s of each clip, feature encoder frozen.

    Clips are decoded on demand, and the collator pads them with an attention mask. They are
    read from their WAV bytes, because the script's own way needs one more package.
    """
    seconds = min(EXAMPLE_SECONDS, arguments.clip_seconds)
    model_id = str(folder / "model")
    feature_extractor = AutoFeatureExtractor.from_pretrained(model_id, return_attention_mask=True)
    most = int(seconds * feature_extractor.sampling_rate)
    rng = np.random.default_rng(0)

    def transform(rows: dict) -> dict:
        crops = []
        for clip in rows["audio"]:
            waveform = read_wav(clip["bytes"])
            start = rng.integers(max(0, len(waveform) - most) + 1)
            crops.append(waveform[start : start + most])
        inputs = feature_extractor(crops, sampling_rate=feature_extractor.sampling_rate)
        return {"input_values": inputs["input_values"], "labels": list(rows["genre"])}

    dataset = load_from_disk(folder / "dataset")["train"].cast_column("audio", Audio(decode=False))
    dataset.set_transform(transform)
    model = AutoModelForAudioClassification.from_config(AutoConfig.from_pretrained(model_id))
    model.freeze_feature_encoder()
    recipe = TrainingArguments(
        str(folder / "run"), max_steps=WARM_UP + arguments.steps,
        per_device_train_batch_size=EXAMPLE_BATCH, remove_unused_columns=False, save_strategy="no",
        use_cpu=not torch.cuda.is_available(), fp16=arguments.precision == "fp16",
        bf16=arguments.precision == "bf16", disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(model, recipe, train_dataset=dataset, processing_class=feature_extractor)
    return trainer, EXAMPLE_BATCH, seconds


def ours(folder: Path, arguments: argparse.Namespace) -> tuple[Trainer, int, float]:
    data, model, recipe = parse_recipe([
        str(ROOT / "configs" / "gtzan.json"), "--dataset", str(folder / "dataset"),
        "--model_name_or_path", str(folder / "model"), "--from_scratch", "True",
        "--freeze_feature_encoder", "True",  # as with pretrained convolutions
        "--bf16", str(arguments.precision == "bf16"), "--fp16", str(arguments.precision == "fp16"),
        "--max_steps", str(WARM_UP + arguments.steps),
        "--eval_strategy", "no", "--save_strategy", "no",
        "--output_dir", str(folder / "run"), "--disable_tqdm", "True",
    ])  # fmt: skip
    use_all_cores(recipe)
    dataset, preparation = load_prepared(Path(data.dataset))
    base = find_model(model.model_name_or_path, model.revision)
    trainer = make_run(base, dataset, preparation, model, recipe).trainer
    return trainer, recipe.per_device_train_batch_size, model.window_seconds


VARIANTS = {"course": course, "example": example, "ours": ours}


# --- measuring ------------------------------------------------------------------------------


def measure(variant: str, folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    trainer, clips_a_step, seconds = VARIANTS[variant](folder, arguments)
    clock = Clock(arguments.steps)
    trainer.add_callback(clock)
    trainer.train()
    peak = peak_gigabytes()
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 2**30
    return {"rate": clips_a_step * seconds * arguments.steps / clock.seconds, "peak_gb": peak}


def main() -> None:
    arguments = parse_arguments()
    if arguments.one:
        variant, folder = arguments.one
        print(json.dumps(measure(variant, Path(folder), arguments)))
        return
    options = ["--steps", arguments.steps, "--precision", arguments.precision]
    options += ["--clip_seconds", arguments.clip_seconds]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_archive(folder / "clips.zip", arguments.clips_per_genre, arguments.clip_seconds)
        prepare([folder / "clips.zip"], folder / "dataset", split="random")
        if arguments.model:
            (folder / "model").symlink_to(arguments.model.resolve())
        else:
            save_distilhubert(folder / "model")
        commands = {name: [__file__, "--one", name, folder, *options] for name in VARIANTS}
        figures = alternate(commands, arguments.runs)
    print(f"{hardware()}, {arguments.precision}, medians of {arguments.runs} runs (extremes)")
    print_head("recipe", "seconds of audio a second", "peak memory, GB")
    for variant, runs in figures.items():
        rates = spread([run["rate"] for run in runs], ".1f")
        print_row(variant, rates, f"{median(runs, 'peak_gb'):.1f}")


if __name__ == "__main__":
    main()
