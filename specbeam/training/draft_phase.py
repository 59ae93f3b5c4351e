"""Distillation of the draft from the frozen target.

What a draft is for: naming the second-level prefixes that the target will keep.  On deeper levels a
prefix has so few children that all of them can be verified, and the first level comes with the
prompt.  So the second level weighs more in the loss, and training rows include first codes the
*target* finds likely, not only the ones that users really took: items of a history are replaced at
random by items below a first code sampled from the target.  Any history is a valid input for
distillation, the target labels it.

Source: word-level distillation on the target's own continuations, after AtSpeed section 3.2 (arXiv
2410.05165).  Deviations: forward KL over the whole vocabulary on every prefix at once,
continuations sampled while training rather than stored beams.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from specbeam.catalog import ItemTrie
from specbeam.training.losses import distillation_loss, labelled_rows
from specbeam.training.model import forward_logits
from specbeam.training.ranking import Beams, beam_search, equal_length_groups, expand, tokens_of
from specbeam.training.validation import ValidationSet

SECOND_LEVEL_WEIGHT = 2.0
COVERAGE_BEAMS = 10
COVERAGE_NODES = 40


@dataclass(frozen=True, slots=True)
class _Reference:
    """The target's beams for a group of validation prompts of equal length."""

    prompts: Tensor
    first: Beams
    second: Beams


class DraftObjective:
    """KL from the target's distributions; judged by coverage of the target's second-level beams."""

    def __init__(
        self,
        draft: nn.Module,
        target: nn.Module,
        trie: ItemTrie,
        users: ValidationSet,
        *,
        substitute: float,
        bf16: bool,
    ) -> None:
        """Freeze the target and search the validation prompts with it.

        Args:
            draft: the model being trained.
            target: the trained target.
            trie: the catalogue.
            users: validation users.
            substitute: share of items replaced by samples of the target.
            bf16: run matrix products in bfloat16 (training only).
        """
        self._draft, self._target, self._trie = draft, target.eval(), trie
        self._substitute, self._bf16 = substitute, bf16
        self._sampler = ItemSampler(trie)
        self._references = [
            _reference(target, trie, prompts)
            for _, prompts in equal_length_groups(users.prompts, COVERAGE_BEAMS)
            if trie.depth > 1
        ]

    def loss(self, tokens: Tensor) -> Tensor:
        """Return the distillation loss of a batch of shape (B, T)."""
        depth = self._trie.depth
        with torch.no_grad():
            target_logits = forward_logits(self._target, tokens, bf16=self._bf16)
            if self._substitute > 0.0:
                tokens = self._sampler.substitute(tokens, target_logits, self._substitute)
                target_logits = forward_logits(self._target, tokens, bf16=self._bf16)
        draft_logits = forward_logits(self._draft, tokens, bf16=self._bf16)
        target_rows, _, level = labelled_rows(target_logits, tokens, depth)
        draft_rows, _, _ = labelled_rows(draft_logits, tokens, depth)
        weights = torch.where(level == 1, SECOND_LEVEL_WEIGHT, 1.0)
        return distillation_loss(draft_rows, target_rows, weights)

    def validate(self) -> Mapping[str, float]:
        """Return the coverage numbers; see `_covered`."""
        if not self._references:
            return {"score": 0.0}
        whole: list[Tensor] = []
        share: list[Tensor] = []
        for reference in self._references:
            covered, alive = _covered(self._draft, self._trie, reference)
            whole.append((covered | ~alive).all(dim=1).float())
            share.append(covered.sum(dim=1) / alive.sum(dim=1))
        coverage = float(torch.cat(whole).mean())
        node_share = float(torch.cat(share).mean())
        # The share of nodes is the smoother of the two and tells early models apart.
        return {"coverage": coverage, "node_share": node_share, "score": coverage + node_share}


class ItemSampler:
    """Replaces items in token sequences by items the target finds likely."""

    def __init__(self, trie: ItemTrie) -> None:
        """Prepare the popularity sums by leaf.

        Args:
            trie: the catalogue.
        """
        first, every_leaf = trie.levels[1], trie.first_item_of(np.arange(trie.num_leaves))
        nodes = np.arange(first.num_nodes + 1)
        weight = np.add.reduceat(trie.popularity.astype(np.float64) + 1.0, every_leaf)
        cumulative = np.concatenate([[0.0], np.cumsum(weight)])
        self._depth = trie.depth
        self._tokens = torch.from_numpy(first.tokens_of(nodes[:-1])).long()
        self._mass = torch.from_numpy(cumulative)
        self._leaf_lo = torch.from_numpy(np.array(first.first_leaf_of(nodes))).long()
        self._paths = torch.from_numpy(trie.leaf_paths(np.arange(trie.num_leaves))).long()

    def substitute(self, tokens: Tensor, logits: Tensor, rate: float) -> Tensor:
        """Return tokens with some items replaced.

        Args:
            tokens: shape (B, T), padded on the right.
            logits: the target's, for `tokens`. Shape (B, T, V).
            rate: share of items replaced.
        """
        starts = torch.arange(1, tokens.shape[1], self._depth)
        chosen = (tokens[:, starts] != 0) & (torch.rand(tokens.shape[0], len(starts)) < rate)
        row, slot = chosen.nonzero(as_tuple=True)
        if not len(row):
            return tokens
        probabilities = torch.softmax(logits[row, starts[slot] - 1][:, self._tokens], dim=-1)
        node = torch.multinomial(probabilities, 1)[:, 0]
        low, high = self._mass[self._leaf_lo[node]], self._mass[self._leaf_lo[node + 1]]
        point = low + torch.rand(len(node), dtype=torch.float64) * (high - low)
        leaf = torch.searchsorted(self._mass, point, right=True) - 1
        leaf = leaf.clamp(self._leaf_lo[node], self._leaf_lo[node + 1] - 1)
        replaced = tokens.clone()
        columns = starts[slot][:, None] + torch.arange(self._depth)
        replaced[row[:, None], columns] = self._paths[leaf]
        return replaced


def _reference(target: nn.Module, trie: ItemTrie, prompts: Tensor) -> _Reference:
    first, second = beam_search(target, trie, prompts, COVERAGE_BEAMS, depth=2, bf16=False)
    return _Reference(prompts, first, second)


def _covered(draft: nn.Module, trie: ItemTrie, reference: _Reference) -> tuple[Tensor, Tensor]:
    """Say which of the target's ten second-level nodes are among the draft's best forty.

    The draft starts from the target's exact first-level beams and their scores.

    Returns:
        Covered and alive, both of shape (G, 10) and bool.
    """
    first = reference.first
    with torch.inference_mode():
        output = draft(input_ids=reference.prompts, use_cache=True, logits_to_keep=1)
        cache = output.past_key_values
        cache.batch_repeat_interleave(first.nodes.shape[1])
        tokens = tokens_of(trie, 1, first.nodes).view(-1, 1)
        logits = draft(input_ids=tokens, past_key_values=cache, use_cache=True).logits[:, -1]
    logprobs = torch.log_softmax(logits.float(), dim=-1).view(*first.nodes.shape, -1)
    drafted = expand(trie, 1, first.nodes, first.scores, logprobs, COVERAGE_NODES)
    alive = reference.second.nodes >= 0
    covered = (reference.second.nodes[:, :, None] == drafted.nodes[:, None, :]).any(dim=2)
    return covered & alive, alive
