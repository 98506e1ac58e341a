"""Upload a prepared dataset to the Hub: `python -m data_prep ... --push_to_hub USER/NAME`."""

from pathlib import Path

from datasets import load_from_disk
from huggingface_hub import HfApi

from data_prep.output_folder import MANIFEST_FILE
from music_genre.errors import InputError
from music_genre.hub_access import check_access, explain_hub_errors


def upload(folder: Path, repo_id: str, needs_rights: bool, times_public: int = 0) -> str:
    """Upload the dataset card, the manifest, and audio as Parquet files. Returns USER/NAME.

    `times_public` is how often `--public` was given: 0 uploads to a private repository, and audio
    that `needs_rights` becomes public only with 2. Raises InputError: this function or the Hub
    refuses the upload; the dataset in `folder` is unchanged.
    """
    if times_public == 1 and needs_rights:
        raise InputError(
            "This audio has no licence (GTZAN has none, other music needs --license), so it is "
            "not made public: omit --public, or give it twice (--public --public) if you have "
            "the rights."
        )
    full_id = check_access(repo_id, private=not times_public, repo_type="dataset")
    with explain_hub_errors(full_id):
        HfApi().upload_folder(
            repo_id=full_id,
            folder_path=folder,
            allow_patterns=["README.md", MANIFEST_FILE],
            repo_type="dataset",
            commit_message="Add the dataset card and the manifest",
        )
        load_from_disk(folder).push_to_hub(full_id)  # adds to the card's metadata
    return full_id


def needs_rights(preparation: dict) -> bool:
    """Whether this audio has no stated licence to be public; the audio of GTZAN has none."""
    return not (preparation["is_synthetic"] or preparation.get("license"))
