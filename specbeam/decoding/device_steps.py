"""Levels queued on a device, and what is read back of them at the end of a pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from specbeam.decoding.beams import Beams
from specbeam.decoding.reporting import ScoredChildren


@dataclass(frozen=True, slots=True)
class Step:
    """A level that may turn out to be decided.

    Attributes:
        nodes: the next level's beams, ascending among the live ones.  Shape (W',).
        scores: their scores, -inf for dead ones.  Shape (W',), fp64.
        complete: whether all beams of the level were free or scored.  A scalar, bool.
        children: parent, node, score and log-probability of the best children, to be reported.
            Shape (4, n), fp64, which holds node numbers exactly; None = not asked for.
    """

    nodes: torch.Tensor
    scores: torch.Tensor
    complete: torch.Tensor
    children: torch.Tensor | None = None


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
    nodes, scores = steps[levels - 1].nodes.cpu().numpy(), steps[levels - 1].scores.cpu().numpy()
    live = ~np.isneginf(scores)
    return Beams(base_level + levels, nodes[live], scores[live])


def read_children(steps: list[Step]) -> list[ScoredChildren]:
    """Read what is reported of decided levels in one transfer; nothing where nothing was asked."""
    children = [step.children for step in steps if step.children is not None]
    if not children:
        return []
    every = torch.cat(children, dim=1).cpu().numpy()
    found = []
    for part in np.split(every, np.cumsum([level.shape[1] for level in children])[:-1], axis=1):
        parents, nodes, scores, logprobs = part[:, ~np.isneginf(part[2])]
        found.append(
            ScoredChildren(parents.astype(np.int64), nodes.astype(np.int64), scores, logprobs)
        )
    return found
