"""The arguments of train_hf.py, read by `HfArgumentParser`: a JSON file, and flags, which win.

    data, model, recipe = parse_arguments(["configs/gtzan.json", "--learning_rate", "3e-5"])

All options of transformers' `TrainingArguments` reach the Trainer, except REFUSED_OPTIONS.
"""

import json
import multiprocessing
import os
from dataclasses import dataclass, field, fields
from pathlib import Path

import joblib
import torch
from transformers import HfArgumentParser, TrainingArguments
from transformers.hf_argparser import HfArg

from data_prep.options import GENRE_FROM
from music_genre.errors import InputError
from music_genre.precision import fast_precision

CHECKOUT = Path(__file__).resolve().parents[2]
REFERENCE_CONFIG = CHECKOUT / "configs" / "gtzan.json"
QUICKSTART_CONFIG = CHECKOUT / "configs" / "quickstart.json"
# Commits of the base models in configs/, so that a run can be repeated and later pushes to their
# repositories are not downloaded unseen.
COMMITS = {
    "ntu-spml/distilhubert": "fa87d96265d6b7af66e112faff6ff44df419cec9",
    "MIT/ast-finetuned-audioset-10-10-0.4593": "f826b80d28226b62986cc218e5cec390b1096902",
}
METRICS = ("calibrated_loss", "loss", "accuracy", "macro_f1")  # that validation computes
# Options that would corrupt a run or leak a token; any value except the default is refused.
REFUSED_OPTIONS = {
    "average_tokens_across_devices": "The loss is a mean over crops: processes average it already.",
    "dataloader_drop_last": "Validation needs all windows of whole clips.",
    "dataloader_persistent_workers": "Crops depend on the epoch, so each epoch starts new workers.",
    "enable_jit_checkpoint": "A run already saves on SIGTERM and Ctrl-C, after a whole step.",
    "hub_token": "A token does not belong on a command line or in a file that is shared: revoke "
    "it, and give a new one to `hf auth login` or put it into HF_TOKEN.",
    "ignore_data_skip": "A resumed run continues with the crops that come next.",
    "logging_nan_inf_filter": "A loss that is not a number ends the run.",
    "save_only_model": "A run that is resumed needs the optimizer's state, too.",
    "save_on_each_node": "Machines share the run's folder: transformers saves on the first only.",
}


@dataclass
class DataArguments:
    dataset: str | None = HfArg(
        default=None,
        help="A folder with a folder per genre, a table of paths and genres, a GTZAN archive, a "
        "folder from data_prep or of Parquet files, a dataset on the Hub, or 'synthetic'. By "
        "default the GTZAN archive in data/.",
    )
    split: str | None = HfArg(
        default=None,
        help="For GTZAN: filtered (the default, used in papers), artist, or random (used in "
        "the audio course). For other music: artist, album, random, or given by the source; by "
        "default the strictest known. A prepared dataset keeps its split.",
        metadata={"choices": ["filtered", "artist", "album", "random", "given"]},
    )
    split_seed: int | None = HfArg(default=None, help="Seed for drawing a split, not for training.")
    genre_from: str | None = HfArg(
        default=None,
        help="Where the genres of files are. By default this is recognised, except for tags. A "
        "prepared dataset already has genres.",
        metadata={"choices": list(GENRE_FROM)},
    )


@dataclass
class ModelArguments:
    model_name_or_path: str = HfArg(
        default="ntu-spml/distilhubert",
        help="A folder or a model on the Hub: HuBERT, wav2vec2, WavLM, AST, Whisper, EfficientAT.",
    )
    revision: str | None = HfArg(
        default=None,
        help="Branch, tag or commit of the model on the Hub; main is the newest. The default is "
        "a fixed commit for DistilHuBERT and AST, and main for others.",
    )
    from_scratch: bool = HfArg(
        default=False, help="Use only the model's configuration, with random weights."
    )
    linear_probe: bool | None = HfArg(
        default=None,
        help="Start from a linear probe on the best layer and drop later layers. The probe is "
        "first written as a finished model; with --num_train_epochs 0 the run ends there. By "
        "default where possible: not with --from_scratch.",
    )
    window_seconds: float = HfArg(
        default=3.0, help="Length of a window, in training and in the saved model."
    )
    freeze_feature_encoder: bool | None = HfArg(
        default=None,
        help="Freeze the first convolutions of HuBERT, wav2vec2, WavLM and EfficientAT, which "
        "saves a third of the work. By default they are frozen unless --from_scratch is given.",
    )

    def __post_init__(self) -> None:
        if not 0.5 <= self.window_seconds <= 60:
            raise InputError(f"--window_seconds must be 0.5 to 60, not {self.window_seconds:g}.")
        if self.revision is None and not Path(self.model_name_or_path).is_dir():
            self.revision = COMMITS.get(self.model_name_or_path)


@dataclass
class RecipeArguments(TrainingArguments):
    """The Trainer's arguments with defaults for this task, and the options of the recipe."""

    output_dir: str | None = HfArg(default=None, help="By default runs/MODEL-DATASET.")
    mixup: float = HfArg(
        default=0.0, help="Mix pairs of crops, with shares from Beta(MIXUP, MIXUP); 0 mixes none."
    )
    speed_perturbation: bool = HfArg(
        default=False, help="Play crops up to 15 percent slower or faster."
    )
    spec_augment: bool = HfArg(
        default=False, help="Mask parts of spectrograms, or of features in HuBERT and the like."
    )
    seeds: list[int] | None = field(
        default=None,
        metadata={"help": "Train once per seed, in OUTPUT_DIR/seed-N, and summarize the scores."},
    )
    time_budget_minutes: float | None = HfArg(
        default=None, help="For the whole run, or all --seeds: training stops in time to score."
    )
    job: str | None = HfArg(
        default=None,
        help="Run on this hardware of the Hub, such as t4-small, instead of here; it costs "
        "money by the minute. Needs --dataset, --push_to_hub and --hub_model_id.",
    )
    job_timeout: str | None = HfArg(default=None, help="For --job, such as 90m; by default 3h.")
    # None means not given. The type is bool, not `bool | None`, so that a plain `--bf16` works.
    fp16: bool = HfArg(default=None, help="Train in fp16. By default: the fastest precision here.")
    bf16: bool = HfArg(default=None, help="Train in bf16, or in fp32 if it is False.")
    eval_strategy: str = "epoch"
    save_strategy: str = "epoch"
    save_total_limit: int | None = 2  # the last one to resume from, and the best one
    logging_steps: float = 10
    logging_nan_inf_filter: bool = False  # it would hide a loss of NaN
    average_tokens_across_devices: bool = False
    hub_private_repo: bool | None = True
    trackio_static_space_id: str | None = None  # a Space only if it is named
    remove_unused_columns: bool = False
    dataloader_num_workers: int | None = None  # up to 4 where there is a GPU

    def __post_init__(self) -> None:
        _refuse(self)
        self.use_cpu = self.use_cpu or not (
            torch.cuda.is_available() or torch.backends.mps.is_available()
        )
        self.precision_reason = self._choose_precision()
        if self.dataloader_num_workers is None:
            # A GPU needs a batch every few hundredths of a second, so workers cut crops meanwhile.
            # If processes are not forked, each worker would take seconds to start in each epoch.
            has_workers = not self.use_cpu and multiprocessing.get_start_method() == "fork"
            self.dataloader_num_workers = min(4, joblib.cpu_count()) if has_workers else 0
        if self.load_best_model_at_end or self.save_strategy == "best":
            self.metric_for_best_model = self.metric_for_best_model or METRICS[0]
        self.trackio_static_space_id = self.trackio_static_space_id or False
        output_dir = self.output_dir
        super().__post_init__()
        if output_dir is None:  # the Trainer would write to trainer_output/, where nobody looks
            self.output_dir = None
        if self.precision == "fp32":
            self.mixed_precision = "no"  # whatever `accelerate launch --mixed_precision` says

    @property
    def n_gpu(self) -> int:
        """At most one GPU per process: with more, the Trainer's DataParallel would sum gradients.

        `accelerate launch` starts a process for each GPU.
        """
        return min(super().n_gpu, 1)

    @property
    def crops_per_step(self) -> int:
        """How many crops all processes train on in one step."""
        return self.train_batch_size * self.gradient_accumulation_steps * self.world_size

    @property
    def precision(self) -> str:
        return "fp16" if self.fp16 else "bf16" if self.bf16 else "fp32"

    def _choose_precision(self) -> str:
        """Set --fp16 and --bf16 by launcher or hardware if neither is given; return the reason."""
        reason = "asked for"
        if self.fp16 is None and self.bf16 is None:
            precision = os.environ.get("ACCELERATE_MIXED_PRECISION")
            reason = "asked for by accelerate launch"
            if precision not in ("fp16", "bf16"):
                device = "cpu" if self.use_cpu else "cuda" if torch.cuda.is_available() else "mps"
                precision, reason = fast_precision(torch.device(device))
            self.fp16, self.bf16 = precision == "fp16", precision == "bf16"
        self.fp16, self.bf16 = bool(self.fp16), bool(self.bf16)
        if self.fp16 and self.use_cpu and not self.job:
            raise InputError("--fp16 needs a GPU: leave it out, or take --bf16.")
        return reason


SMALLEST_VALUES = {
    "seed": 0,
    "num_train_epochs": 0,
    "learning_rate": 0,
    "weight_decay": 0,
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "mixup": 0,
    "time_budget_minutes": 0,
}


def _refuse(arguments: RecipeArguments) -> None:
    """Refuse what would corrupt the run or break a promise.

    Raises:
        InputError: an option has a value that is refused.
    """
    defaults = {option.name: option.default for option in fields(arguments)}
    for name, reason in REFUSED_OPTIONS.items():
        if getattr(arguments, name) not in (defaults[name], None):
            raise InputError(f"--{name} cannot be set. {reason}")
    for name, smallest in SMALLEST_VALUES.items():
        value = getattr(arguments, name)
        if value is not None and not value >= smallest:  # also refuses NaN
            raise InputError(f"--{name} must be {smallest} or more, not {value:g}.")
    seeds = arguments.seeds
    if seeds and (len(set(seeds)) < max(2, len(seeds)) or not arguments.output_dir):
        raise InputError("--seeds takes two or more different numbers, and an --output_dir.")
    metric = (arguments.metric_for_best_model or METRICS[0]).removeprefix("eval_")
    if metric not in METRICS:
        raise InputError(f"--metric_for_best_model must be one of {', '.join(METRICS)}.")


def parse_arguments(
    argv: list[str], description: str | None = None, default_config: Path = REFERENCE_CONFIG
) -> tuple[DataArguments, ModelArguments, RecipeArguments]:
    """Read the JSON file given as first argument, or the default one, and then the flags.

    An error prints one line on stderr, below the usage, and exits with code 2.
    """
    parser = HfArgumentParser(
        (DataArguments, ModelArguments, RecipeArguments),
        prog="train_hf.py",
        usage="train_hf.py [CONFIG.json] [--OPTION VALUE ...]",
        description=description,
        allow_abbrev=False,
    )
    config = default_config
    if argv and not argv[0].startswith("-"):
        config, argv = Path(argv[0]), argv[1:]
    try:
        values = dict(json.loads(config.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        parser.error(f"{config} is neither an option nor a file with a JSON object: {error}")
    known = {option.name for group in parser.dataclass_types for option in fields(group)}
    if unknown := values.keys() - known:
        parser.error(f"{min(unknown)} in {config} is not an option; --help lists them")
    # A default given as text is converted and checked like a flag's value.
    as_text = {k: str(v) for k, v in values.items() if isinstance(v, int | float)}
    parser.set_defaults(**values | as_text)
    try:
        *arguments, unknown = parser.parse_args_into_dataclasses(
            argv, return_remaining_strings=True
        )
    except (ValueError, TypeError, ImportError) as error:
        parser.error(" ".join(str(error).split()))
    if unknown:
        parser.error(f"{unknown[0].split('=')[0]} is not an option; --help lists them")
    return tuple(arguments)
