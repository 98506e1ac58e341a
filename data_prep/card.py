"""The dataset card of `python -m data_prep`: what is in it, what is wrong with it, whose it is."""

from pathlib import Path

from huggingface_hub import DatasetCard, DatasetCardData

from data_prep import splits
from data_prep.gtzan import GENRES, SPLITS

TEMPLATE = Path(__file__).with_name("card.md")


def dataset_card(preparation: dict) -> DatasetCard:
    """Build the card from the content of `preparation.json`."""
    is_synthetic = preparation["is_synthetic"]
    title = "Synthesised music in ten styles" if is_synthetic else "GTZAN genres, 16 kHz"
    data = DatasetCardData(
        license="apache-2.0" if is_synthetic else "unknown",
        pretty_name=title,
        task_categories=["audio-classification"],
        tags=["music", "music-genre", "gtzan"],
        size_categories="n<1K" if preparation["n_kept"] < 1000 else "1K<n<10K",
    )
    return DatasetCard.from_template(
        data,
        template_path=str(TEMPLATE),
        **preparation
        | {
            "title": title,
            "minutes": round(preparation["seconds"] / 60),
            "genres": GENRES,
            "split_names": SPLITS,
            "split_description": splits.DESCRIPTIONS[preparation["split"]].capitalize(),
            "leakage": splits.describe_leakage(preparation["leakage"]),
            "identical_samples": "; ".join(map(", ".join, preparation["identical_samples"])),
            "sources": " and ".join(f"`{s['name']}`" for s in preparation["sources"]),
        },
    )
