"""Prompts of several lengths in one batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Int32Array = npt.NDArray[np.int32]
SOME_TOKEN = 0


@dataclass(frozen=True, slots=True)
class PaddedPrompts:
    """Prompts padded on the left, so that all of them end in the last column.

    Attributes:
        tokens: token ids; any token where padded. Shape (G, T).
        padding: columns of padding before each prompt. Shape (G,).
    """

    tokens: Tensor
    padding: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, rows: Tensor) -> "PaddedPrompts":
        """Return some of the prompts. `rows` has shape (n,)."""
        return PaddedPrompts(self.tokens[rows], self.padding[rows])


def pad_left(prompts: Sequence[Int32Array]) -> PaddedPrompts:
    """Return prompts as one batch; at least one, none of them empty."""
    longest = max(len(prompt) for prompt in prompts)
    tokens = np.full((len(prompts), longest), SOME_TOKEN, np.int64)
    for row, prompt in enumerate(prompts):
        tokens[row, longest - len(prompt) :] = prompt
    padding = np.array([longest - len(prompt) for prompt in prompts], np.int64)
    return PaddedPrompts(torch.from_numpy(tokens), torch.from_numpy(padding))


def by_length(prompts: Sequence[Int32Array], size: int) -> Iterator[list[int]]:
    """Yield the numbers of at most `size` prompts of similar length at a time, short ones first."""
    order = np.argsort([len(prompt) for prompt in prompts], kind="stable").tolist()
    for begin in range(0, len(order), size):
        yield order[begin : begin + size]
