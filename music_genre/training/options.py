"""The options that train_hf.py adds to those of the Trainer, and its --help.

Nothing heavy is imported: `--help` answers at once, where TrainingArguments takes two seconds.
"""

import argparse
from dataclasses import dataclass, field, fields


@dataclass
class DataArguments:
    dataset: str | None = field(
        default=None,
        metadata={
            "help": "A GTZAN archive, a folder that data_prep made, a dataset on the Hub, or "
            "'synthetic'. By default the archive in data/."
        },
    )
    split: str = field(
        default="filtered",
        metadata={
            "help": "How an archive is split: filtered (as papers do), artist, or random (as the "
            "audio course does). A prepared dataset keeps its own.",
            "choices": ["filtered", "artist", "random"],
        },
    )
    split_seed: int = field(
        default=0, metadata={"help": "Of an archive's artist or random split; not of the training."}
    )


@dataclass
class ModelArguments:
    model_name_or_path: str = field(
        default="ntu-spml/distilhubert",
        metadata={"help": "A folder or a model on the Hub: HuBERT, wav2vec2, WavLM, AST, Whisper."},
    )
    revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of the model on the Hub."}
    )
    from_scratch: bool = field(
        default=False, metadata={"help": "Take the model's configuration, with random weights."}
    )
    linear_probe: bool = field(
        default=True,
        metadata={"help": "Start from a linear probe on the best layer; drop later layers."},
    )
    window_seconds: float = field(
        default=5.0, metadata={"help": "How much the model hears at once, in training and after."}
    )
    freeze_feature_encoder: bool = field(
        default=True,
        metadata={"help": "Keep the convolutions as they are (HuBERT and kin): a third less work."},
    )


@dataclass
class RecipeOptions:
    """What this project adds to the Trainer's own arguments."""

    output_dir: str | None = field(default=None, metadata={"help": "Default: runs/MODEL-DATASET."})
    precision: str = field(
        default="auto",
        metadata={
            "help": "auto takes what the hardware is fast at.",
            "choices": ["auto", "fp32", "fp16", "bf16"],
        },
    )
    mixup: float = field(
        default=0.0, metadata={"help": "Alpha of the shares in which two crops are mixed; 0: none."}
    )
    speed_perturbation: bool = field(
        default=False, metadata={"help": "Play crops up to 15 % slower or faster."}
    )
    spec_augment: bool = field(
        default=False,
        metadata={"help": "SpecAugment: of spectrograms, or of HuBERT's (and kin's) own features."},
    )
    seeds: list[int] | None = field(
        default=None, metadata={"help": "Train once with each, in OUTPUT_DIR/seed-N; sum them up."}
    )
    time_budget_minutes: float | None = field(
        default=None,
        metadata={"help": "Training stops so that the run, with its scoring, ends in time."},
    )


OF_THE_TRAINER = """\
The Trainer's arguments are options as well; --help_all lists them, in two seconds. Most wanted:
  --learning_rate, --num_train_epochs, --max_steps, --per_device_train_batch_size,
  --gradient_accumulation_steps, --seed, --report_to tensorboard|trackio|wandb,
  --resume_from_checkpoint last, --push_to_hub True --hub_model_id YOU/NAME, --use_cpu True
A JSON file holds any of them; configs/gtzan.json is taken where none is named."""


def short_help(description: str) -> str:
    """What --help prints: the options of this project, and where the others are."""
    parser = argparse.ArgumentParser(
        "train_hf.py", "train_hf.py [CONFIG.json] [--OPTION VALUE ...]", description,
        OF_THE_TRAINER, formatter_class=argparse.RawDescriptionHelpFormatter, add_help=False,
    )  # fmt: skip
    for group in (DataArguments, ModelArguments, RecipeOptions):
        for option in fields(group):
            choices = ["True", "False"] if option.type is bool else option.metadata.get("choices")
            parser.add_argument(
                f"--{option.name}",
                metavar="|".join(choices or [option.name.split("_")[-1].upper()]),
                help=option.metadata["help"].replace("%", "%%"),
            )
    return parser.format_help()
