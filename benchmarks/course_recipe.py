"""The Hugging Face audio course's fine-tuning (unit 4), to measure ours against.

    python benchmarks/course_recipe.py data/gtzan --model_name_or_path ntu-spml/distilhubert

Written as people run it: whole clips, cached as lists of floats with their attention mask, the
whole net trained, 8 clips a batch, learning rate 5e-5 with a tenth of warm-up, the answer of one
pass over the clip. Only what the installed versions no longer take is replaced. Prints, as JSON,
accuracy on validation, of whole clips and of 2 s from their middle, and the speed of training.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as train_hf.py has it
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

MAX_SECONDS = 30.0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="a folder that data_prep made")
    parser.add_argument("--model_name_or_path", default="ntu-spml/distilhubert")
    parser.add_argument("--num_train_epochs", type=float, default=10)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16"), default="fp32")
    parser.add_argument("--output", type=Path, help="also write the JSON here")
    parser.set_defaults(from_scratch=False, max_steps=-1)  # training.py sets them, for timing
    return parser.parse_args()


def encode(dataset, feature_extractor, seconds: float | None = None):
    """As the course's preprocess_function; `seconds` takes that much from the middle instead."""
    import numpy as np

    from music_genre import audio

    def preprocess(rows: dict) -> dict:
        arrays = []
        for clip in rows["audio"]:
            waveform = audio.read_wav(clip["bytes"]).astype(np.float32) / 32768
            if seconds:
                most = int(seconds * audio.SAMPLING_RATE)
                start = max(0, len(waveform) - most) // 2
                waveform = waveform[start : start + most]
            arrays.append(waveform)
        return feature_extractor(
            arrays,
            sampling_rate=feature_extractor.sampling_rate,
            max_length=int(feature_extractor.sampling_rate * MAX_SECONDS),
            truncation=True,
            return_attention_mask=True,
        )

    columns = [name for name in dataset.column_names if name != "genre"]
    encoded = dataset.map(preprocess, remove_columns=columns, batched=True, batch_size=20)
    return encoded.rename_column("genre", "label")


def make_trainer(arguments: argparse.Namespace):
    """The course's Trainer, validation whole and 2 s of each clip, seconds that encoding took."""
    import torch
    from datasets import Audio, load_from_disk
    from transformers import (
        AutoConfig,
        AutoFeatureExtractor,
        AutoModelForAudioClassification,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(arguments.seed)
    dataset = load_from_disk(arguments.dataset).cast_column("audio", Audio(decode=False))
    names = dataset["train"].features["genre"].names
    model_id = arguments.model_name_or_path
    feature_extractor = AutoFeatureExtractor.from_pretrained(
        model_id, do_normalize=True, return_attention_mask=True
    )
    config = AutoConfig.from_pretrained(
        model_id,
        num_labels=len(names),
        label2id={name: i for i, name in enumerate(names)},
        id2label=dict(enumerate(names)),
    )
    if arguments.from_scratch:
        model = AutoModelForAudioClassification.from_config(config)
    else:
        model = AutoModelForAudioClassification.from_pretrained(model_id, config=config)
    start = time.monotonic()
    train, validation = (encode(dataset[n], feature_extractor) for n in ("train", "validation"))
    encoding_seconds = time.monotonic() - start
    only_timing = arguments.max_steps > 0
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            tempfile.mkdtemp(),
            eval_strategy="no" if only_timing else "epoch",
            save_strategy="no" if only_timing else "epoch",
            save_total_limit=1,
            learning_rate=5e-5,
            per_device_train_batch_size=8,
            per_device_eval_batch_size=8,
            num_train_epochs=arguments.num_train_epochs,
            max_steps=arguments.max_steps,
            warmup_steps=0.1,
            logging_steps=5,
            load_best_model_at_end=not only_timing,
            metric_for_best_model="accuracy",
            fp16=arguments.precision == "fp16",
            bf16=arguments.precision == "bf16",
            use_cpu=not torch.cuda.is_available(),
            seed=arguments.seed,
        ),
        train_dataset=train,
        eval_dataset=validation,
        processing_class=feature_extractor,
        compute_metrics=lambda p: {"accuracy": float((p[0].argmax(-1) == p[1]).mean())},
    )
    short = encode(dataset["validation"], feature_extractor, seconds=2.0)
    return trainer, validation, short, encoding_seconds


def main() -> None:
    arguments = parse_arguments()
    trainer, validation, short, encoding_seconds = make_trainer(arguments)
    start = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - start

    def accuracy(encoded) -> float:
        output = trainer.predict(encoded)
        return float((output.predictions.argmax(-1) == output.label_ids).mean())

    result = {
        "model": arguments.model_name_or_path,
        "seed": arguments.seed,
        "encoding_seconds": round(encoding_seconds, 1),
        "training_seconds": round(seconds, 1),
        "steps": trainer.state.global_step,
        "accuracy": accuracy(validation),
        "short_accuracy": accuracy(short),
    }
    print(json.dumps(result))
    if arguments.output:
        arguments.output.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
