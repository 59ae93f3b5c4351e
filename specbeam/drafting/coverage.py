"""How likely drafted nodes cover the target's beams, learned while serving.

Two things are learned for each level of a tree, from nodes whose fate the target has told:

* *a node's chance* to be among the target's W best, by who speaks for it and how far its mixed
  score is above the W-th best of the level (a histogram with a logistic prior);
* *the level's chance* to be covered, given the mass left out: the sum of the chances of the nodes
  that get no row.  Were chances right and independent it would be exp(-mass); what is kept is the
  empirical law of the mass at which levels just were covered, which needs neither.

Both are told for every candidate of a settled level, whether it got a row or not, so what was
chosen before does not colour them.  Our own construction; the N-to-K condition is AtSpeed's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import numpy as np

# Edges of the excess histogram, in natural-logarithm units of score.
_LOWER = (-5, -4, -3.2, -2.6, -2.1, -1.7, -1.3, -1, -0.75, -0.5, -0.25)
_EDGES = np.array((*_LOWER, 0, 0.25, 0.5, 0.75, 1, 1.3, 1.7, 2.2, 3, 4))
_MIDDLES = np.concatenate([[-6], (_EDGES[1:] + _EDGES[:-1]) / 2, [5]])
# The prior is a logistic that widens from level to level as errors do and counts as so many nodes.
# Its place and width are what 160 validation requests of Beauty taught (K = 1, 5 and 20).
_PRIOR_PLACE, _PRIOR_WIDTH, _PRIOR_GROWTH, _PRIOR_NODES = 0.1, 0.22, 1.25, 2.0
# Reserved nodes are a source's own beam: before anything is known they count as so much above.
_PRIOR_RESERVED = 0.12
# Once a histogram has seen this many nodes everything in it is halved: drafters and users change.
_MEMORY_NODES = 50_000
_PRIOR_LEVELS = 24
_MEMORY_LEVELS = 400
# Weight of a new observation in a running mean.
_NEW = 0.1
# After so many looks in vain, most of them are spared.
_TIMES, _HOPELESS = 16, 0.985
# Mass of a level whose beams no amount of candidates would have covered.
_NEVER = -1.0


class LevelCoverage:
    """What is known of one level, so many levels below the exact beams."""

    def __init__(self, depth: int, num_sources: int) -> None:
        """Start from the prior.

        Args:
            depth: levels below the exact beams, at least 1.
            num_sources: sources that candidates may come from.
        """
        width = _PRIOR_WIDTH * _PRIOR_GROWTH ** (depth - 1)
        above = _MIDDLES - _PRIOR_PLACE + np.array([0.0, _PRIOR_RESERVED])[:, None]
        prior = 1 / (1 + np.exp(-above / width))
        shape = (num_sources, 2, len(_MIDDLES))
        self._nodes = np.full(shape, _PRIOR_NODES)
        self._hits = _PRIOR_NODES * np.broadcast_to(prior, shape).copy()
        quantiles = (np.arange(_PRIOR_LEVELS) + 0.5) / _PRIOR_LEVELS
        self._prior_masses = -np.log(quantiles)
        self._masses: list[float] = []
        self._sorted: np.ndarray | None = None

    def chances(self, sources: np.ndarray, reserved: np.ndarray, excess: np.ndarray) -> np.ndarray:
        """Return the chance of each candidate to be among the target's W best.  Shape (n,)."""
        place = sources, reserved.astype(np.intp), np.searchsorted(_EDGES, excess)
        found: np.ndarray = self._hits[place] / self._nodes[place]
        return found

    def covered(self, mass: np.ndarray) -> np.ndarray:
        """Return the chance that all W best have a row, by the mass left out.  Shape (n,)."""
        if self._sorted is None:
            self._sorted = np.sort(np.concatenate([self._prior_masses, self._masses]))
        known = self._sorted
        share: np.ndarray = 1 - np.searchsorted(known, mass - 1e-9) / len(known)
        return share

    def learn(
        self, sources: np.ndarray, reserved: np.ndarray, excess: np.ndarray, best: np.ndarray
    ) -> None:
        """Take in a settled level's candidates and which of them are among the target's best."""
        place = sources, reserved.astype(np.intp), np.searchsorted(_EDGES, excess)
        np.add.at(self._nodes, place, 1.0)
        np.add.at(self._hits, place, best.astype(float))
        if self._nodes.sum() > _MEMORY_NODES:
            self._nodes /= 2
            self._hits /= 2

    def learn_mass(self, mass: float | None) -> None:
        """Take in the mass left out at which a level was just covered; None = never was."""
        self._masses.append(_NEVER if mass is None else mass)
        if len(self._masses) > _MEMORY_LEVELS:
            del self._masses[:-_MEMORY_LEVELS]
        self._sorted = None


class CoverageModel:
    """What is known of one kind of search: its width, and who drafts."""

    def __init__(self, num_sources: int) -> None:
        """Start from the prior; nothing is known."""
        self._num_sources = num_sources
        self._levels: dict[tuple[int, int], LevelCoverage] = {}
        self._shares: dict[int, tuple[float, int]] = {}

    def at(self, base_level: int, level: int) -> LevelCoverage:
        """Return what is known of a level when the exact beams are those of `base_level`."""
        key = base_level, level
        if key not in self._levels:
            self._levels[key] = LevelCoverage(level - base_level, self._num_sources)
        return self._levels[key]

    def share_of_plain(self, level: int) -> float:
        """Return what going on from exact beams of a level takes, in units of doing so plainly."""
        return self._shares.get(level, (1.0, 0))[0]

    def hopeless(self, level: int) -> bool:
        """Whether no tree below exact beams of a level has been worth looking for lately."""
        share, times = self._shares.get(level, (1.0, 0))
        return times >= _TIMES and share > _HOPELESS

    def learn_share(self, level: int, share: float) -> None:
        """Take in what the best tree below exact beams of a level was expected to take."""
        known, times = self._shares.get(level, (1.0, 0))
        self._shares[level] = known + _NEW * (min(share, 1.0) - known), times + 1


class Calibration:
    """Every coverage model of one catalogue and target; the least used are forgotten."""

    def __init__(self, max_models: int = 256) -> None:
        """Start without models."""
        self._models: OrderedDict[Hashable, CoverageModel] = OrderedDict()
        self._max_models = max_models

    def model(self, width: int, names: tuple[str, ...], kind: Hashable = None) -> CoverageModel:
        """Return the model of searches of a width with these sources, in this order.

        Args:
            width: W.
            names: of the sources.
            kind: anything else that sets searches apart.
        """
        key = width, names, kind
        if key not in self._models:
            self._models[key] = CoverageModel(len(names))
            if len(self._models) > self._max_models:
                self._models.popitem(last=False)
        self._models.move_to_end(key)
        return self._models[key]
