"""Measure how long a run and each stage of it take: each minute of a rented GPU costs money."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """A clock that is started with the run.

    Attributes:
        stages: seconds of each finished stage, in their order.
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
        """Add the time of the block to a stage, which may have several blocks."""
        started = time.monotonic()
        yield
        self.stages[name] = self.stages.get(name, 0.0) + time.monotonic() - started

    def rounded(self) -> dict[str, float]:
        return {name: round(seconds, 1) for name, seconds in self.stages.items()}

    def describe(self) -> str:
        stages = ", ".join(f"{name} {seconds}" for name, seconds in self.rounded().items())
        return f"Seconds: {stages}; the whole run {self.seconds:.1f}."
