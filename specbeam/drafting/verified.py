"""Verified trees: what the target has scored in a request, kept for later ones."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from specbeam.catalog import ItemTrie
from specbeam.decoding.beams import Beams
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.tree import CandidateTree, node_of_each

_MAGIC = b"SV1"
_HEAD = struct.Struct("<3sBI")  # magic, levels, checksum of the rest
_LEVEL = struct.Struct("<BH")  # level, nodes


class VerifiedTreeError(ValueError):
    """Bytes that are no verified tree."""


@dataclass(frozen=True, slots=True)
class VerifiedLevel:
    """Nodes of one level the target gave a score to.

    Attributes:
        nodes: trie nodes, ascending.  Shape (n,), int64.
        logprobs: log-probability of each given its parent.  Shape (n,), float32.
    """

    nodes: np.ndarray
    logprobs: np.ndarray


@dataclass(frozen=True, slots=True)
class VerifiedTree:
    """The best nodes of each level of one request.

    Attributes:
        levels: by level, 1 .. L - 1.
    """

    levels: Mapping[int, VerifiedLevel]

    def __len__(self) -> int:
        """Number of nodes."""
        return sum(len(level.nodes) for level in self.levels.values())

    @classmethod
    def join(cls, trie: ItemTrie, seen: Iterable[tuple[Beams, ScoredTree]]) -> VerifiedTree:
        """Collect what the turns of one search reported.

        Args:
            trie: the catalogue.
            seen: the beams before each turn, and the nodes scored in it.  Nodes that are not in the
                trie are left out.
        """
        found: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        for beams, tree in seen:
            node, level = node_of_each(
                trie, beams, CandidateTree(tree.base_level, tree.parents, tree.tokens)
            )
            for depth in range(tree.base_level + 1, trie.depth):
                here = np.flatnonzero(level == depth)
                if len(here):
                    found.setdefault(depth, []).append((node[here], tree.logprobs[here]))
        return cls({level: _joined(parts) for level, parts in sorted(found.items())})

    def below(self, trie: ItemTrie, beams: Beams) -> ScoredTree:
        """Return the nodes below some beams as a tree; nodes without a parent in it are left out.

        Args:
            trie: the catalogue.
            beams: the beams, in ascending node order.
        """
        parents, tokens, logprobs = [], [], []
        above, offset = beams.nodes, 0
        for level in range(beams.level + 1, trie.depth):
            part = self.levels.get(level)
            if part is None:
                break
            parent = trie.levels[level - 1].parent_of(part.nodes)
            place = np.minimum(np.searchsorted(above, parent), len(above) - 1)
            kept = above[place] == parent
            parents.append(offset + place[kept])
            tokens.append(trie.levels[level].tokens_of(part.nodes[kept]).astype(np.int64))
            logprobs.append(part.logprobs[kept])
            # Numbers 0 .. W' - 1 are the beams; each level's nodes follow those of the one above.
            offset += len(above)
            above = part.nodes[kept]
            if not len(above):
                break
        if not parents:
            return ScoredTree.empty(beams.level)
        return ScoredTree(beams.level, *map(np.concatenate, (parents, tokens, logprobs)))

    def encode(self) -> bytes:
        """Return a compact form: node numbers as 32 bits, log-probabilities as 16."""
        body = b"".join(
            _LEVEL.pack(number, len(level.nodes))
            + level.nodes.astype("<u4").tobytes()
            + level.logprobs.astype("<f2").tobytes()
            for number, level in self.levels.items()
        )
        return _HEAD.pack(_MAGIC, len(self.levels), zlib.crc32(body)) + body

    @classmethod
    def decode(cls, data: bytes, trie: ItemTrie) -> VerifiedTree:
        """Read the form written by `encode`.

        Raises:
            VerifiedTreeError: it is damaged, or of another catalogue.
        """
        try:
            magic, count, checksum = _HEAD.unpack_from(data)
            if magic != _MAGIC or zlib.crc32(data[_HEAD.size :]) != checksum:
                raise VerifiedTreeError("not a verified tree, or damaged")
            levels, at = {}, _HEAD.size
            for _ in range(count):
                number, nodes = _LEVEL.unpack_from(data, at)
                at += _LEVEL.size
                levels[number] = _decode_level(data, at, nodes, number, trie)
                at += 6 * nodes
        except (struct.error, ValueError) as error:
            raise VerifiedTreeError(str(error)) from error
        return cls(levels)


def _decode_level(data: bytes, at: int, count: int, level: int, trie: ItemTrie) -> VerifiedLevel:
    nodes = np.frombuffer(data, "<u4", count, at).astype(np.int64)
    logprobs = np.frombuffer(data, "<f2", count, at + 4 * count).astype(np.float32)
    ascending = (nodes[1:] > nodes[:-1]).all()
    if (
        not 1 <= level < trie.depth
        or not ascending
        or nodes.max(initial=-1) >= trie.levels[level].num_nodes
    ):
        raise VerifiedTreeError(f"level {level} does not fit the catalogue")
    if np.isnan(logprobs).any() or (logprobs > 0).any():
        raise VerifiedTreeError(f"level {level} has impossible scores")
    return VerifiedLevel(nodes, logprobs)


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> VerifiedLevel:
    nodes = np.concatenate([nodes for nodes, _ in parts])
    logprobs = np.concatenate([logprobs for _, logprobs in parts])
    nodes, first = np.unique(nodes, return_index=True)
    return VerifiedLevel(nodes.astype(np.int64), logprobs[first].astype(np.float32))
