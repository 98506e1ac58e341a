"""What can be said to train_hf.py, in a JSON file or as flags, and how it is read."""

import difflib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import HfArgumentParser, TrainingArguments

from music_genre.data import DATA_DIR, find_archive

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
REFERENCE_CONFIG, QUICKSTART_CONFIG = CONFIGS / "gtzan.json", CONFIGS / "quickstart.json"


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
    streamed: bool = field(
        default=False,
        metadata={
            "help": "Read the train split while training and keep nothing of it: for datasets on "
            "the Hub, or folders of Parquet files, that fit on no disk. Needs --max_steps."
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
    head_first: bool = field(
        default=True,
        metadata={"help": "Begin with a fitted head, without the layers that only know speech."},
    )
    window_seconds: float = field(
        default=5.0, metadata={"help": "How much the model hears at once, in training and after."}
    )
    freeze_feature_encoder: bool = field(
        default=True,
        metadata={"help": "Keep the convolutions as they are (HuBERT and kin): a third less work."},
    )


@dataclass
class RecipeArguments(TrainingArguments):
    """The Trainer's arguments, with defaults for this task. configs/*.json hold the figures."""

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
    speed: bool = field(default=False, metadata={"help": "Play crops up to 15 % slower or faster."})
    masks: bool = field(
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
    eval_strategy: str = field(default="epoch")
    save_strategy: str = field(default="epoch")
    save_total_limit: int | None = field(default=2)  # the best, and the last to go on from
    load_best_model_at_end: bool = field(default=True)
    metric_for_best_model: str | None = field(default="calibrated_loss")
    logging_steps: float = field(default=10)
    logging_nan_inf_filter: bool = field(default=False)  # a loss that is no number ends the run
    hub_private_repo: bool = field(default=True)
    remove_unused_columns: bool = field(default=False)  # ClipDataset gives what is needed

    def __post_init__(self) -> None:
        self.precision_reason = "asked for"
        self.use_cpu = self.use_cpu or not (
            torch.cuda.is_available() or torch.backends.mps.is_available()
        )
        if self.precision == "auto":
            self.precision, self.precision_reason = choose_precision(self.use_cpu)
        self.fp16, self.bf16 = self.precision == "fp16", self.precision == "bf16"
        if not self.use_cpu and self.dataloader_num_workers == 0:
            # A GPU needs a batch every few hundredths of a second; crops are cut meanwhile.
            self.dataloader_num_workers = min(4, os.cpu_count() or 1)
        super().__post_init__()


def choose_precision(use_cpu: bool) -> tuple[str, str]:
    """The number format that the hardware is fast at, and why."""
    if not use_cpu and torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        if torch.cuda.get_device_capability() >= (8, 0):
            return "bf16", f"{name} has it, and it needs no loss scaling"
        return "fp16", f"{name} has tensor cores for it and none for bf16"
    if use_cpu and torch.cpu.get_capabilities().get("amx_bf16"):
        return "bf16", "this CPU multiplies matrices in it (AMX)"
    return "fp32", "this hardware is not faster in any other"


class Parser(HfArgumentParser):
    def error(self, message: str) -> None:
        """One line: the usage of two hundred options would hide it."""
        self.exit(2, f"error: {message} (--help lists all options)\n")


def parse_arguments(
    argv: list[str], description: str | None = None
) -> tuple[DataArguments, ModelArguments, RecipeArguments]:
    """Read one JSON file, if there is one among the arguments, then flags, which win."""
    parser = Parser(
        (DataArguments, ModelArguments, RecipeArguments),
        description=description,
        allow_abbrev=False,
    )
    config = next((text for text in argv if text.endswith(".json")), None)
    if config:
        argv = [text for text in argv if text != config]
    else:
        config = REFERENCE_CONFIG if argv or find_archive() else QUICKSTART_CONFIG
        if config == QUICKSTART_CONFIG:
            print(f"There is no GTZAN archive in {DATA_DIR}/, so this is the quickstart.")
    options = {action.dest for action in parser._actions}
    try:
        values = json.loads(Path(config).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        parser.error(f"{config} cannot be read as JSON: {error}")
    for name in values.keys() - options:
        parser.error(f"{config}: there is no option {name!r}{_closest(name, options)}")
    parser.set_defaults(**values)
    _, unknown = parser.parse_known_args(argv)
    if unknown:
        name = unknown[0].lstrip("-").split("=")[0]
        parser.error(f"there is no option {unknown[0]!r}{_closest(name, options)}")
    try:
        return parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
    except (ValueError, ImportError) as error:
        parser.error(str(error))


def _closest(name: str, options: set[str]) -> str:
    close = difflib.get_close_matches(name, options, n=1)
    return f"; did you mean {close[0]}?" if close else ""
