"""What can be said to train_hf.py, in a JSON file or as flags, and how it is read."""

import difflib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import HfArgumentParser, TrainingArguments

from music_genre.kernels.precision import fast_precision
from music_genre.training.data import DATA_DIR, find_archive
from music_genre.training.options import DataArguments, ModelArguments, RecipeOptions

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
REFERENCE_CONFIG, QUICKSTART_CONFIG = CONFIGS / "gtzan.json", CONFIGS / "quickstart.json"


@dataclass
class RecipeArguments(RecipeOptions, TrainingArguments):
    """The Trainer's arguments, with defaults for this task. configs/*.json hold the figures."""

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
            device = "cpu" if self.use_cpu else "cuda" if torch.cuda.is_available() else "mps"
            self.precision, self.precision_reason = fast_precision(torch.device(device))
        self.fp16, self.bf16 = self.precision == "fp16", self.precision == "bf16"
        if not self.use_cpu and self.dataloader_num_workers == 0:
            # A GPU needs a batch every few hundredths of a second; crops are cut meanwhile.
            self.dataloader_num_workers = min(4, os.cpu_count() or 1)
        output_dir = self.output_dir
        super().__post_init__()
        if output_dir is None:  # the Trainer would write to trainer_output/, where nobody looks
            self.output_dir = None


class Parser(HfArgumentParser):
    def error(self, message: str) -> None:
        """One line: the usage of two hundred options would hide it."""
        self.exit(2, f"error: {message} (--help_all lists all options)\n")


def parse_arguments(
    argv: list[str], description: str | None = None
) -> tuple[DataArguments, ModelArguments, RecipeArguments]:
    """Read one JSON file, if there is one among the arguments, then flags, which win."""
    parser = Parser(
        (DataArguments, ModelArguments, RecipeArguments),
        description=description,
        allow_abbrev=False,
        add_help=False,  # --help is answered sooner, by options.short_help
    )
    parser.add_argument("--help_all", action="help", help="List all options.")
    config = next((text for text in argv if text.endswith(".json")), None)
    if config:
        argv = [text for text in argv if text != config]
    else:
        config = REFERENCE_CONFIG if argv or find_archive() else QUICKSTART_CONFIG
        if config == QUICKSTART_CONFIG:
            print(f"There is no GTZAN archive in {DATA_DIR}/, so this is the quickstart.")
    options = {action.dest for action in parser._actions} - {"help_all"}
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
