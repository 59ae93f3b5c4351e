"""How much of what the target keeps on the second level a drafter proposes.

Measured with the engine that serves: the target's exact first-level beams, the head's proposal
below them, the target's exact second-level beams.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from specbeam.bundle import Bundle
from specbeam.catalog import ItemTrie
from specbeam.decoding.beams import Beams
from specbeam.decoding.scoring import Scoring
from specbeam.engine import ModelRunner, RunnerConfig, SearchModel
from specbeam.engine.root_head import RootHead
from specbeam.engine.session import RowScorer
from specbeam.training.devices import Devices

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of measurement.

    Attributes:
        width: beams kept on each level, K.
        nodes: second-level nodes proposed, N.
    """

    width: int
    nodes: int

    @property
    def name(self) -> str:
        """Key of the cell's coverage in records."""
        return f"coverage_{self.width}_{self.nodes}"


# Decides which weights are best, as for a draft model.
JUDGED = Cell(10, 40)
CELLS = (Cell(5, 20), JUDGED, Cell(20, 80))


@dataclass(frozen=True, slots=True)
class RootCase:
    """What the target does with one prompt.

    Attributes:
        hidden: state after the prompt. Shape (1, hidden).
        first: exact beams of level 1 by width.
        second: exact beams of level 2 by width.
    """

    hidden: torch.Tensor
    first: Mapping[int, Beams]
    second: Mapping[int, Beams]


class CoverageProbe:
    """Measures a head on fixed prompts."""

    def __init__(
        self,
        head: RootHead,
        model: SearchModel,
        prompts: Sequence[npt.NDArray[np.int32]],
        devices: Devices,
    ) -> None:
        """Search the prompts of this process with the target.

        Args:
            head: measured as it is whenever `measure` is called.
            model: the target.
            prompts: of all processes together.
            devices: this process and the others.
        """
        self._head, self._trie, self._devices = head, model.expansion.trie, devices
        widths = sorted({cell.width for cell in CELLS})
        own = prompts[devices.rank :: devices.size]
        self._cases = [search_root(model, prompt, widths) for prompt in own]

    def measure(self) -> Mapping[str, float]:
        """Return the share of prompts with every second-level beam proposed, by cell.

        `node_share`, the mean share of beams proposed in the judged cell, is smoother and tells
        early heads apart; the score is the sum of both.  Without prompts there is nothing.
        """
        (count,) = self._devices.sums([len(self._cases)])
        if not count:
            return {}
        found: dict[str, float] = {}
        for cell in CELLS:
            covered = [self.covered(case, cell) for case in self._cases]
            sums = [sum(map(np.all, covered)), sum(map(np.mean, covered))]
            whole, share = (total / count for total in self._devices.sums(sums))
            found[cell.name] = whole
            if cell == JUDGED:
                found |= {"node_share": share, "score": whole + share}
        return found

    def covered(self, case: RootCase, cell: Cell) -> npt.NDArray[np.bool_]:
        """Say which of the target's second-level beams are proposed.  Shape (K,)."""
        first = case.first[cell.width]
        tree = self._head.propose(case.hidden, first, 1, cell.nodes, cell.width)
        proposed = self._trie.child(1, first.nodes[tree.parents], tree.tokens)
        return np.isin(case.second[cell.width].nodes, proposed)


def open_target(bundle: Bundle, device: torch.device) -> SearchModel:
    """Return a bundle's target as it is served, with one slot, in float32."""
    runner = ModelRunner.load(
        bundle.target_dir,
        RunnerConfig(
            device=str(device),
            slots=1,
            max_prompt_tokens=bundle.max_prompt_tokens,
            max_rows=max(cell.width for cell in CELLS) * bundle.trie.depth,
            max_item_tokens=bundle.trie.depth,
        ),
    )
    scoring = Scoring(bundle.manifest.score_kind, bundle.manifest.codebooks())
    return SearchModel.of(runner, bundle.trie, scoring)


def search_root(
    model: SearchModel, prompt: npt.NDArray[np.int32], widths: Iterable[int]
) -> RootCase:
    """Return the target's hidden state and exact beams of two levels for several widths.

    Args:
        model: the target; its catalogue has two levels or more.
        prompt: vocabulary ids. Shape (P,).
        widths: beam widths.
    """
    trie, one = model.expansion.trie, np.zeros(1, np.int64)
    with closing(RowScorer(model, None)) as scorer:
        scorer.prefill(prompt)
        law = scorer.logprobs_of(0, one)
        first = {width: _step(trie, Beams.root(), law, width) for width in widths}
        widest = first[max(first)].nodes
        needed = widest[scorer.needs_row(1, widest)]
        if len(needed):
            scorer.add_rows({1: needed})
        second = {
            width: _step(trie, beams, scorer.logprobs_of(1, beams.nodes), width)
            for width, beams in first.items()
        }
    return RootCase(root_hidden(model, prompt), first, second)


def root_hidden(model: SearchModel, prompt: npt.NDArray[np.int32]) -> torch.Tensor:
    """Return the target's hidden state after a prompt.  Shape (1, hidden)."""
    slot = model.runner.pool.acquire()
    try:
        return model.runner.prefill(slot, prompt)
    finally:
        model.runner.pool.release(slot)


def _step(
    trie: ItemTrie, beams: Beams, logprobs: npt.NDArray[np.floating[Any]], width: int
) -> Beams:
    """One level of plain beam search; ties go to the smaller node."""
    first = np.asarray(trie.levels[beams.level].first_child_of(beams.nodes), np.int64)
    nodes = (first[:, None] + np.arange(logprobs.shape[1])).ravel()
    scores = (beams.scores[:, None] + logprobs).ravel()
    best = np.lexsort((nodes, -scores))[:width]
    best = best[np.isfinite(scores[best])]
    best = best[np.argsort(nodes[best])]
    return Beams(beams.level + 1, nodes[best], scores[best])
