"""Commands that publish a finished training run, or the demo as a Space; private by default.

    music-genre publish runs/distilhubert-gtzan you/distilhubert-gtzan
    music-genre space you/music-genre --model you/distilhubert-gtzan

In a checkout, `python -m music_genre publish`. The token comes from `hf auth login` or HF_TOKEN.
"""

import argparse
from pathlib import Path


def add_publish_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="folder of a training run, e.g. runs/NAME")
    parser.add_argument("repo_id", help="USER/NAME of the model")
    parser.add_argument("--public", action="store_true", help="default: private")


def publish(arguments: argparse.Namespace) -> None:
    """Upload a finished run as a model."""
    from music_genre.publishing.hub import publish as publish_model

    address = publish_model(arguments.folder, arguments.repo_id, not arguments.public)
    print(f"Try it: python app.py --model {arguments.repo_id}")
    print(f"Published, {'for all to see' if arguments.public else 'private'}: {address}")


def add_space_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("repo_id", help="USER/NAME of the Space")
    parser.add_argument("--model", required=True, metavar="USER/NAME", help="model to show")
    parser.add_argument("--public", action="store_true", help="default: private")


def space(arguments: argparse.Namespace) -> None:
    """Upload the page as a Space, from a checkout."""
    from music_genre.publishing.space import publish_space

    address = publish_space(arguments.repo_id, arguments.model, not arguments.public)
    print(f"Published, {'for all to see' if arguments.public else 'private'}: {address}")
