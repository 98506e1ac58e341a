"""Training beside what people run today: audio per second, on the same clips.

    python benchmarks/training.py                              # DistilHuBERT's architecture
    python benchmarks/training.py --steps 50 --precision fp16  # on a T4

Synthesised clips of 30 s and random weights: only speed is measured. The recipe of Hugging Face's
audio course (course_recipe.py), transformers' example script with its default arguments (`example`)
and ours (configs/gtzan.json) train in processes of their own, alternating. What is timed are the
steps behind the first few. "Waiting" is the share of that time in which a step waits for its input;
"of the matrix rate" are the operations a second that transformers' own modules need for that
training, over those that products of large matrices reach in the same precision; "peak memory" is
the GPU's, or the process's where there is none. `--ways ours compiled` sets torch.compile beside
it, whose compiling is in the warm-up. `--profile` also prints what each run spends its time on, and
slows them down.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as train_hf.py has it
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

WAYS = ("course", "example", "ours", "compiled")
WARM_UP = 2  # steps
CLIP_SECONDS = 30.0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=8, help="timed, of each run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--clips_per_genre", type=int, default=6)
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16"), default="fp32")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS[:3])
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "FOLDER"), help="internal")
    return parser.parse_args()


class Clock:
    """Time from the end of the warm-up on, and how much of it went by waiting for batches."""

    def __init__(self, trainer, steps: int, profiler=None) -> None:
        import torch
        from transformers import TrainerCallback

        clock, get_batch_samples = self, trainer.get_batch_samples
        self.waiting, began = 0.0, time.perf_counter()

        def timed(*args, **kwargs):
            start = time.perf_counter()
            batches = get_batch_samples(*args, **kwargs)
            clock.waiting += time.perf_counter() - start
            return batches

        class Callback(TrainerCallback):
            def on_step_end(self, args, state, control, **kwargs):
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                if state.global_step == WARM_UP:
                    clock.start, clock.waiting = time.perf_counter(), 0.0
                    clock.warm_up = clock.start - began
                    if profiler:
                        profiler.start()
                if state.global_step == WARM_UP + steps:
                    clock.seconds = time.perf_counter() - clock.start
                    if profiler:
                        profiler.stop()

        trainer.get_batch_samples = timed
        trainer.add_callback(Callback())


def course(folder: Path, arguments: argparse.Namespace):
    import course_recipe

    options = argparse.Namespace(
        dataset=str(folder / "dataset"), model_name_or_path=str(folder / "model"), seed=0,
        from_scratch=True, precision=arguments.precision, num_train_epochs=10,
        max_steps=WARM_UP + arguments.steps,
    )  # fmt: skip
    trainer, *_ = course_recipe.make_trainer(options)
    return trainer, 8, CLIP_SECONDS


def example(folder: Path, arguments: argparse.Namespace):
    """As run_audio_classification.py of transformers has it: 20 s from each clip, front end frozen.

    Clips are decoded when they are asked for, and the collator pads them with an attention mask.
    They are read by data_prep here, as the script's own way needs one more package.
    """
    import numpy as np
    import torch
    from datasets import Audio, load_from_disk
    from transformers import (
        AutoConfig,
        AutoFeatureExtractor,
        AutoModelForAudioClassification,
        Trainer,
        TrainingArguments,
    )

    from music_genre import audio

    most, model_id = 20 * audio.SAMPLING_RATE, str(folder / "model")
    feature_extractor = AutoFeatureExtractor.from_pretrained(model_id, return_attention_mask=True)
    rng = np.random.default_rng(0)

    def transform(rows: dict) -> dict:
        crops = []
        for clip in rows["audio"]:
            waveform = audio.read_wav(clip["bytes"]).astype(np.float32) / 32768
            start = rng.integers(max(0, len(waveform) - most) + 1)
            crops.append(waveform[start : start + most])
        inputs = feature_extractor(crops, sampling_rate=feature_extractor.sampling_rate)
        return {"input_values": inputs["input_values"], "labels": list(rows["genre"])}

    dataset = load_from_disk(folder / "dataset")["train"].cast_column("audio", Audio(decode=False))
    dataset.set_transform(transform)
    model = AutoModelForAudioClassification.from_config(AutoConfig.from_pretrained(model_id))
    model.freeze_feature_encoder()
    recipe = TrainingArguments(
        str(folder / "run"), max_steps=WARM_UP + arguments.steps, per_device_train_batch_size=8,
        remove_unused_columns=False, save_strategy="no", use_cpu=not torch.cuda.is_available(),
        fp16=arguments.precision == "fp16", bf16=arguments.precision == "bf16", disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(model, recipe, train_dataset=dataset, processing_class=feature_extractor)
    return trainer, 8, 20.0


def ours(folder: Path, arguments: argparse.Namespace, *more: str):
    import train_hf
    from music_genre.training.arguments import parse_arguments

    data, model, recipe = parse_arguments([
        str(ROOT / "configs" / "gtzan.json"), "--dataset", str(folder / "dataset"),
        "--model_name_or_path", str(folder / "model"), "--from_scratch", "True",
        "--precision", arguments.precision, "--max_steps", str(WARM_UP + arguments.steps),
        "--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "False",
        "--output_dir", str(folder / "run"), "--disable_tqdm", "True", *more,
    ])  # fmt: skip
    train_hf.use_all_cores(recipe)
    location = train_hf.find_model(model.model_name_or_path)
    dataset, source = train_hf.load_data(data.dataset, data.split, 0)
    trainer, _ = train_hf.make_trainer(location, dataset, source, model, recipe)
    return trainer, recipe.per_device_train_batch_size, model.window_seconds


def compiled(folder: Path, arguments: argparse.Namespace):
    """Ours with torch.compile, which needs a C++ compiler on a CPU."""
    return ours(folder, arguments, "--torch_compile", "True")


def run_here(way: str, folder: Path, arguments: argparse.Namespace) -> dict:
    import resource

    import torch

    ways = {"course": course, "example": example, "ours": ours, "compiled": compiled}
    trainer, clips_a_step, seconds = ways[way](folder, arguments)
    profiler = torch.profiler.profile() if arguments.profile else None
    clock = Clock(trainer, arguments.steps, profiler)
    trainer.train()
    if profiler:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        spent = profiler.key_averages().table(f"self_{device}_time_total", row_limit=15)
        print(f"\n{way}\n{spent}", file=sys.stderr)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
    rate = clips_a_step * seconds * arguments.steps / clock.seconds
    return {
        "rate": rate,
        "utilisation": rate * cost_of_a_second(folder, trainer, seconds) / matrix_rate(trainer),
        "waiting": clock.waiting / clock.seconds,
        "warm_up": clock.warm_up,
        "peak_gb": peak / 2**30,
    }


def cost_of_a_second(folder: Path, trainer, seconds: float) -> float:
    """Floating point operations that training needs for a second of audio, in clips of `seconds`.

    What is trained takes three times the forward pass: gradients of its input and of its weights.
    """
    from benchmarks.models import operations

    front_end, whole = operations(str(folder / "model"), seconds)
    is_trained = next(trainer.model.base_model.feature_extractor.parameters()).requires_grad
    return (3 * whole - (0 if is_trained else 2 * front_end)) / seconds


def matrix_rate(trainer) -> float:
    """Floating point operations a second in products of large matrices, in training's precision."""
    import torch

    from benchmarks.models import products
    from benchmarks.serving import alternate

    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(
        trainer.accelerator.mixed_precision, torch.float32
    )
    device = trainer.args.device
    multiply, n_operations = products(2e11 if device.type == "cpu" else 2e13, dtype, device)
    seconds = alternate({"products": multiply}, 5)["products"]
    return n_operations / statistics.median(seconds)


def main() -> None:
    arguments = parse_arguments()
    if arguments.one:
        way, folder = arguments.one
        print(json.dumps(run_here(way, Path(folder), arguments)))
        return
    from benchmarks.models import save_distilhubert
    from data_prep.prepare import prepare
    from data_prep.synthetic import write_archive

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_archive(folder / "clips.zip", arguments.clips_per_genre, CLIP_SECONDS)
        prepare([folder / "clips.zip"], folder / "dataset", split="random")
        save_distilhubert(folder / "model")
        results: dict[str, list[dict]] = {way: [] for way in arguments.ways}
        for _ in range(arguments.runs):
            for way in arguments.ways:
                results[way].append(run_apart(way, folder, arguments))
    print_table(results, arguments)


def run_apart(way: str, folder: Path, arguments: argparse.Namespace) -> dict:
    command = [
        sys.executable, __file__, "--one", way, str(folder), "--steps", str(arguments.steps),
        "--precision", arguments.precision, *(["--profile"] if arguments.profile else []),
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if result.returncode:
        sys.exit(f"{way} failed:\n{result.stderr[-2000:]}")
    if arguments.profile:
        print(result.stderr[result.stderr.index(f"\n{way}\n") :])
    return json.loads(result.stdout.splitlines()[-1])


def print_table(results: dict[str, list[dict]], arguments: argparse.Namespace) -> None:
    from music_genre.evaluation.environment import hardware

    n = len(next(iter(results.values())))
    print(f"{hardware()}, {arguments.precision}, medians of {n} alternating runs (extremes)")
    print(
        "| recipe | audio seconds a second | of the matrix rate | waiting for input | warm-up, s "
        "| peak memory, GB |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for way, runs in results.items():
        rates = sorted(run["rate"] for run in runs)
        median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        print(
            f"| {way} | {median['rate']:.1f} ({rates[0]:.1f} to {rates[-1]:.1f}) "
            f"| {median['utilisation']:.0%} | {median['waiting']:.1%} | {median['warm_up']:.0f} "
            f"| {median['peak_gb']:.1f} |"
        )


if __name__ == "__main__":
    main()
