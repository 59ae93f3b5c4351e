"""Counting forward passes where they happen: by hooks on the model."""

from __future__ import annotations

import time
from typing import Any

from torch import nn


class PassMeter:
    """Records the interval of every forward, from the decoder stack's start to the LM head's end.

    Intervals are (start, end) in CLOCK_MONOTONIC nanoseconds, comparable between processes of one
    machine.  On CUDA they cover the launch; device time needs events.
    """

    def __init__(self, body: nn.Module) -> None:
        """Hook the decoder stack."""
        self.intervals: list[tuple[int, int]] = []
        self._start = 0
        self.watch(body)

    def watch(self, body: nn.Module) -> None:
        """Count the forwards of another form of the stack too."""
        body.register_forward_pre_hook(self._begin)
        body.register_forward_hook(self._end)

    def _begin(self, *_: Any) -> None:
        self._start = time.monotonic_ns()

    def _end(self, *_: Any) -> None:
        self.intervals.append((self._start, time.monotonic_ns()))

    def finish(self) -> None:
        """Say that the LM head of the last pass is done now."""
        if self.intervals:
            self.intervals[-1] = (self.intervals[-1][0], time.monotonic_ns())

    def take(self) -> tuple[tuple[int, int], ...]:
        """Return the intervals since the last call and forget them."""
        taken = tuple(self.intervals)
        self.intervals.clear()
        return taken
