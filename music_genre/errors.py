"""Errors that speak to the person who runs a command."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Something a person gave cannot be used. The message tells them what is wrong and what to do.

    The command lines print it as it is and exit with 2, the app shows it in the page.
    """


def first_line(error: BaseException) -> str:
    """What an error of another package says, for a sentence: its type if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@contextmanager
def exit_with_message(when_stopped: str, *others: type[Exception]) -> Iterator[None]:
    """Around a command line: InputError, these others and Ctrl-C end it without a traceback.

    Args:
        when_stopped: what to say after Ctrl-C.

    Raises:
        SystemExit: with 2 after an error, with 1 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):  # names of files may be no text
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(f"\n{when_stopped}")
    except (InputError, *others) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
