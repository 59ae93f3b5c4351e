"""A runner whose graphs are recorded beforehand, or left alone for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from specbeam.engine import ModelRunner
from specbeam.engine.static_decoder import StaticDecoder


class RecordedRunner(ModelRunner):
    """A runner that is measured with graphs and without."""

    @contextmanager
    def kernel_by_kernel(self) -> Iterator[None]:
        """Leave the graphs alone for a while."""
        static: StaticDecoder | None = self.static
        self.static = None
        try:
            yield
        finally:
            self.static = static

    def record(self, longest: int) -> int:
        """Record the graph of every bucket up to a number of attended positions.

        Otherwise a request that is measured might be the first of its bucket.

        Returns:
            How many there are.
        """
        static = self.static
        assert static is not None
        wanted = [(rows, end) for rows, end in static.buckets if end <= longest]
        for rows, end in wanted:
            static.prepare(rows, end)
        self.wait()
        return len(wanted)

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
