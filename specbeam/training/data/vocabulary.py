"""How code levels map to token ids of the language model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PAD_TOKEN_ID = 0
BOS_TOKEN_ID = 1
EOS_TOKEN_ID = 2
FIRST_CODE_TOKEN_ID = 3


@dataclass(frozen=True, slots=True)
class Level:
    """One position of a semantic ID.

    Attributes:
        name: the level's letter or word, as it appears in code tokens (`a` in `<a_12>`).
        token_offset: token id of code 0.
        size: number of codes; code `c` has token id `token_offset + c`.
    """

    name: str
    token_offset: int
    size: int


def make_levels(names: Sequence[str], sizes: Sequence[int]) -> tuple[Level, ...]:
    """Lay the levels out one after another behind pad, BOS and EOS.

    Args:
        names: one name per level.
        sizes: codes per level.
    """
    levels: list[Level] = []
    offset = FIRST_CODE_TOKEN_ID
    for name, size in zip(names, sizes, strict=True):
        levels.append(Level(name, offset, size))
        offset += size
    return tuple(levels)


def vocab_size(levels: Sequence[Level]) -> int:
    """Return the number of token ids, the three special tokens included."""
    return max((level.token_offset + level.size for level in levels), default=FIRST_CODE_TOKEN_ID)


def codes_to_tokens(codes: npt.NDArray[np.int32], levels: Sequence[Level]) -> npt.NDArray[np.int32]:
    """Add each level's offset to its column of codes.

    Args:
        codes: shape (N, L).
        levels: L levels.

    Returns:
        Token ids. Shape (N, L).
    """
    offsets = np.array([level.token_offset for level in levels], dtype=np.int32)
    return (codes.astype(np.int32) + offsets).astype(np.int32)


def token_names(path: Sequence[int], levels: Sequence[Level]) -> str:
    """Return a readable form of a token path, such as `a_47 b_103`."""
    return " ".join(
        f"{level.name}_{token - level.token_offset}"
        for token, level in zip(path, levels, strict=True)
    )
