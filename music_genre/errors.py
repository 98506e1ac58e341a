"""Errors whose messages are for the person who runs a command."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """A person's input cannot be used. The message says what is wrong and what to do.

    The command lines print the message unchanged and exit with 2; the app shows it on the page.
    """


def first_line(error: BaseException) -> str:
    """Return the first line of another package's error message, or its type if that is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@contextmanager
def exit_with_message(when_stopped: str, *others: type[Exception]) -> Iterator[None]:
    """Exit without a traceback on InputError, on the other given errors, and on Ctrl-C.

    Args:
        when_stopped: the message after Ctrl-C.

    Raises:
        SystemExit: with 2 after an error, with 1 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):  # file names may not be valid text
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(f"\n{when_stopped}")
    except (InputError, *others) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
