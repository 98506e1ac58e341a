"""The arguments of train_hf.py: read from a JSON file and flags, checked, and filled in."""

import difflib
import json
import multiprocessing
import os
from argparse import SUPPRESS, Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from transformers import TrainingArguments

from music_genre.errors import InputError
from music_genre.precision import fast_precision
from music_genre.training.data import DATA_DIR, find_archives, print_once
from music_genre.training.options import (
    RANGES,
    DataArguments,
    ModelArguments,
    OptionParser,
    RecipeOptions,
    check_ranges,
)
from music_genre.training.trainer_options import (
    METRICS,
    REFUSED,
    check_checkpoints,
    check_schedule,
    check_trainer_options,
)

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
REFERENCE_CONFIG, QUICKSTART_CONFIG = CONFIGS / "gtzan.json", CONFIGS / "quickstart.json"


@dataclass
class RecipeArguments(RecipeOptions, TrainingArguments):
    """The Trainer's arguments, with defaults for this task. configs/*.json hold the figures."""

    eval_strategy: str = field(default="epoch")
    save_strategy: str = field(default="epoch")
    save_total_limit: int | None = field(default=2)  # the last one to resume from, and the best one
    logging_steps: float = field(default=10)
    logging_nan_inf_filter: bool = field(default=False)  # a loss that is not finite ends the run
    hub_private_repo: bool = field(default=True)
    remove_unused_columns: bool = field(default=False)  # ClipDataset gives what is needed
    dataloader_num_workers: int | None = field(default=None)  # up to 4 where there is a GPU
    do_train: bool = field(default=True)
    do_eval: bool = field(default=True)
    do_predict: bool = field(default=True)

    def __post_init__(self) -> None:
        check_ranges(self, RANGES)
        check_trainer_options(self)
        if self.seeds and (len(set(self.seeds)) < max(2, len(self.seeds)) or not self.output_dir):
            raise InputError(
                "--seeds takes two or more different numbers, and needs an --output_dir."
            )
        self.use_cpu = self.use_cpu or not (
            torch.cuda.is_available() or torch.backends.mps.is_available()
        )
        self.precision, self.precision_reason = self._choose_precision()
        self.fp16, self.bf16 = self.precision == "fp16", self.precision == "bf16"
        if self.dataloader_num_workers is None:
            # A GPU needs a batch every few hundredths of a second; crops are cut meanwhile. Where
            # processes are not forked, each worker would take seconds to start, in each epoch.
            has_workers = not self.use_cpu and multiprocessing.get_start_method() == "fork"
            self.dataloader_num_workers = min(4, os.cpu_count() or 1) if has_workers else 0
        if self.load_best_model_at_end or self.save_strategy == "best":
            self.metric_for_best_model = self.metric_for_best_model or METRICS[0]
        output_dir = self.output_dir
        super().__post_init__()
        if output_dir is None:  # the Trainer would write to trainer_output/, where nobody looks
            self.output_dir = None
        if self.precision == "fp32":
            self.mixed_precision = "no"  # whatever `accelerate launch --mixed_precision` says
        check_checkpoints(self)
        check_schedule(self)

    @property
    def n_gpu(self) -> int:
        """Of this process. With more the Trainer takes DataParallel, which knows no windows.

        `accelerate launch` starts a process for each GPU.
        """
        return min(super().n_gpu, 1)

    def _choose_precision(self) -> tuple[str, str]:
        """From --precision, --bf16, --fp16, the launcher, or the hardware; and the reason."""
        asked = {name for name in ("fp16", "bf16") if getattr(self, name)}
        asked |= {self.precision} - {"auto"}
        if len(asked) > 1:
            raise InputError(
                f"{' and '.join(sorted(asked))} are both asked for: give one --precision."
            )
        launched_with = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
        if asked:
            precision, reason = asked.pop(), "asked for"
        elif launched_with in ("fp16", "bf16"):
            precision, reason = launched_with, "asked for by accelerate launch"
        else:
            device = "cpu" if self.use_cpu else "cuda" if torch.cuda.is_available() else "mps"
            precision, reason = fast_precision(torch.device(device))
        if precision == "fp16" and self.use_cpu:
            raise InputError("--precision fp16 needs a GPU: take fp32, or bf16.")
        return precision, reason


def parse_arguments(
    argv: list[str], description: str | None = None
) -> tuple[DataArguments, ModelArguments, RecipeArguments]:
    """Read the JSON file among the arguments, if there is one, then the flags, which win.

    An error is one line on stderr and exit code 2.
    """
    parser = OptionParser((DataArguments, ModelArguments, RecipeArguments), description)
    parser.add_argument("--help_all", action="help", help="List all options.")
    for action in parser._actions:
        if action.dest in REFUSED:
            action.help = SUPPRESS
    config = _find_config(parser, argv)
    options, _ = parser.parse_known_args(argv, Namespace(**_read_config(parser, config)))
    try:
        return parser.parse_dict(vars(options))
    except (ValueError, ImportError) as error:
        parser.error(str(error))


def _find_config(parser: OptionParser, argv: list[str]) -> Path:
    """The one argument that belongs to no option; or the reference, or the quickstart."""
    names = {action.dest for action in parser._actions}
    _, others = parser.parse_known_args(argv)
    for text in others:
        if text.startswith("-"):
            name = text.lstrip("-").split("=")[0].replace("-", "_")
            parser.error(f"there is no option {text.split('=')[0]!r}{_closest(name, names)}")
    if len(others) > 1:
        parser.error(f"these belong to no option, and only one can be the JSON file: {others}")
    if not others:
        if argv or find_archives():
            return REFERENCE_CONFIG
        print_once(f"There is no GTZAN archive in {DATA_DIR}/, so this is the quickstart.")
        return QUICKSTART_CONFIG
    config = Path(others[0])
    if not config.is_file():
        close = _closest(str(config), {str(path) for path in config.parent.glob("*.json")})
        parser.error(f"{config} is neither an option nor a JSON file{close}")
    return config


def _read_config(parser: OptionParser, config: Path) -> dict[str, Any]:
    """Every option's value after a JSON file, which is parsed as flags are: both are checked alike.

    null is the value of an option that is not set.
    """
    parser.source = f"{config}: "
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        parser.error(f"it cannot be read as JSON: {error}")
    if not isinstance(content, dict):
        parser.error("it must hold one JSON object, with options and their values")
    hints = {n: h for group in parser.dataclass_types for n, h in get_type_hints(group).items()}
    flags, unset = [], {}
    for name, value in content.items():
        hint = hints.get(name)
        if hint is None:
            parser.error(f"there is no option {name!r}{_closest(name, set(hints))}")
        if value is None and type(None) in get_args(hint):
            unset[name] = None
        elif isinstance(value, list) and "list" in str(hint):
            flags += [f"--{name}", *map(str, value)]
        else:
            flags.append(f"--{name}={value if isinstance(value, str) else json.dumps(value)}")
    values = vars(parser.parse_known_args(flags)[0]) | unset
    parser.source = ""
    return values


def _closest(name: str, options: set[str]) -> str:
    close = difflib.get_close_matches(name, options, n=1)
    return f"; did you mean {close[0]}?" if close else ""
