"""Coverage: how often all beams that the target keeps lie among the nodes a draft proposes.

It is what a draft is for.  Drafting starts from the target's exact first level and its scores, as
in serving; a prompt is covered for (K, N) if the target's K best second-level prefixes are all
among the draft's N best.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from specbeam.catalog import ItemTrie
from specbeam.training.alignment.prompts import PaddedPrompts, by_length, pad_left
from specbeam.training.alignment.tree_forward import tree_logits
from specbeam.training.alignment.tree_search import tree_search
from specbeam.training.choices import TrainedScoreKind
from specbeam.training.devices import Devices
from specbeam.training.ranking import Beams, SearchConfig, expand

Int32Array = npt.NDArray[np.int32]

PROMPTS_AT_ONCE = 16


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One question: are the target's `beams` best among the draft's `nodes` best?"""

    beams: int
    nodes: int

    def __str__(self) -> str:
        return f"{self.beams}/{self.nodes}"


def cells_of(beams: Sequence[int], factors: Sequence[int]) -> tuple[Cell, ...]:
    """Return all cells of `beams` K and K times each of `factors` nodes."""
    return tuple(Cell(width, width * factor) for width in beams for factor in factors)


VALIDATED_CELLS = cells_of((5, 10, 20), (2, 4))


@dataclass(frozen=True, slots=True)
class Covered:
    """What a draft proposed for P prompts.

    Attributes:
        whole: by cell, whether all beams are among the nodes. (P,) each.
        share: by cell, share of the beams that are. (P,) each.
    """

    whole: Mapping[Cell, npt.NDArray[np.bool_]]
    share: Mapping[Cell, npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class _Reference:
    """The target's search for some prompts.

    Attributes:
        chosen: numbers of the prompts.
        prompts: the prompts.
        first: the widest first level.
        second: by width, the second level of a search that keeps so many beams.
    """

    chosen: list[int]
    prompts: PaddedPrompts
    first: Beams
    second: Mapping[int, Beams]


class CoverageJudge:
    """Measures drafts on the same prompts; the target searches these once."""

    def __init__(
        self,
        target: nn.Module,
        trie: ItemTrie,
        prompts: Sequence[Int32Array],
        kind: TrainedScoreKind,
        cells: Sequence[Cell] = VALIDATED_CELLS,
    ) -> None:
        """Search the prompts with the target.

        Args:
            target: in eval mode.
            trie: the catalogue; at least two levels.
            prompts: token ids.
            kind: convention of the scores.
            cells: what is asked.
        """
        self._trie, self._kind, self._cells, self._count = trie, kind, tuple(cells), len(prompts)
        self._references = [
            self._reference(target, chosen, pad_left([prompts[i] for i in chosen]))
            for chosen in by_length(prompts, PROMPTS_AT_ONCE)
        ]

    def measure(self, draft: nn.Module) -> Covered:
        """Return what a draft covers, prompt by prompt, in the order of the prompts."""
        whole = {cell: np.zeros(self._count, np.bool_) for cell in self._cells}
        share = {cell: np.zeros(self._count) for cell in self._cells}
        for reference in self._references:
            with torch.inference_mode():
                nodes = reference.first.nodes.numpy()
                logits = tree_logits(draft, self._trie, reference.prompts, [nodes])[1]
                logprobs = torch.log_softmax(logits, dim=-1).cpu()
            for cell in self._cells:
                covered, alive = self._covered(reference, logprobs, cell)
                whole[cell][reference.chosen] = (covered | ~alive).all(dim=1).numpy()
                found, wanted = covered.sum(dim=1), alive.sum(dim=1).clamp(min=1)
                share[cell][reference.chosen] = (found / wanted).double().numpy()
        return Covered(whole, share)

    def numbers(self, draft: nn.Module, devices: Devices) -> dict[str, float]:
        """Return the mean coverage over all processes' prompts; nothing without prompts.

        `coverage` is the mean over cells, and so is `node_share`, the share of beams covered.  The
        latter is smoother and tells early models apart; `score` is the sum of both.
        """
        found = self.measure(draft)
        sums = [float(found.whole[cell].sum()) for cell in self._cells]
        shares = [float(found.share[cell].sum()) for cell in self._cells]
        *totals, count = devices.sums([*sums, *shares, float(self._count)])
        if not count:
            return {}
        means = [total / count for total in totals]
        by_cell = dict(zip(map(str, self._cells), means, strict=False))
        coverage = float(np.mean(means[: len(self._cells)]))
        node_share = float(np.mean(means[len(self._cells) :]))
        mean = {"coverage": coverage, "node_share": node_share}
        return {**mean, **by_cell, "score": coverage + node_share}

    def _reference(
        self, target: nn.Module, chosen: list[int], prompts: PaddedPrompts
    ) -> _Reference:
        widths = sorted({cell.beams for cell in self._cells})
        search = SearchConfig(widths[-1], 2, self._kind)
        root, below = tree_search(target, self._trie, prompts, search)
        second = {width: self._expand(root.found, below.logprobs, width, width) for width in widths}
        return _Reference(chosen, prompts, root.found, second)

    def _covered(
        self, reference: _Reference, logprobs: Tensor, cell: Cell
    ) -> tuple[Tensor, Tensor]:
        """Return which beams are covered and which exist. Both of shape (G, K), bool."""
        drafted = self._expand(reference.first, logprobs, cell.beams, cell.nodes)
        wanted = reference.second[cell.beams].nodes
        alive = wanted >= 0
        covered = (wanted[:, :, None] == drafted.nodes[:, None, :]).any(dim=2)
        return covered & alive, alive

    def _expand(self, first: Beams, logprobs: Tensor, width: int, nodes: int) -> Beams:
        """Return the best `nodes` children of the `width` best first-level beams."""
        kept = Beams(first.nodes[:, :width], first.scores[:, :width], first.parents[:, :width])
        return expand(self._trie, 1, kept, logprobs[:, :width].cpu(), nodes, self._kind)
