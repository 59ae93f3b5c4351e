"""Distillation of the draft from the frozen target.

What a draft is for: naming the second-level prefixes that the target will keep.  On deeper levels a
prefix has so few children that all of them can be verified, and the first level comes with the
prompt.  So the second level weighs more in the loss, and training rows include first codes the
*target* finds likely, not only the ones that users really took: items of a history are replaced at
random by items below a first code sampled from the target.  Any history is a valid input for
distillation, the target labels it.

Source: word-level distillation on the target's own continuations, after AtSpeed section 3.2 (arXiv
2410.05165).  Deviations: forward KL over the candidates of each choice on every prefix at once,
continuations sampled while training rather than stored beams.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from specbeam.catalog import ItemTrie
from specbeam.training.batches import Batch
from specbeam.training.choice_logits import level_choices
from specbeam.training.choices import ChoiceTables, TrainedScoreKind
from specbeam.training.data.dataset import Dataset
from specbeam.training.devices import Devices
from specbeam.training.losses import distillation_loss
from specbeam.training.model import device_of, forward_logits
from specbeam.training.ranking import (
    Beams,
    SearchConfig,
    beam_search,
    equal_length_groups,
    expand,
    tokens_of,
)
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


class RowLoss(Protocol):
    """Compares the draft's distributions with the target's, choice by choice."""

    def __call__(
        self, draft_logits: Tensor, target_logits: Tensor, exists: Tensor | None, /
    ) -> Tensor:
        """Return the sum over choices.

        Args:
            draft_logits: logits or log-probabilities. Shape (Q, W).
            target_logits: likewise. Shape (Q, W).
            exists: false where padded; None if nothing is. Shape (Q, W).
        """


class SequenceLoss:
    """Every prefix of a sequence, the frozen target's word against the draft's."""

    def __init__(
        self,
        rows: RowLoss,
        target: nn.Module,
        tables: ChoiceTables,
        sampler: "ItemSampler",
        *,
        substitute: float,
        bf16: bool,
    ) -> None:
        """Keep what the loss needs.

        Args:
            rows: compares distributions.
            target: in eval mode.
            tables: the choices that lead to each item.
            sampler: replaces items.
            substitute: share of items replaced by samples of the target.
            bf16: run matrix products in bfloat16.
        """
        self._rows, self._target, self._tables = rows, target, tables
        self._sampler, self._substitute, self._bf16 = sampler, substitute, bf16

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss per item, in nats; the second level counts double."""
        device = device_of(model)
        with torch.no_grad():
            target_logits = self._target_logits(batch, device)
            if self._substitute > 0.0:
                batch = self._sampler.substitute(batch, target_logits, self._substitute)
                target_logits = self._target_logits(batch, device)
        tokens = torch.from_numpy(batch.tokens).to(device)
        draft_logits = forward_logits(model, tokens, bf16=self._bf16)
        total = draft_logits.new_zeros(())
        for found in level_choices(batch, self._tables, device):
            weight = SECOND_LEVEL_WEIGHT if found.level == 1 else 1.0
            drafted, wanted = found.gather(draft_logits), found.gather(target_logits)
            total = total + weight * self._rows(drafted, wanted, found.exists)
        return total / len(batch.items)

    def _target_logits(self, batch: Batch, device: torch.device) -> Tensor:
        tokens = torch.from_numpy(batch.tokens).to(device)
        return forward_logits(self._target, tokens, bf16=self._bf16)


class DraftObjective:
    """KL from the target's distributions; judged by coverage of the target's second-level beams."""

    def __init__(
        self,
        draft: nn.Module,
        target: nn.Module,
        trie: ItemTrie,
        tables: ChoiceTables,
        sampler: "ItemSampler",
        users: ValidationSet,
        devices: Devices,
        *,
        substitute: float,
        score_kind: TrainedScoreKind,
        bf16: bool,
    ) -> None:
        """Freeze the target and search the validation prompts with it.

        Args:
            draft: the model being trained.
            target: the trained target.
            trie: the catalogue.
            tables: the choices that lead to each item.
            sampler: replaces items.
            users: validation users.
            devices: this process and the others.
            substitute: share of items replaced by samples of the target.
            score_kind: convention of the scores.
            bf16: run matrix products in bfloat16 (training only).
        """
        self._draft, self._trie = draft, trie
        self._devices, self._kind = devices, score_kind
        self._loss = SequenceLoss(
            distillation_loss, target.eval(), tables, sampler, substitute=substitute, bf16=bf16
        )
        search = SearchConfig(COVERAGE_BEAMS, 2, score_kind)
        groups = equal_length_groups(users.share(devices).prompts, COVERAGE_BEAMS)
        self._references = [
            _Reference(prompts, *beam_search(target, trie, prompts, search))
            for _, prompts in groups
            if trie.depth > 1
        ]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean distillation loss per item, in nats; see `Objective`."""
        return self._loss(model, batch)

    def validate(self) -> Mapping[str, float]:
        """Return the coverage numbers, see `_covered`; nothing without prompts or second level."""
        whole = share = count = 0.0
        for reference in self._references:
            covered, alive = _covered(self._draft, self._trie, reference, self._kind)
            whole += float((covered | ~alive).all(dim=1).sum())
            share += float((covered.sum(dim=1) / alive.sum(dim=1)).sum())
            count += len(covered)
        whole, share, count = self._devices.sums([whole, share, count])
        if not count:
            return {}
        coverage, node_share = whole / count, share / count
        # The share of nodes is the smoother of the two and tells early models apart.
        return {"coverage": coverage, "node_share": node_share, "score": coverage + node_share}


class ItemSampler:
    """Replaces items of a batch by items the target finds likely."""

    def __init__(self, trie: ItemTrie, dataset: Dataset) -> None:
        """Sort the items by first code and prepare popularity sums.

        Args:
            trie: the catalogue.
            dataset: item numbers and popularity.
        """
        order = np.argsort(trie.index_of(dataset.items.item_ids))  # items in leaf order
        first = trie.levels[1]
        nodes = np.arange(first.num_nodes + 1)
        leaf = first.first_leaf_of(nodes)
        weight = dataset.items.popularity[order].astype(np.float64) + 1.0
        self._order, self._depth = order.astype(np.int64), trie.depth
        self._tokens = torch.from_numpy(first.tokens_of(nodes[:-1])).long()
        self._item_lo = np.asarray(trie.first_item_of(leaf)).astype(np.int64)
        self._mass = np.concatenate([[0.0], np.cumsum(weight)])

    def substitute(self, batch: Batch, logits: Tensor, rate: float) -> Batch:
        """Return a batch with some items replaced; it names items instead of training events.

        Args:
            batch: sequences.
            logits: the target's, for the batch's tokens. Shape (B, T, V).
            rate: share of items replaced.
        """
        row, column = batch.places
        chosen = (torch.rand(len(row)) < rate).numpy()
        row, column = row[chosen], column[chosen]
        items = np.where(batch.events >= 0, batch.item_of[batch.events], batch.events)
        if len(row):
            likely = logits[torch.from_numpy(row), torch.from_numpy(column * self._depth)]
            items[row, column] = self.sample(likely, 1)[:, 0]
        return Batch(items, np.arange(len(self._order)), batch.paths)

    def sample(self, logits: Tensor, count: int) -> np.ndarray:
        """Return items below different first codes, drawn by a law of the next token.

        Args:
            logits: of the first code. Shape (Q, V).
            count: items per row, at most the number of first codes.

        Returns:
            Item numbers. Shape (Q, count), int64.
        """
        probabilities = torch.softmax(logits[:, self._tokens.to(logits.device)], dim=-1)
        node = torch.multinomial(probabilities.cpu(), count).numpy()
        return self._draw(node, torch.rand(node.shape, dtype=torch.float64).numpy())

    def _draw(self, node: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """Return an item below each first-level node, by popularity; `chance` is uniform."""
        low, high = self._item_lo[node], self._item_lo[node + 1]
        point = self._mass[low] + chance * (self._mass[high] - self._mass[low])
        place = np.searchsorted(self._mass, point, side="right") - 1
        return np.asarray(self._order[np.clip(place, low, high - 1)])


def _covered(
    draft: nn.Module, trie: ItemTrie, reference: _Reference, kind: TrainedScoreKind
) -> tuple[Tensor, Tensor]:
    """Say which of the target's ten second-level nodes are among the draft's best forty.

    The draft starts from the target's exact first-level beams and their scores.

    Returns:
        Covered and alive, both of shape (G, 10) and bool, on the host.
    """
    first, device = reference.first, device_of(draft)
    with torch.inference_mode():
        output = draft(input_ids=reference.prompts.to(device), use_cache=True, logits_to_keep=1)
        cache = output.past_key_values
        cache.batch_repeat_interleave(first.nodes.shape[1])
        tokens = tokens_of(trie, 1, first.nodes).view(-1, 1).to(device)
        logits = draft(input_ids=tokens, past_key_values=cache, use_cache=True).logits[:, -1]
    logprobs = torch.log_softmax(logits.float(), dim=-1).view(*first.nodes.shape, -1)
    drafted = expand(trie, 1, first, logprobs, COVERAGE_NODES, kind)
    alive = reference.second.nodes >= 0
    covered = (reference.second.nodes[:, :, None] == drafted.nodes[:, None, :]).any(dim=2)
    return covered & alive, alive
