"""`python -m music_genre.publishing`, until music_genre/__main__.py has the sub-commands.

python -m music_genre.publishing runs/distilhubert-gtzan you/distilhubert-gtzan
python -m music_genre.publishing --space you/music-genre --model you/distilhubert-gtzan
"""

import argparse
import sys

from music_genre.errors import exit_with_message
from music_genre.publishing import command


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m music_genre.publishing")
    if is_space := "--space" in sys.argv:
        sys.argv.remove("--space")
        command.add_space_arguments(parser)
    else:
        command.add_publish_arguments(parser)
    arguments = parser.parse_args()
    with exit_with_message(command.STOPPED):
        (command.space if is_space else command.publish)(arguments)


if __name__ == "__main__":
    main()
