"""How long a run and each of its stages took; on a rented GPU each minute has its price."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Started with the run.

    Attributes:
        stages: seconds of each stage that is over, in their order.
    """

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.stages: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        """How long the run has taken so far."""
        return time.monotonic() - self.started

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block as that of a stage, also where it is one of several."""
        started = time.monotonic()
        yield
        self.stages[name] = self.stages.get(name, 0.0) + time.monotonic() - started

    def rounded(self) -> dict[str, float]:
        return {name: round(seconds, 1) for name, seconds in self.stages.items()}

    def describe(self) -> str:
        stages = ", ".join(f"{name} {seconds}" for name, seconds in self.rounded().items())
        return f"Seconds: {stages}; the whole run {self.seconds:.1f}."
