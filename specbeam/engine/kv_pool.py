"""Preallocated KV slots of one model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from specbeam.decoding.upload import upload


class NoFreeSlotError(RuntimeError):
    """Every slot is leased."""


@dataclass(frozen=True, slots=True)
class KvGeometry:
    """Shape of one slot.

    Attributes:
        layers: decoder layers.
        kv_heads: key/value heads, G.
        head_dim: D.
        positions: prompt positions plus scratch rows, S.
    """

    layers: int
    kv_heads: int
    head_dim: int
    positions: int


class KvPool:
    """Slots of fixed size and address; a session leases one and gives it back.

    A slot's first P positions hold the prompt, the rest is scratch for tree rows.  Used by one
    device thread only, so it takes no locks.
    """

    def __init__(
        self, slots: int, geometry: KvGeometry, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Allocate `slots` slots of (layers, 2, G, S, D)."""
        self.geometry = geometry
        shape = (
            slots,
            geometry.layers,
            2,
            geometry.kv_heads,
            geometry.positions,
            geometry.head_dim,
        )
        self._data = torch.zeros(shape, dtype=dtype, device=device)
        self._free = list(range(slots))
        self.slots = slots

    @property
    def free(self) -> int:
        """Slots not leased."""
        return len(self._free)

    def acquire(self) -> int:
        """Lease a slot.

        Raises:
            NoFreeSlotError: none is free.
        """
        if not self._free:
            raise NoFreeSlotError(f"all {self.slots} KV slots are in use")
        return self._free.pop()

    def release(self, slot: int) -> None:
        """Give a slot back."""
        if slot in self._free:
            raise AssertionError(f"slot {slot} was released twice")
        self._free.append(slot)

    @property
    def data(self) -> torch.Tensor:
        """Every slot.  Shape (slots, layers, 2, G, S, D)."""
        return self._data

    def view(self, slot: int) -> torch.Tensor:
        """Return the slot's tensor.  Shape (layers, 2, G, S, D)."""
        return self._data[slot]

    def compact(self, slot: int, prompt_tokens: int, rows: np.ndarray) -> None:
        """Move scratch rows to the front of the scratch region.

        Keys carry their rotary phase already, so moving a row is safe; its position id follows its
        depth, not its place.

        Args:
            slot: leased slot.
            prompt_tokens: P.
            rows: scratch rows to keep, in their new order.  Shape (k,), int64.
        """
        data = self._data[slot]
        kept = data.index_select(3, upload(rows + prompt_tokens, data.device))
        data[:, :, :, prompt_tokens : prompt_tokens + len(rows)] = kept
