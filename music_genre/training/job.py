"""Run train_hf.py on a GPU that the Hub rents out by the minute.

    python train_hf.py configs/gtzan.json --dataset you/gtzan --push_to_hub \
        --hub_model_id you/distilhubert-gtzan --job t4-small

The job gets the files of this checkout that git tracks, with any local changes, and a prepared
dataset of this machine. The run writes to a folder of the user's private bucket for jobs. Its name
depends on the options of the training, so that the same training resumes an interrupted job and
another one does not. The model is pushed to the Hub.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi, JobInfo, JobStage, Volume, get_token

from data_prep.prepared import read_preparation
from music_genre.errors import InputError
from music_genre.hub_access import check_access, explain_hub_errors
from music_genre.training.arguments import (
    CHECKOUT,
    DataArguments,
    ModelArguments,
    RecipeArguments,
)

IMAGE = "ghcr.io/astral-sh/uv:python3.12-bookworm"  # Debian, Python and uv, nothing of this project
ATTEMPTS = 3  # if a machine is lost, the next attempt resumes
DEFAULT_TIMEOUT = "3h"  # the reference run takes less than two; the Hub's own default is 30 minutes
# The arguments of the run are passed after the script, so that nothing has to be quoted.
SCRIPT = """set -e
cp -r /code ~/run && cd ~/run
uv venv --quiet && uv pip install --quiet -r requirements.txt
if ls -d /output/linear_probe/choice.json /output/checkpoint-* 2>/dev/null | grep -q .
then set -- "$@" --resume_from_checkpoint last
fi
exec .venv/bin/accelerate launch train_hf.py "$@" --output_dir /output --job ''"""


def run_as_job(
    argv: list[str], data: DataArguments, model: ModelArguments, recipe: RecipeArguments
) -> None:
    """Check what can be checked here, submit the run of `argv`, and follow it to its end.

    Raises:
        InputError: a check failed, the Hub refuses the job, or the job failed.
    """
    dataset = data.dataset
    is_here = bool(dataset) and Path(dataset).exists()
    is_prepared = is_here and Path(dataset, "preparation.json").is_file()
    if not (recipe.push_to_hub and recipe.hub_model_id and dataset) or is_here != is_prepared:
        raise InputError(
            "A job needs --dataset, an id on the Hub or a folder that `python -m data_prep` made, "
            "and --push_to_hub True --hub_model_id USER/NAME: its model goes only to the Hub."
        )
    if recipe.seeds:
        raise InputError("A job makes one model: leave out --seeds, or run them here.")
    api = HfApi()
    with explain_hub_errors("The job", "submitted"):
        price = _price(api, recipe.job)
        repo_id = check_access(recipe.hub_model_id, recipe.hub_private_repo)
        name = repo_id.replace("/", "-")
        remote = f"music-genre-{name}-{_training_id(data, model, recipe)}"
        with TemporaryDirectory() as code, TemporaryDirectory() as empty:
            _copy_code(Path(code), argv, model.model_name_or_path)
            volumes = [
                _volume(api, code, "/code", remote_name=f"{remote}-code"),
                _volume(api, empty, "/output", remote_name=remote, read_only=False),
            ]
            if is_here:
                volumes.append(_volume(api, dataset, "/dataset"))
        job = api.run_job(
            image=IMAGE,
            command=["bash", "-c", SCRIPT, "train", *argv, *["--dataset", "/dataset"] * is_here],
            secrets={"HF_TOKEN": get_token()},
            flavor=recipe.job,
            timeout=recipe.job_timeout or DEFAULT_TIMEOUT,
            attempts=ATTEMPTS,
            name=name,
            volumes=volumes,
        )
    print(f"Job {job.id} on {recipe.job}, {price}: {job.url}")
    _follow(api, job, repo_id)


def _training_id(data: DataArguments, model: ModelArguments, recipe: RecipeArguments) -> str:
    """A short hash of all options except those of the job, and of what a folder was prepared from.

    A job resumes what it finds under this id, so another training needs another id.
    """
    options = vars(data) | vars(model) | recipe.to_dict()
    options["precision_reason"] = recipe.precision_reason  # what was not asked for, the job chooses
    for name in ("job", "job_timeout", "output_dir"):
        del options[name]
    preparation = read_preparation(Path(data.dataset))
    return hashlib.sha256(repr((options, preparation)).encode()).hexdigest()[:8]


def _price(api: HfApi, flavor: str) -> str:
    """The price of a flavor, as text for the user."""
    prices = {
        one.name: f"{one.unit_cost_usd:g} USD per {one.unit_label}"
        for one in api.list_jobs_hardware()
    }
    if flavor not in prices:
        known = ", ".join(f"{name} ({price})" for name, price in prices.items())
        raise InputError(f"--job {flavor} is not hardware of the Hub. There is {known}.")
    return prices[flavor]


def _volume(api: HfApi, folder: str, mount_path: str, **options: Any) -> Volume:
    """Copy a folder into the user's bucket for jobs.

    Raises:
        InputError: that bucket is public.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*is public", UserWarning)
        try:
            return api.sync_job_volume(folder, mount_path, **options)
        except UserWarning as error:  # says where to make it private
            raise InputError(str(error)) from error


def _copy_code(target: Path, argv: list[str], model: str) -> None:
    """Copy the files of this checkout that git tracks.

    They must include the JSON file in `argv`, and files of the model if it is a folder.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    files = [name for name in listed.stdout.split("\0") if (CHECKOUT / name).is_file()]
    if listed.returncode or not files:
        raise InputError(
            f"{CHECKOUT} is not a git checkout: a job takes the files that git tracks."
        )
    if argv and argv[0].endswith(".json") and os.path.normpath(argv[0]) not in files:
        raise InputError(
            f"git does not track {argv[0]}: add it, so that the job has it, and give its path "
            f"relative to {CHECKOUT}."
        )
    there = [name for name in files if name.startswith(f"{model.rstrip('/')}/")]
    if Path(model).is_dir() and not there:
        raise InputError(
            f"The job cannot see {model}, a folder of this machine: publish the model, and give "
            "its id as --model_name_or_path."
        )
    for name in files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, target / name)


def _follow(api: HfApi, job: JobInfo, repo_id: str) -> None:
    try:
        with explain_hub_errors(f"The log of job {job.id}", "read"):
            for line in api.fetch_job_logs(job_id=job.id, follow=True):
                print(line)
            status = api.wait_for_job(job.id).status
    except (KeyboardInterrupt, InputError):
        print(f"The job is still running. {_how_to_go_on(job)}", file=sys.stderr)
        raise
    if status.stage != JobStage.COMPLETED:
        message = f" ({status.message})" if status.message else ""
        raise InputError(
            f"Job {job.id} ended as {status.stage.lower()}{message}. Its log is above; the same "
            "command resumes it."
        )
    print(f"The model is at {api.endpoint}/{repo_id}")


def _how_to_go_on(job: JobInfo) -> str:
    return (
        f"Watch it: hf jobs logs --follow {job.id}. Stop it: hf jobs cancel {job.id}. After that, "
        "the same command resumes it."
    )
