"""Trees of the draft's own beams, scored by the target while training.

Serving drafts from the target's exact first level downwards.  So do these trees: level 1 is the
target's, stored with its scores; below it stand the beams that the draft of the moment would keep.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from specbeam.catalog import ItemTrie
from specbeam.training.alignment.candidates import candidates_of
from specbeam.training.alignment.tree_batches import TreeBatch, TreeLevel, Trees
from specbeam.training.alignment.tree_forward import tree_logits
from specbeam.training.alignment.tree_layout import parent_columns
from specbeam.training.alignment.tree_search import tree_search
from specbeam.training.choices import TrainedScoreKind
from specbeam.training.ranking import Beams, SearchConfig

Int64Array = npt.NDArray[np.int64]


class StudentBeams:
    """Replaces the target's beams of some prompts by the draft's."""

    def __init__(
        self,
        target: nn.Module,
        trie: ItemTrie,
        kind: TrainedScoreKind,
        *,
        share: float,
        bf16: bool,
    ) -> None:
        """Keep what is needed.

        Args:
            target: in eval mode.
            trie: the catalogue.
            kind: convention of the scores.
            share: of prompts whose beams are the draft's.
            bf16: run matrix products in bfloat16.
        """
        self._target, self._trie, self._kind = target, trie, kind
        self._share, self._bf16 = share, bf16

    def split(self, draft: nn.Module, batch: TreeBatch) -> tuple[Trees | None, Trees | None]:
        """Return the trees that stay the target's, and those of the draft; None if there are none.

        Args:
            draft: the model of the moment.
            batch: its prompts are divided at random.
        """
        own = (torch.rand(len(batch.chosen)) < self._share).numpy()
        kept, changed = batch.chosen[~own], batch.chosen[own]
        return (
            batch.source.trees(kept) if len(kept) else None,
            self.trees_of(draft, batch.source.trees(changed)) if len(changed) else None,
        )

    def trees_of(self, draft: nn.Module, trees: Trees) -> Trees:
        """Return trees with the draft's beams below the target's first level.

        Args:
            draft: any causal language model over the same token ids.
            trees: of the target.
        """
        beams = self._search(draft, trees)
        with torch.no_grad():
            logits = tree_logits(self._target, self._trie, trees.prompts, beams, bf16=self._bf16)
        levels: list[TreeLevel] = []
        for level, row_logits in enumerate(logits):
            levels.append(self._level(level, beams, row_logits.cpu(), trees, levels))
        return Trees(trees.prompts, beams, tuple(levels), trees.final)

    def _search(self, draft: nn.Module, trees: Trees) -> tuple[Int64Array, ...]:
        """Return the beams of levels 1 .. D."""
        nodes = torch.from_numpy(trees.beams[0])
        first = Beams(nodes, trees.levels[1].scores, torch.zeros_like(nodes))
        search = SearchConfig(nodes.shape[1], len(trees.beams), self._kind, self._bf16)
        training = draft.training
        draft.eval()
        steps = list(tree_search(draft, self._trie, trees.prompts, search, first))
        draft.train(training)
        return tuple(step.found.nodes.numpy() for step in steps)

    def _level(
        self,
        level: int,
        beams: Sequence[Int64Array],
        logits: Tensor,
        trees: Trees,
        above: Sequence[TreeLevel],
    ) -> TreeLevel:
        """Return the rows of a level with the target's word on them."""
        if level <= 1:
            candidates, scores = trees.levels[level].candidates, trees.levels[level].scores
        else:
            own = beams[level - 1]
            candidates = candidates_of(self._trie, level, own, self._kind)
            scores = _scores(self._trie, level, beams[level - 2], own, above[-1])
        return TreeLevel(level, candidates, scores, candidates.logprobs(logits))


def _scores(
    trie: ItemTrie, level: int, above: Int64Array, nodes: Int64Array, rows: TreeLevel
) -> Tensor:
    """Return the target's cumulative scores of beams below rows it has scored. Shape (G, W)."""
    column = parent_columns(trie, level, above, nodes)
    parents = np.take_along_axis(above, column, axis=1)
    child = nodes - np.asarray(trie.levels[level - 1].first_child_of(np.maximum(parents, 0)))
    child = torch.from_numpy(np.where(nodes < 0, 0, child))
    place = torch.from_numpy(column)
    scored = rows.teacher.gather(1, place[..., None].expand(-1, -1, rows.teacher.shape[2]))
    gained = scored.gather(2, child[..., None])[..., 0]
    total = rows.scores.gather(1, place) + gained
    return torch.where(torch.from_numpy(nodes >= 0), total, -torch.inf)
