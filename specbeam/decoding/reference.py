"""The slow, obvious beam search every fast path is compared with.

It shares nothing with the fast path: a dict trie, one cache-free forward over the whole prefix of
every beam, Python's `sorted` on (-score, path).  Used by tests and never by a service.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

# Log-probabilities of every vocabulary id after each of several token sequences of equal length.
NextLogprobs = Callable[[Sequence[Sequence[int]]], Sequence[Sequence[float]]]


@dataclass(frozen=True, slots=True)
class ReferenceItem:
    """One returned item."""

    item_id: str
    score: float
    path: tuple[int, ...]


def reference_beam_search(
    items: Mapping[str, tuple[int, ...]],
    popularity: Mapping[str, int],
    prompt: Sequence[int],
    next_logprobs: NextLogprobs,
    beam_width: int,
    num_items: int,
    excluded: Collection[str] = (),
) -> list[ReferenceItem]:
    """Return the K best items by beam search of width W over the item trie.

    Args:
        items: token path of every item id.
        popularity: interaction count of every item id.
        prompt: prompt tokens.
        next_logprobs: log-softmax over the vocabulary after each token sequence.
        beam_width: W.
        num_items: K.
        excluded: item ids that must not be returned.
    """
    trie: dict[tuple[int, ...], set[int]] = {}
    leaves: dict[tuple[int, ...], list[str]] = {}
    for item_id, path in items.items():
        if item_id in excluded:
            continue
        leaves.setdefault(path, []).append(item_id)
        for depth in range(len(path)):
            trie.setdefault(path[:depth], set()).add(path[depth])
    beams: list[tuple[float, tuple[int, ...]]] = [(0.0, ())] if trie else []
    depth_of_items = len(next(iter(items.values())))
    for _ in range(depth_of_items):
        candidates: list[tuple[float, tuple[int, ...]]] = []
        after = next_logprobs([[*prompt, *path] for _, path in beams]) if beams else []
        for (score, path), logprobs in zip(beams, after, strict=True):
            candidates += [(score + logprobs[token], (*path, token)) for token in trie[path]]
        beams = sorted(candidates, key=lambda beam: (-beam[0], beam[1]))[:beam_width]
    found: list[ReferenceItem] = []
    for score, path in beams:
        assert math.isfinite(score)
        for item_id in sorted(leaves[path], key=lambda name: (-popularity[name], name)):
            found.append(ReferenceItem(item_id, score, path))
    return found[:num_items]
