"""Passes over tree rows in a few fixed shapes, so that a CUDA graph can replay them.

Rows and attended positions are rounded up to buckets.  Every input is a buffer of fixed size and
address: tokens, position ids, the place each row is written to, the slot's number, who sees what.
A row that fills up sees the prompt's first token and writes to a place that nobody reads.  The
slot's number is data, so one graph serves every slot; its price is one copy of the attended keys
and values per layer.

On a device without graphs the same computation runs kernel by kernel; that is what the tests
compare with the ordinary pass.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from specbeam.decoding.upload import upload
from specbeam.engine.decoder import Decoder, attend

ROW_BUCKETS = (8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
POSITION_BUCKETS = (128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
_POSITION_STEP = 128


def slot_positions(positions: int) -> int:
    """Return how long a slot must be to hold `positions`, the unread one, and whole buckets."""
    return -(-(positions + 1) // _POSITION_STEP) * _POSITION_STEP


class StaticPass:
    """One pair of buckets: buffers, and the computation on them.

    Attributes:
        rows: R, of the bucket.
        positions: attended positions, of the bucket.
    """

    def __init__(self, decoder: Decoder, slots: torch.Tensor, rows: int, positions: int) -> None:
        """Allocate the buffers, filled with rows that touch nothing.

        Args:
            decoder: whose layers run.
            slots: keys and values of all slots.  Shape (slots, layers, 2, G, S, D).
            rows: of the bucket.
            positions: of the bucket, at most S.
        """
        self.rows, self.positions = rows, positions
        self._decoder, self._slots = decoder, slots
        self._unread = slots.shape[4] - 1
        device = slots.device
        # Tokens, position ids, places, and the slot's number at the end: one upload a pass.
        self._ids = torch.from_numpy(self._numbers(0, [], [], 0)).to(device)
        self._sees = torch.zeros((rows, positions), dtype=torch.bool, device=device)
        self._sees[:, 0] = True

    def load(
        self,
        slot: int,
        prompt_tokens: int,
        tokens: np.ndarray,
        positions: np.ndarray,
        sees: np.ndarray,
    ) -> None:
        """Fill the buffers; see `ModelRunner.forward_rows`.  At most R rows."""
        start = prompt_tokens + sees.shape[1] - len(tokens)
        seen = np.zeros((self.rows, self.positions), bool)
        seen[: len(tokens), :prompt_tokens] = True
        seen[: len(tokens), prompt_tokens : prompt_tokens + sees.shape[1]] = sees
        seen[len(tokens) :, 0] = True  # a row that sees nothing would be NaN
        device = self._ids.device
        ids = self._numbers(slot, tokens, positions, start)
        self._ids.copy_(upload(ids, device), non_blocking=True)
        self._sees.copy_(upload(seen, device), non_blocking=True)

    def _numbers(
        self,
        slot: int,
        tokens: np.ndarray | list[int],
        positions: np.ndarray | list[int],
        start: int,
    ) -> np.ndarray:
        """Token, position and place of each row, and the slot.  Shape (3 R + 1,), int64."""
        count = len(tokens)
        by_row = np.zeros((3, self.rows), np.int64)
        by_row[0, :count], by_row[1, :count] = tokens, positions
        by_row[2] = self._unread
        by_row[2, :count] = np.arange(start, start + count)
        return np.append(by_row.reshape(-1), slot)

    def compute(self) -> torch.Tensor:
        """Run the pass on the buffers; reads and writes no other input.  Shape (R, hidden)."""
        tokens, positions, places = self._ids[:-1].view(3, -1).unbind(0)
        slot, shape = self._ids[-1:], self._decoder.shape
        angles = self._decoder.angles(positions)
        mask = torch.zeros(self._sees.shape, dtype=self._slots.dtype, device=self._slots.device)
        mask.masked_fill_(self._sees.logical_not(), -torch.inf)
        mask = mask.expand(shape.heads_per_group, -1, -1).reshape(1, 1, -1, self.positions)

        def attention(layer: int, qkv: torch.Tensor) -> torch.Tensor:
            queries, keys, values = self._decoder.split(layer, qkv, angles)
            of_layer = self._slots[:, layer]
            of_layer[:, 0][slot, :, places] = keys
            of_layer[:, 1][slot, :, places] = values
            held = of_layer[:, :, :, : self.positions].index_select(0, slot)[0]
            return attend(queries, held, mask, shape.scale)

        return self._decoder.run(tokens, attention)


# How a bucket's computation is started: at once, or recorded first and replayed from then on.
Starter = Callable[[StaticPass], Callable[[], torch.Tensor]]


class StaticDecoder(nn.Module):
    """The passes of all buckets; a module only so that it takes hooks."""

    def __init__(
        self, decoder: Decoder, slots: torch.Tensor, max_rows: int, start: Starter
    ) -> None:
        """Prepare no bucket yet.

        Args:
            decoder: whose layers run.
            slots: keys and values of all slots, `slot_positions` long.  Shape (slots, layers, 2,
                G, S, D).
            max_rows: rows of the largest pass.
            start: makes the function that runs a bucket.
        """
        super().__init__()
        self._decoder, self._slots, self._start = decoder, slots, start
        self._row_buckets = _up_to(ROW_BUCKETS, max_rows)
        self._position_buckets = _up_to(POSITION_BUCKETS, slots.shape[4])
        self._passes: dict[tuple[int, int], tuple[StaticPass, Callable[[], torch.Tensor]]] = {}

    @property
    def buckets(self) -> tuple[tuple[int, int], ...]:
        """Every pair of rows and positions there may be."""
        return tuple((r, p) for r in self._row_buckets for p in self._position_buckets)

    @torch.inference_mode()
    def holds(self, rows: int, positions: int) -> bool:
        """Tell whether a pass of that many rows and attended positions has a bucket."""
        return rows <= self._row_buckets[-1] and positions <= self._position_buckets[-1]

    def prepare(self, rows: int, positions: int) -> None:
        """Make the pass of the buckets that hold a shape; later passes of it are quick."""
        self._pass_of(rows, positions)

    def forward(
        self,
        slot: int,
        prompt_tokens: int,
        tokens: np.ndarray,
        positions: np.ndarray,
        sees: np.ndarray,
    ) -> torch.Tensor:
        """Run tree rows that there is a bucket for; see `ModelRunner.forward_rows`.

        Returns:
            Shape (R, hidden), not kept anywhere.
        """
        static, run = self._pass_of(len(tokens), prompt_tokens + sees.shape[1])
        static.load(slot, prompt_tokens, tokens, positions, sees)
        # The next replay writes over what this one returned.
        return run()[: len(tokens)].clone()

    def _pass_of(self, rows: int, positions: int) -> tuple[StaticPass, Callable[[], torch.Tensor]]:
        key = _bucket(self._row_buckets, rows), _bucket(self._position_buckets, positions)
        found = self._passes.get(key)
        if found is None:
            static = StaticPass(self._decoder, self._slots, *key)
            found = self._passes[key] = static, self._start(static)
        return found


def run_at_once(static: StaticPass) -> Callable[[], torch.Tensor]:
    """Run a bucket kernel by kernel each time."""
    return static.compute


def _up_to(buckets: tuple[int, ...], largest: int) -> tuple[int, ...]:
    """Buckets for sizes up to `largest`, or to the last bucket where that is less."""
    if largest >= buckets[-1]:
        return buckets
    return (*(bucket for bucket in buckets if bucket < largest), largest)


def _bucket(buckets: tuple[int, ...], size: int) -> int:
    return buckets[bisect_left(buckets, size)]
