"""Runners whose prompt is (partly) in place before a search begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from specbeam.engine import ModelRunner
from specbeam.engine.static_decoder import StaticDecoder

_SLOT = 0  # there is only one


class PreparedRunner(ModelRunner):
    """A runner of one slot that may find a prompt's keys and values there.

    Attributes:
        prefix: what `prefill` finds: "cold" nothing, "cached" all but the last item, "root ready"
            everything, so that no pass is run.
        tail_tokens: tokens of an item.
    """

    prefix = "cold"
    tail_tokens = 1
    _root: torch.Tensor | None = None

    def place(self, prompt: np.ndarray) -> None:
        """Run a prompt beforehand; searches of this prompt may follow, of no other one."""
        self._root = super().prefill(_SLOT, prompt).clone()

    def prefill(self, slot: int, prompt: np.ndarray, held: int = 0) -> torch.Tensor:
        """Run what is not in place of a prompt; see `ModelRunner.prefill`."""
        start = len(prompt) - self.tail_tokens
        if self.prefix == "root ready":
            assert self._root is not None
            return self._root
        if self.prefix == "cold" or start < 1:
            return super().prefill(slot, prompt, held)
        before = np.tri(self.tail_tokens, dtype=bool)
        positions = np.arange(start, len(prompt))
        return self.forward_rows(slot, start, prompt[start:], positions, before)[-1:]

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
