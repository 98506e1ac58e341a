"""The options that train_hf.py adds to those of the Trainer, their ranges, and the parser.

Nothing heavy is imported, so that --help and the first checks do not wait for torch.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

from transformers.hf_argparser import HfArgumentParser

from music_genre.errors import InputError

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2")
TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")
SYNTHETIC = "synthetic"
SEED_RANGE = (0, 2**32 - 1)  # what numpy takes
# Commits of the base models of configs/, so that a run can be repeated, and nothing that is pushed
# to their repositories later is downloaded unseen.
COMMITS = {
    "ntu-spml/distilhubert": "fa87d96265d6b7af66e112faff6ff44df419cec9",
    "MIT/ast-finetuned-audioset-10-10-0.4593": "f826b80d28226b62986cc218e5cec390b1096902",
}
# Smallest and largest value of each number.
RANGES = {
    "split_seed": SEED_RANGE,
    "window_seconds": (0.5, 60),
    "mixup": (0, 100),
    "time_budget_minutes": (0.001, 10**6),
    "seeds": SEED_RANGE,
}


@dataclass
class DataArguments:
    dataset: str | None = field(
        default=None,
        metadata={
            "help": "A folder with a folder per genre, a table of paths and genres, a GTZAN "
            "archive, a folder from data_prep, a folder of Parquet files, a dataset on the Hub, or "
            "'synthetic'. By default the GTZAN archive in data/."
        },
    )
    split: str | None = field(
        default=None,
        metadata={
            "help": "Of GTZAN: filtered (the default, used in papers), artist, or random (used in "
            "the audio course). Of other music: artist, album, random, or given by it; by default "
            "the strictest that is known. A prepared dataset keeps its own.",
            "choices": ["filtered", "artist", "album", "random", "given"],
        },
    )
    split_seed: int = field(
        default=0, metadata={"help": "Of splits that are drawn, not of the training."}
    )

    def __post_init__(self) -> None:
        check_ranges(self, RANGES)
        if self.dataset is not None:
            check_dataset_name(self.dataset)


@dataclass
class ModelArguments:
    model_name_or_path: str = field(
        default="ntu-spml/distilhubert",
        metadata={"help": "A folder or a model on the Hub: HuBERT, wav2vec2, WavLM, AST, Whisper."},
    )
    revision: str | None = field(
        default=None,
        metadata={
            "help": "Branch, tag or commit of the model on the Hub; main is the newest. By default "
            "DistilHuBERT and AST are taken at a fixed commit, others at main."
        },
    )
    from_scratch: bool = field(
        default=False, metadata={"help": "Take the model's configuration, with random weights."}
    )
    linear_probe: bool | None = field(
        default=None,
        metadata={
            "help": "Start from a linear probe on the best layer; drop later layers. It is written "
            "as a finished model first; --num_train_epochs 0 ends there. By default where it is "
            "possible: not with --from_scratch."
        },
    )
    window_seconds: float = field(
        default=3.0, metadata={"help": "Length of a window, in training and in the saved model."}
    )
    freeze_feature_encoder: bool | None = field(
        default=None,
        metadata={
            "help": "Keep the convolutions of HuBERT, wav2vec2 and WavLM as they are, which saves "
            "a third of the work. By default they are kept unless --from_scratch is given."
        },
    )

    def __post_init__(self) -> None:
        check_ranges(self, RANGES)
        if self.revision is None and not Path(self.model_name_or_path).is_dir():
            self.revision = COMMITS.get(self.model_name_or_path)


@dataclass
class RecipeOptions:
    """What this project adds to the Trainer's own arguments."""

    output_dir: str | None = field(
        default=None, metadata={"help": "By default runs/MODEL-DATASET."}
    )
    precision: str = field(
        default="auto",
        metadata={
            "help": "Number format of training; auto takes what the hardware is fast at.",
            "choices": ["auto", "fp32", "fp16", "bf16"],
        },
    )
    mixup: float = field(
        default=0.0,
        metadata={"help": "Mix crops in pairs, in shares from Beta(MIXUP, MIXUP); 0 mixes none."},
    )
    speed_perturbation: bool = field(
        default=False, metadata={"help": "Play crops up to 15 percent slower or faster."}
    )
    spec_augment: bool = field(
        default=False,
        metadata={"help": "Mask parts of spectrograms, or of the features of HuBERT and kin."},
    )
    seeds: list[int] | None = field(
        default=None,
        metadata={"help": "Train once with each, in OUTPUT_DIR/seed-N, and summarize the scores."},
    )
    time_budget_minutes: float | None = field(
        default=None,
        metadata={"help": "Stop training early enough for the run, with its scoring, to fit."},
    )


def check_dataset_name(name: str) -> None:
    """Tell a path that does not exist from the name of a dataset on the Hub, without asking it.

    Raises:
        InputError: there is no such file or folder, and the name cannot be one on the Hub.
    """
    first, *others = name.split("/")
    is_hub_name = (
        len(others) == 1
        and all((first, *others))
        and not first.startswith((".", "~"))
        and not name.lower().endswith((*ARCHIVE_SUFFIXES, *TABLE_SUFFIXES))
        and first not in ("data", "runs")
        and not Path(first).exists()
    )
    if not (name == SYNTHETIC or Path(name).expanduser().exists() or is_hub_name):
        raise InputError(
            f"There is no file or folder {name}, and a dataset on the Hub is named USER/NAME."
        )


def check_ranges(arguments: object, ranges: dict[str, tuple[float, float]]) -> None:
    """
    Raises:
        InputError: a number is outside its range, or is not a number.
    """
    for name, (smallest, largest) in ranges.items():
        values = getattr(arguments, name, None)
        for value in values if isinstance(values, list) else [values]:
            if value is not None and not smallest <= value <= largest:
                low = "above 0" if 0 < smallest < 1e-9 else f"{smallest:g} or more"
                raise InputError(f"--{name} must be {low} and at most {largest:.10g}, not {value}.")


OF_THE_TRAINER = """\
The Trainer's arguments are options as well: --help_all lists them. The most used are
  --learning_rate, --num_train_epochs, --max_steps, --per_device_train_batch_size,
  --gradient_accumulation_steps, --seed, --report_to tensorboard|trackio|wandb,
  --resume_from_checkpoint last, --push_to_hub True --hub_model_id YOU/NAME, --use_cpu True
A JSON file can hold any of them; without one, configs/gtzan.json is used."""


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """One spelling of each option, and its default where it has one."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        metavar = self._format_args(action, self._get_default_metavar_for_optional(action))
        name = next(name for name in action.option_strings if name.startswith("--"))
        return f"{name} {metavar}".rstrip()

    def _get_help_string(self, action: argparse.Action) -> str | None:
        no_default = action.default is None or action.default is argparse.SUPPRESS
        return action.help if no_default else super()._get_help_string(action)


class OptionParser(HfArgumentParser):
    """A parser of dataclasses whose errors are one line: a usage of 100 options would hide it."""

    source = ""  # what is being read, if not the command line

    def __init__(self, groups: tuple[type, ...], description: str | None = None) -> None:
        super().__init__(
            groups,
            prog="train_hf.py",
            usage="train_hf.py [CONFIG.json] [--OPTION VALUE ...]",
            description=description,
            epilog=OF_THE_TRAINER,
            formatter_class=HelpFormatter,
            allow_abbrev=False,
        )
        for action in self._actions:
            if isinstance(action.const, bool) and action.nargs == 0:
                action.help = argparse.SUPPRESS  # --no_OPTION, short for --OPTION False

    def error(self, message: str) -> None:
        self.exit(2, f"error: {self.source}{' '.join(message.split())}\n")


def answer_early(argv: list[str], description: str) -> None:
    """Print --help, or what is wrong with the options of this project, without importing torch."""
    parser = OptionParser((DataArguments, ModelArguments, RecipeOptions), description)
    options, _ = parser.parse_known_args(argv)
    try:
        parser.parse_dict(vars(options))
    except InputError as error:
        parser.error(str(error))
