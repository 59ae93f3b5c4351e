"""Levels queued on a device, and what is read back of them at the end of a pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from specbeam.decoding.beams import Beams
from specbeam.decoding.expansion import ScoredLevel
from specbeam.decoding.reporting import ScoredChildren


@dataclass(frozen=True, slots=True)
class DeviceBeams:
    """Beams of one level on the device.

    Attributes:
        nodes: ascending among the live ones.  Shape (W',), int64.
        scores: -inf for dead ones.  Shape (W',), fp64.
        ranks: where these are not the scores.  Shape (W',), fp64.
        keys: of their noise, where there are ranks.  Shape (W',), int64.
    """

    nodes: torch.Tensor
    scores: torch.Tensor
    ranks: torch.Tensor | None = None
    keys: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A level that may turn out to be decided.

    Attributes:
        nodes: the next level's beams, ascending among the live ones.  Shape (W',).
        scores: their scores, -inf for dead ones.  Shape (W',), fp64.
        complete: whether all beams of the level were free or scored.  A scalar, bool.
        children: parent, node, score, log-probability of the best children, to be reported, and
            whether they are beams.  Shape (5, n), fp64, which holds node numbers exactly; None =
            not asked for.
        ranks: the beams' ranks where these are not the scores.  Shape (W',), fp64.
    """

    nodes: torch.Tensor
    scores: torch.Tensor
    complete: torch.Tensor
    children: torch.Tensor | None = None
    ranks: torch.Tensor | None = None


def read_back(base_level: int, steps: list[Step]) -> Beams:
    """Read which levels are decided, and the live beams of the deepest of them.

    Args:
        base_level: level of the beams the first step goes out from.
        steps: from there on.
    """
    complete = torch.stack([step.complete for step in steps]).tolist() if steps else [False]
    if not complete[0]:
        raise AssertionError("verification needs a scored row for every exact beam")
    levels = complete.index(False) if False in complete else len(complete)
    last = steps[levels - 1]
    nodes, scores = last.nodes.cpu().numpy(), last.scores.cpu().numpy()
    live = ~np.isneginf(scores)
    ranks = None if last.ranks is None else last.ranks.cpu().numpy()[live]
    return Beams(base_level + levels, nodes[live], scores[live], ranks)


def read_children(steps: list[Step]) -> list[ScoredChildren]:
    """Read what is reported of decided levels in one transfer; nothing where nothing was asked."""
    children = [step.children for step in steps if step.children is not None]
    if not children:
        return []
    every = torch.cat(children, dim=1).cpu().numpy()
    found = []
    for part in np.split(every, np.cumsum([level.shape[1] for level in children])[:-1], axis=1):
        parents, nodes, scores, logprobs, chosen = part[:, ~np.isneginf(part[2])]
        places = parents.astype(np.int64), nodes.astype(np.int64)
        found.append(ScoredChildren(*places, scores, logprobs, chosen > 0))
    return found


def read_scored(scored: dict[int, ScoredLevel[torch.Tensor]]) -> dict[int, ScoredLevel[np.ndarray]]:
    """Read scored levels in one transfer."""
    if not scored:
        return {}
    parts = [level.child_logprobs for level in scored.values()]
    every = torch.cat([part.reshape(-1) for part in parts]).cpu().numpy()
    ends = np.cumsum([part.numel() for part in parts])[:-1]
    return {
        number: ScoredLevel(level.nodes, values.reshape(level.child_logprobs.shape))
        for (number, level), values in zip(scored.items(), np.split(every, ends), strict=True)
    }
