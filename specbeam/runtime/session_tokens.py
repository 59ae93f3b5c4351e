"""Token paths on the wire of a session, where padding has a number of its own."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from specbeam.catalog import PAD

# Fields of tokens are unsigned, and a vocabulary never gets that far.
WIRE_PAD: Final = 0xFFFF_FFFF


def encode_tokens(tokens: np.ndarray) -> list[int]:
    """Return the elements of a repeated field, row after row.

    Args:
        tokens: Vocabulary ids or padding, any shape.
    """
    # As unsigned 32-bit integers, -1 is the wire's padding.
    numbers: list[int] = tokens.ravel().astype(np.uint32).tolist()
    return numbers


def decode_tokens(values: Sequence[int]) -> NDArray[np.int64]:
    """Return vocabulary ids and padding from a repeated field.  Shape (n,)."""
    tokens = np.fromiter(values, np.int64, len(values))
    tokens[tokens == WIRE_PAD] = PAD
    return tokens
