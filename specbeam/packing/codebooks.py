"""Codebooks: which tokens each level of an index may hold, used by an item or not."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from specbeam.bundle import LevelTokens
from specbeam.catalog import ItemTrie

# A code token is a number between texts, the first with a letter: <a_12>, <|sid_0_12|>, C3.
_CODE_TOKEN = re.compile(r"(\D*[A-Za-z](?:.*\D)?)(\d{1,9})(\D*)")

_Family = tuple[str, str]


def find_codebooks(
    trie: ItemTrie, vocabulary: Mapping[str, int] | None, ending: Sequence[int] = ()
) -> tuple[LevelTokens, ...]:
    """Return the codebook of each level.

    A level's codebook holds the tokens that items use there and every token of the vocabulary of
    the same pattern ("<a_0>" to "<a_255>" when items use "<a_7>").

    Args:
        trie: the catalogue.
        vocabulary: token to id; without one, only the tokens in use are known.
        ending: the tokens that end an item, if there are some.
    """
    family_of: dict[int, _Family] = {}
    members: defaultdict[_Family, list[int]] = defaultdict(list)
    for token, number in (vocabulary or {}).items():
        if match := _CODE_TOKEN.fullmatch(token):
            family_of[number] = (match[1], match[3])
            members[match[1], match[3]].append(number)
    levels = []
    for level in range(1, trie.depth + 1):
        used = trie.level_tokens(level)
        families = {family_of[token] for token in used.tolist() if token in family_of}
        tokens = [*used.tolist(), *(n for family in families for n in members[family])]
        levels.append(LevelTokens.of_tokens(_name(level, families, used, ending), tokens))
    return tuple(levels)


def _name(level: int, families: set[_Family], used: np.ndarray, ending: Sequence[int]) -> str:
    """Return a short name: the letters of the pattern, or the level's number."""
    if set(used.tolist()) <= set(ending):
        return "end"
    letters = {re.sub(r"[^A-Za-z0-9]+", "", head) for head, _ in families}
    return letters.pop() if len(letters) == 1 else str(level)
