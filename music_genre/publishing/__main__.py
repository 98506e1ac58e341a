"""Publish on the Hub: a finished training run, in one commit, or the demo as a Space.

    python -m music_genre.publishing runs/distilhubert-gtzan you/distilhubert-gtzan
    python -m music_genre.publishing --space you/music-genre --model you/distilhubert-gtzan

Private unless --public is said. The token comes from `hf auth login` or HF_TOKEN.
"""

import argparse
import sys
from pathlib import Path

from music_genre.errors import exit_with_message


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m music_genre.publishing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, nargs="?", help="a training run's, e.g. runs/NAME")
    parser.add_argument("repo_id", nargs="?", help="USER/NAME of the model")
    parser.add_argument("--space", metavar="USER/NAME", help="publish the demo, not a model")
    parser.add_argument("--model", metavar="USER/NAME", help="what the demo shows")
    parser.add_argument("--public", action="store_true", help="default: private")
    arguments = parser.parse_args(argv)
    is_model = bool(arguments.folder and arguments.repo_id)
    is_space = bool(arguments.space and arguments.model)
    if is_model == is_space or bool(arguments.space) != bool(arguments.model):
        parser.error("give FOLDER USER/NAME, or --space USER/NAME --model USER/NAME")
    return arguments


def main() -> None:
    arguments = parse_arguments(sys.argv[1:])
    stopped = "Stopped. The same command goes on: what is on the Hub is not sent again."
    with exit_with_message(stopped):
        from music_genre.publishing.hub import publish
        from music_genre.publishing.space import publish_space

        if arguments.space:
            address = publish_space(arguments.space, arguments.model, not arguments.public)
        else:
            address = publish(arguments.folder, arguments.repo_id, not arguments.public)
            print(f"Try it: python app.py --model {arguments.repo_id}")
    print(f"Published, {'for all to see' if arguments.public else 'private'}: {address}")


if __name__ == "__main__":
    main()
