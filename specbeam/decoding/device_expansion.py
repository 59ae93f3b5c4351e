"""The accelerator implementation of `Expansion`: torch, one read-back per pass."""

from __future__ import annotations

import numpy as np
import torch

from specbeam.catalog import PAD
from specbeam.decoding.beams import Beams
from specbeam.decoding.device_catalogue import DeviceCatalogue, DeviceFilter
from specbeam.decoding.device_steps import (
    DeviceBeams,
    Step,
    read_back,
    read_children,
    read_scored,
)
from specbeam.decoding.draft_laws import DraftLaws
from specbeam.decoding.expansion import NO_LAWS, Allowed, ScoredLevel, Verified
from specbeam.decoding.host_expansion import HostExpansion
from specbeam.decoding.noise import prefix_keys
from specbeam.decoding.reporting import join_scored
from specbeam.decoding.scoring import Scoring
from specbeam.decoding.selection import Selection
from specbeam.decoding.torch_noise import child_keys, conditional_ranks, gumbels, upload_keys


class DeviceExpansion(DeviceCatalogue):
    """Decides levels on the device; what it chose is read once, at the end of a pass."""

    def _score_by(self, scoring: Scoring) -> None:
        super()._score_by(scoring)
        self._host: HostExpansion | None = None  # made where a rule wants it

    @torch.inference_mode()
    def verify(
        self,
        beams: Beams,
        scored: dict[int, ScoredLevel[torch.Tensor]],
        width: int,
        allowed: Allowed,
        report: int = 0,
        laws: DraftLaws = NO_LAWS,
    ) -> Verified:
        """See `Expansion.verify`; computed to the deepest possible level with flags, read once."""
        if allowed.selection.draws and not allowed.selection.perturbs:
            return self._verify_on_host(beams, scored, width, allowed, report, laws)
        steps = self.walk(beams, scored, width, allowed, report)
        decided = read_back(beams.level, steps)
        levels = decided.level - beams.level
        tree = join_scored(self.trie, beams, width, read_children(steps[:levels]))
        return Verified(decided, levels, tree)

    @torch.inference_mode()
    def walk(
        self,
        beams: Beams,
        scored: dict[int, ScoredLevel[torch.Tensor]],
        width: int,
        allowed: Allowed,
        report: int = 0,
    ) -> list[Step]:
        """Queue every level that may turn out to be decided; nothing is read from the device."""
        here, level = self._upload_beams(beams, allowed.selection), beams.level
        steps: list[Step] = []
        while level < self.depth and (level in scored or self._has_free_nodes):
            logprobs, known = self._known(level, here.nodes, scored.get(level), allowed.bound)
            complete = (known | torch.isneginf(here.scores)).all()
            below, chosen = self._expand(level, here, logprobs, width)
            children = None
            if report and level + 1 < self.depth:
                children = self._best_children(level, here, logprobs, report, chosen, below)
            steps.append(Step(below.nodes, below.scores, complete, children, below.ranks))
            here, level = below, level + 1
        return steps

    def _upload_beams(self, beams: Beams, selection: Selection) -> DeviceBeams:
        nodes, scores = self._tensor(beams.nodes), self._tensor(beams.scores, np.float64)
        if not selection.perturbs:
            return DeviceBeams(nodes, scores)
        ranks = self._tensor(beams.rank_values, np.float64)
        keys = upload_keys(prefix_keys(selection.seed, beams.paths(self.trie)), self.device)
        return DeviceBeams(nodes, scores, ranks, keys)

    def _verify_on_host(
        self,
        beams: Beams,
        scored: dict[int, ScoredLevel[torch.Tensor]],
        width: int,
        allowed: Allowed,
        report: int,
        laws: DraftLaws,
    ) -> Verified:
        """Decide levels by a rule that has no form for the device; read once all the same."""
        if self._host is None:
            self._host = HostExpansion(self.trie, self.scoring)
        allowed_there = self._host.allow(allowed.leaf_filter, allowed.selection)
        return self._host.verify(beams, read_scored(scored), width, allowed_there, report, laws)

    def _known(
        self,
        level: int,
        nodes: torch.Tensor,
        scored: ScoredLevel[torch.Tensor] | None,
        bound: DeviceFilter | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Child log-probabilities, and which nodes they are right for (scored or free)."""
        if scored is not None:
            level_nodes = self._tensor(scored.nodes)
            rows = torch.searchsorted(level_nodes, nodes).clamp_(max=len(level_nodes) - 1)
            known = level_nodes[rows] == nodes
            logprobs = scored.child_logprobs[rows]
            if not self._has_free_nodes:
                # A node without a row got another node's scores; its children must not be chosen,
                # since the walk goes on until the flags are read.
                return logprobs.masked_fill(~known[:, None], -torch.inf), known
        index, alive = self._children(level, nodes, bound)
        free = self._token[level + 1][index[:, 0]] == PAD
        if self._forced_is_free:
            free |= alive.sum(dim=1) <= 1
        forced = torch.zeros(alive.shape, device=self.device).masked_fill_(~alive, -torch.inf)
        if scored is None:
            return forced, free
        return torch.where(known[:, None], logprobs, forced.to(logprobs.dtype)), known | free

    def _expand(
        self,
        level: int,
        here: DeviceBeams,
        logprobs: torch.Tensor,
        width: int,
    ) -> tuple[DeviceBeams, torch.Tensor]:
        """One exact beam step in a shape known on the host; dead beams score -inf.

        Also returns the positions of the beams among all children.
        """
        nodes, scores = here.nodes, here.scores
        candidates = (scores[:, None] + logprobs.to(torch.float64)).reshape(-1)
        values, keys = candidates, None
        if here.ranks is not None and here.keys is not None:
            index, _ = self._children(level, nodes, None)
            keys = child_keys(here.keys, self._token[level + 1][index].long())
            free = candidates.view(logprobs.shape)
            values = conditional_ranks(here.ranks, free, gumbels(keys)).reshape(-1)
        wanted = min(self.beam_width(level + 1, width), len(candidates))
        chosen = select_top(values, wanted)
        fan_out = logprobs.shape[1]
        parent = torch.div(chosen, fan_out, rounding_mode="floor")
        next_nodes = self._first_child[level][nodes[parent]] + (chosen - parent * fan_out)
        next_scores = candidates[chosen]
        # A dead position may point past its parent's children; node 0 keeps gathers in range.
        next_nodes = torch.where(torch.isneginf(next_scores), 0, next_nodes)
        if keys is None:
            return DeviceBeams(next_nodes, next_scores), chosen
        keys = keys.reshape(-1)[chosen]
        return DeviceBeams(next_nodes, next_scores, values[chosen], keys), chosen

    def _best_children(
        self,
        level: int,
        here: DeviceBeams,
        logprobs: torch.Tensor,
        count: int,
        chosen: torch.Tensor,
        below: DeviceBeams,
    ) -> torch.Tensor:
        """Children of exact beams to report, the next beams among them; see `Step.children`."""
        nodes, scores, of_children = here.nodes, here.scores, logprobs.to(torch.float64)
        candidates = (scores[:, None] + of_children).reshape(-1)
        order = below.scores if below.ranks is None else below.ranks
        first = torch.where(torch.isneginf(order), order, torch.inf)
        among = torch.isposinf(candidates.scatter(0, chosen, first))
        best = select_top(candidates.scatter(0, chosen, first), min(count, len(candidates)))
        candidates = candidates.scatter(0, chosen, order)
        parent = torch.div(best, logprobs.shape[1], rounding_mode="floor")
        child = self._first_child[level][nodes[parent]] + (best - parent * logprobs.shape[1])
        # Dead beams stand between live ones; the host knows the live ones only.
        place = (~torch.isneginf(scores)).cumsum(0) - 1
        told = place[parent], child, candidates[best], of_children.reshape(-1)[best], among[best]
        return torch.stack([values.double() for values in told])

    @torch.inference_mode()
    def logprobs_of(
        self,
        level: int,
        nodes: np.ndarray,
        scored: ScoredLevel[torch.Tensor] | None,
        allowed: Allowed,
    ) -> np.ndarray:
        """See `Expansion.logprobs_of`."""
        logprobs, known = self._known(level, self._tensor(nodes), scored, allowed.bound)
        found: np.ndarray = logprobs.double().cpu().numpy()
        if not bool(known.all()):
            raise AssertionError("log-probabilities need a scored row for every node")
        return found


def select_top(ranks: torch.Tensor, width: int) -> torch.Tensor:
    """Return the positions of the `width` best values, ties to the smaller position, ascending.

    `torch.topk` leaves the choice among equal values open, so it gives only the threshold; which of
    the values equal to the threshold are taken is decided by position.  No host synchronisation.

    Args:
        ranks: rank value of each candidate, -inf for dead ones.  Shape (n,), n >= width.
        width: how many to take.

    Returns:
        Positions, ascending.  Shape (width,), int64.
    """
    count = ranks.shape[0]
    if width == count:
        return torch.arange(count, device=ranks.device)
    threshold = torch.topk(ranks, width, sorted=True).values[-1]
    above = ranks > threshold
    equal = ranks == threshold
    missing = width - above.sum()
    chosen = above | (equal & (equal.cumsum(0) <= missing))
    # The chosen positions, ascending, in a shape known on the host: the largest keys are the
    # smallest positions.
    keys = torch.arange(count, 0, -1, device=ranks.device, dtype=torch.int32) * chosen
    return torch.topk(keys, width, sorted=True).indices
