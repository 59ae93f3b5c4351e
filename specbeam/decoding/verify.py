"""Strict top-K verification: walk the exact beams down through the rows one pass has scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from specbeam.decoding.beams import Beams
from specbeam.decoding.select import select_top
from specbeam.decoding.trie_tensors import TrieTensors


@dataclass(frozen=True, slots=True)
class ScoredLevel:
    """Scored rows of one trie level.

    Attributes:
        nodes: nodes that have a row, ascending.  Shape (R,), int64.
        child_logprobs: log-probabilities of their children.  Shape (R, C_d), -inf where dead.
    """

    nodes: torch.Tensor
    child_logprobs: torch.Tensor


@dataclass(frozen=True, slots=True)
class Verified:
    """What one pass decided.

    Attributes:
        beams: exact beams of the deepest decided level.
        accepted_levels: levels decided beyond the first one, i.e. levels whose beams all had rows.
    """

    beams: Beams
    accepted_levels: int


def verify_strict(
    trie: TrieTensors, beams: Beams, scored: dict[int, ScoredLevel], width: int
) -> Verified:
    """Decide as many levels as the scored rows allow.

    All rows of `beams` must be scored.  From exact beams of level d the exact beams of d + 1 are
    the best `width` of their trie children; they come from this expansion alone, so extra or
    missing rows cannot touch the result.  The walk goes on while every live beam of the new level
    has a row.  It is computed to the deepest scored level with flags and read back once.

    Args:
        trie: the catalogue on the device.
        beams: exact beams of level j < L.
        scored: scored rows by level, at least level j.
        width: W.

    Source: AtSpeed (arXiv 2410.05165), strict verification, algorithm 1; ties broken by ascending
    path, which the paper leaves open.
    """
    nodes = torch.as_tensor(beams.nodes, device=trie.device)
    scores = torch.as_tensor(beams.scores, device=trie.device)
    level = beams.level
    found: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    while level < trie.depth and level in scored:
        rows, has_row = _rows_of(scored[level].nodes, nodes)
        complete = (has_row | torch.isneginf(scores)).all()
        nodes, scores = _expand(
            trie, level, nodes, scores, scored[level].child_logprobs[rows], width
        )
        found.append((nodes, scores, complete))
        level += 1
    return _read_back(beams.level, found)


def _rows_of(level_nodes: torch.Tensor, nodes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.searchsorted(level_nodes, nodes).clamp_(max=len(level_nodes) - 1)
    return rows, level_nodes[rows] == nodes


def _expand(
    trie: TrieTensors,
    level: int,
    nodes: torch.Tensor,
    scores: torch.Tensor,
    logprobs: torch.Tensor,
    width: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One exact beam step: nodes (ascending among live ones) and scores of the next level."""
    candidates = (scores[:, None] + logprobs.to(torch.float64)).reshape(-1)
    wanted = min(trie.beam_width(level + 1, width), len(candidates))
    chosen = select_top(candidates, wanted)
    fan_out = logprobs.shape[1]
    parent = torch.div(chosen, fan_out, rounding_mode="floor")
    next_nodes = trie.first_child[level][nodes[parent]] + (chosen - parent * fan_out)
    next_scores = candidates[chosen]
    # A dead position may point past its parent's children; node 0 keeps later gathers in range.
    return torch.where(torch.isneginf(next_scores), 0, next_nodes), next_scores


def _read_back(
    base_level: int, found: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
) -> Verified:
    complete = torch.stack([flag for _, _, flag in found]).tolist()
    if not complete[0]:
        raise AssertionError("verification needs a scored row for every exact beam")
    accepted = complete.index(False) - 1 if False in complete else len(complete) - 1
    nodes, scores = found[accepted][0].cpu().numpy(), found[accepted][1].cpu().numpy()
    live = ~np.isneginf(scores)
    return Verified(Beams(base_level + accepted + 1, nodes[live], scores[live]), accepted)
