"""The Hugging Face audio course's fine-tuning (unit 4), which ours is compared with.

    python benchmarks/course_recipe.py data/gtzan --model_name_or_path ntu-spml/distilhubert

Used by ablation.py (accuracy) and training.py (speed). Written as people run it: whole clips are
cached as lists of floats with their attention mask, the whole net is trained with 8 clips per batch
and a learning rate of 5e-5 with a tenth of warm-up, and a prediction is one pass over the clip.
Only what the installed versions no longer accept is replaced. Writes a prediction for each clip of
test, from the whole clip and from 2 s of its middle.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before importing torch, as in train_hf.py

import numpy as np
import torch
from datasets import Audio, Dataset, load_from_disk
from scipy.special import softmax
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    SequenceFeatureExtractor,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import parser_of
from music_genre.evaluation.metrics import SHORT_SECONDS, SplitScore, accuracy
from music_genre.evaluation.predictions import write_predictions
from music_genre.precision import fast_precision
from music_genre.wav import read_wav

MAX_SECONDS = 30.0


def parse_arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("dataset", help="a folder that data_prep made")
    parser.add_argument("--model_name_or_path", default="ntu-spml/distilhubert")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--precision", choices=("auto", "fp32", "fp16", "bf16"), default="auto")
    parser.add_argument("--output", type=Path, default=Path("predictions.csv"), help="%(default)s")
    parser.add_argument("--checkpoints", help="folder for checkpoints; a stopped run resumes")
    parser.set_defaults(from_scratch=False, max_steps=-1)  # training.py sets them, for timing
    return parser.parse_args()


def encode(
    dataset: Dataset, feature_extractor: SequenceFeatureExtractor, seconds: float | None = None
) -> Dataset:
    """Like the course's preprocess_function; with `seconds`, take only the middle of a clip."""

    def preprocess(rows: dict) -> dict:
        arrays = []
        for clip in rows["audio"]:
            waveform = read_wav(clip["bytes"])
            if seconds:
                most = int(seconds * feature_extractor.sampling_rate)
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


def make_trainer(arguments: argparse.Namespace) -> Trainer:
    """The course's Trainer; with max_steps it only trains."""
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
    only_timing = arguments.max_steps > 0
    precision = arguments.precision
    if precision == "auto":  # as train_hf.py chooses
        precision, _ = fast_precision(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return Trainer(
        model=model,
        args=TrainingArguments(
            arguments.checkpoints or tempfile.mkdtemp(),
            eval_strategy="no" if only_timing else "epoch",
            save_strategy="no" if only_timing else "epoch",
            save_total_limit=1,
            learning_rate=5e-5,
            per_device_train_batch_size=8,
            per_device_eval_batch_size=8,
            num_train_epochs=10,
            max_steps=arguments.max_steps,
            warmup_steps=0.1,
            logging_steps=5,
            load_best_model_at_end=not only_timing,
            metric_for_best_model="accuracy",
            fp16=precision == "fp16",
            bf16=precision == "bf16",
            use_cpu=not torch.cuda.is_available(),
            seed=arguments.seed,
        ),
        train_dataset=encode(dataset["train"], feature_extractor),
        eval_dataset=None if only_timing else encode(dataset["validation"], feature_extractor),
        processing_class=feature_extractor,
        compute_metrics=lambda p: {"accuracy": float((p[0].argmax(-1) == p[1]).mean())},
    )


def main() -> None:
    arguments = parse_arguments()
    trainer = make_trainer(arguments)
    trainer.train(resume_from_checkpoint=bool(get_last_checkpoint(trainer.args.output_dir)))
    test = load_from_disk(arguments.dataset)["test"].cast_column("audio", Audio(decode=False))
    whole, short = (
        softmax(trainer.predict(encode(test, trainer.processing_class, seconds)).predictions, -1)
        for seconds in (None, SHORT_SECONDS)
    )
    genres = np.array(test["genre"])
    score = SplitScore(list(test["track_id"]), list(test["artist"]), genres, whole, short, None)
    write_predictions(arguments.output, score, test.features["genre"].names)
    print(f"Test accuracy {accuracy(whole, genres):.3f}; predictions in {arguments.output}")


if __name__ == "__main__":
    main()
