"""The dataset card of `python -m data_prep`: the dataset's contents, faults and licence."""

from pathlib import Path

from huggingface_hub import DatasetCard, DatasetCardData

from data_prep.gtzan import SPLITS
from data_prep.leakage import describe_leakage

TEMPLATE = Path(__file__).with_name("card.md")
CARD_FIELDS = ("kind", "split", "seed", "n_clips", "is_synthetic")  # read by training


def dataset_card(preparation: dict) -> DatasetCard:
    """Build the card from the content of `preparation.json`."""
    is_synthetic, is_gtzan = preparation["is_synthetic"], preparation["kind"] == "gtzan"
    if is_gtzan:
        title = "Synthesised music in ten styles" if is_synthetic else "GTZAN genres"
        license = "apache-2.0" if is_synthetic else "unknown"
    else:
        title, license = preparation["dataset_name"], preparation["license"]
    data = DatasetCardData(
        license=license,
        pretty_name=title,
        task_categories=["audio-classification"],
        tags=["music", "music-genre"] + (["gtzan"] if is_gtzan else []),
        data_prep={key: preparation[key] for key in CARD_FIELDS},
    )
    description = preparation["split_description"]
    return DatasetCard.from_template(
        data,
        template_path=str(TEMPLATE),
        **preparation
        | {
            "title": title,
            "is_gtzan": is_gtzan,
            "minutes": round(preparation["seconds"] / 60),
            "split_names": SPLITS,
            "split_description": description[0].upper() + description[1:],
            "is_drawn": preparation["split"] not in ("filtered", "given"),
            "leakage": describe_leakage(preparation["leakage"]),
            "sources": " and ".join(f"`{s['name']}`" for s in preparation["sources"]),
        },
    )


def read_card(source: Path | str) -> dict:
    """The values of `CARD_FIELDS`, from a file or from the card of a dataset on the Hub.

    Empty if there is no card, or not one by data_prep. The card may come from a stranger, so the
    values may be anything.
    """
    try:
        values = DatasetCard.load(source).data.to_dict().get("data_prep")
    except Exception:  # the parser of the metadata raises its own types
        return {}
    return values if isinstance(values, dict) and values.keys() == set(CARD_FIELDS) else {}
