"""The walk of a real expansion over toy laws, with any set of prefixes in the tree."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import chain, combinations
from typing import Any

import numpy as np
import torch

from specbeam.catalog import ItemTrie
from specbeam.decoding.beams import Beams
from specbeam.decoding.device_expansion import DeviceExpansion
from specbeam.decoding.draft_laws import DraftLaws
from specbeam.decoding.expansion import NO_LAWS, Allowed, Expansion, ScoredLevel
from specbeam.decoding.host_expansion import HostExpansion
from specbeam.decoding.scoring import ColumnMap, LevelScores, Scoring
from tests.rules.laws import Path, TreeLaw


def subsets(prefixes: Collection[Path]) -> Iterator[frozenset[Path]]:
    """Every set of prefixes, whether their parents are in it or not."""
    sizes = range(len(prefixes) + 1)
    return map(frozenset, chain.from_iterable(combinations(prefixes, size) for size in sizes))


def plain_top_k(law: TreeLaw, width: int) -> list[Path]:
    """Beam search by score as a list comprehension, best first, ties to the smaller path."""
    beams: list[tuple[float, Path]] = [(0.0, ())]
    for _ in range(law.depth):
        found = [
            (score - float(np.log(float(mass))), (*path, token))
            for score, path in beams
            for token, mass in law.children[path].items()
            if mass > 0
        ]
        beams = sorted(found)[:width]
    return [path for _, path in beams]


class ToyTarget:
    """A law as a catalogue and scored rows."""

    def __init__(self, law: TreeLaw, kind: str, device: torch.device | None = None) -> None:
        """Build the catalogue; item numbers follow the order of paths.

        Args:
            law: of the items.
            kind: score convention.
            device: where levels are decided; None = in numpy.
        """
        paths = sorted(law.items())
        self.law = law
        self.trie = ItemTrie.build(np.array(paths, np.int32), [str(path) for path in paths])
        self.expansion: Expansion[Any] = (
            HostExpansion(self.trie, Scoring(kind))
            if device is None
            else DeviceExpansion(self.trie, Scoring(kind), device)
        )
        self._device = device
        self.drafts = [path for level in range(1, law.depth) for path in sorted(law.level(level))]
        self._rows = {level: self._logprobs(level) for level in range(law.depth)}

    def _logprobs(self, level: int) -> np.ndarray:
        """Log-probabilities of the children of all nodes of a level.  Shape (nodes, C_d)."""
        prefixes = sorted(self.law.level(level))
        rows = [[float(mass) for mass in self.law.children[path].values()] for path in prefixes]
        found = np.full((len(rows), max(map(len, rows))), -np.inf)
        with np.errstate(divide="ignore"):
            for number, row in enumerate(rows):
                found[number, : len(row)] = np.log(row)
        return found

    def scorer(self, level: int, nodes: np.ndarray) -> np.ndarray:
        """The law as a drafter tells it; see `ChildScorer`."""
        found: np.ndarray = self._rows[level][nodes]
        return found

    def search(
        self, beams: Beams, drafted: Collection[Path], width: int, allowed: Allowed
    ) -> tuple[Beams, int]:
        """Passes over the beams' rows and those of drafted prefixes until items are found.

        Args:
            beams: where to begin.
            drafted: prefixes that have rows in every pass.
            width: W.
            allowed: of the expansion.

        Returns:
            The last beams and the number of passes.
        """
        passes = 0
        while beams.level < self.trie.depth and len(beams):
            beams = self.step(beams, drafted, width, allowed)
            passes += 1
        return beams, passes

    def step(
        self,
        beams: Beams,
        drafted: Collection[Path],
        width: int,
        allowed: Allowed,
        laws: DraftLaws = NO_LAWS,
    ) -> Beams:
        """One pass; `laws` are those that the drafted prefixes were drawn from."""
        scored = {
            level: self._scored(level, beams, drafted, allowed)
            for level in range(beams.level, self.trie.depth)
        }
        known = {level: rows for level, rows in scored.items() if len(rows.nodes)}
        return self.expansion.verify(beams, known, width, allowed, laws=laws).beams

    def _scored(
        self, level: int, beams: Beams, drafted: Collection[Path], allowed: Allowed
    ) -> ScoredLevel[Any]:
        """Rows of the drafted prefixes of a level, and of the beams on theirs."""
        paths = np.array([path for path in drafted if len(path) == level], np.int32)
        nodes = self.trie.find(paths) if len(paths) else np.zeros(0, np.int64)
        if level == beams.level:
            nodes = np.concatenate([nodes, beams.nodes])
        nodes = np.unique(nodes).astype(np.int64)
        nodes = nodes[self.expansion.needs_row(level, nodes, allowed)]
        rows = self._rows[level][nodes]
        if allowed.selection.shapes_laws:
            return self._shaped(level, nodes, rows, allowed)
        return ScoredLevel(nodes, rows if self._device is None else torch.from_numpy(rows))

    def _shaped(
        self, level: int, nodes: np.ndarray, rows: np.ndarray, allowed: Allowed
    ) -> ScoredLevel[Any]:
        """Rows as the expansion makes them of logits, here those of the law."""
        logits = np.full((len(nodes), int(self.trie.largest_token()) + 1), -np.inf)
        tokens = [list(self.law.children[tuple(path)]) for path in self._paths(level, nodes)]
        for row, (columns, values) in enumerate(zip(tokens, rows, strict=True)):
            logits[row, columns] = values[: len(columns)]
        scores = LevelScores(torch.from_numpy(logits), ColumnMap(), over_children=True)
        return self.expansion.score(level, nodes, scores, allowed)

    def _paths(self, level: int, nodes: np.ndarray) -> list[list[int]]:
        found: list[list[int]] = self.trie.node_paths(level, nodes).tolist()
        return found

    def answer(self, beams: Beams) -> list[Path]:
        """Items by rank, ties to the smaller path."""
        paths = [tuple(path) for path in beams.paths(self.trie).tolist()]
        return [paths[place] for place in np.argsort(-beams.rank_values, kind="stable")]
