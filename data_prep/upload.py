"""Upload a prepared dataset to the Hub: `python -m data_prep ... --push_to_hub USER/NAME`."""

from pathlib import Path

from datasets import load_from_disk
from huggingface_hub import CommitOperationAdd, DatasetCard, HfApi, hf_hub_download

from data_prep.output_folder import MANIFEST_FILE
from music_genre.errors import InputError
from music_genre.hub_access import check_access, explain_hub_errors


def upload(folder: Path, repo_id: str, needs_rights: bool, times_public: int = 0) -> str:
    """Upload audio as Parquet files, then the manifest and the dataset card. Returns USER/NAME.

    `times_public` is how often `--public` was given: 0 uploads to a private repository, and audio
    that `needs_rights` becomes public only with 2. Raises InputError: refused by this function or
    by the Hub; the dataset in `folder` is unchanged.
    """
    try:
        if times_public == 1 and needs_rights:
            raise InputError(
                "This audio has no licence (GTZAN has none, other music needs --license), so it is "
                "not made public: omit --public, or give it twice (--public --public) if you have "
                "the rights."
            )
        full_id = check_access(repo_id, private=not times_public, repo_type="dataset")
        with explain_hub_errors(full_id):
            load_from_disk(folder).push_to_hub(full_id)
            _upload_card(folder, full_id)
    except InputError as error:
        raise InputError(f"{error} The dataset is complete in {folder}.") from error
    return full_id


def needs_rights(preparation: dict) -> bool:
    """Whether nobody said that this audio may be public: GTZAN's has no licence either."""
    return not (preparation["is_synthetic"] or preparation.get("license"))


def _upload_card(folder: Path, full_id: str) -> None:
    """Replace the card that `push_to_hub` wrote; its metadata name the Parquet files."""
    card = DatasetCard.load(folder / "README.md")
    generated = hf_hub_download(full_id, "README.md", repo_type="dataset")
    for key, value in DatasetCard.load(generated).data.to_dict().items():
        card.data[key] = value
    HfApi().create_commit(
        full_id,
        [
            CommitOperationAdd("README.md", str(card).encode()),
            CommitOperationAdd(MANIFEST_FILE, folder / MANIFEST_FILE),
        ],
        commit_message="Add the dataset card and the manifest",
        repo_type="dataset",
    )
