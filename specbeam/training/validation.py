"""Prompts and truths for validation while training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from specbeam.bundle import PromptTemplate
from specbeam.catalog import ItemTrie, rank_items
from specbeam.training.batches import pad
from specbeam.training.data.dataset import Dataset
from specbeam.training.evaluation.metrics import ndcg_at, recall_at
from specbeam.training.losses import labelled_rows
from specbeam.training.model import forward_logits
from specbeam.training.ranking import beam_search, equal_length_groups

Int32Array = npt.NDArray[np.int32]
RANKING_BEAM_WIDTH = 20
RANKING_CUTOFF = 10
LOSS_BATCH = 64


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """Users with validation items: train history as the prompt, validation items as the truth.

    Attributes:
        prompts: token ids per user.
        history: excluded item indices (trie order) per user.
        truth: validation item indices (trie order) per user.
        continuations: item numbers (dataset order) of the shown history and the truth, and how
            many of them are history.
    """

    prompts: tuple[Int32Array, ...]
    history: tuple[Int32Array, ...]
    truth: tuple[frozenset[int], ...]
    continuations: tuple[tuple[Int32Array, int], ...]

    def __len__(self) -> int:
        return len(self.prompts)


def make_validation_set(
    dataset: Dataset, trie: ItemTrie, template: PromptTemplate, num_users: int, seed: int
) -> ValidationSet:
    """Sample users that have validation items.

    Args:
        dataset: histories and paths.
        trie: catalogue of the dataset.
        template: renders prompts.
        num_users: most users taken.
        seed: of the sample.
    """
    order = trie.index_of(dataset.items.item_ids)
    train, valid = dataset.histories("train"), dataset.histories("valid")
    users = [user for user, items in enumerate(valid) if len(items)]
    rng = np.random.default_rng(seed)
    chosen = sorted(rng.permutation(users)[:num_users].tolist())
    shown = [train[user][template.window.start(len(train[user])) :] for user in chosen]
    room = template.window.max_items
    return ValidationSet(
        prompts=tuple(template.render(dataset.items.paths[train[user]]) for user in chosen),
        history=tuple(order[train[user]] for user in chosen),
        truth=tuple(frozenset(order[valid[user]].tolist()) for user in chosen),
        continuations=tuple(
            (np.concatenate([items, valid[user][:room]]).astype(np.int32), len(items))
            for items, user in zip(shown, chosen, strict=True)
        ),
    )


def ranking_numbers(
    model: nn.Module, trie: ItemTrie, users: ValidationSet, *, bf16: bool
) -> Mapping[str, float]:
    """Return mean Recall@10 and NDCG@10 of a width-20 beam search, history excluded."""
    recall, ndcg = [], []
    for indices, prompts in equal_length_groups(users.prompts, RANKING_BEAM_WIDTH):
        beams = beam_search(model, trie, prompts, RANKING_BEAM_WIDTH, trie.depth, bf16=bf16)[-1]
        rows = zip(indices, beams.nodes.numpy(), beams.scores.numpy(), strict=True)
        for index, leaves, scores in rows:
            alive = leaves >= 0
            found = rank_items(
                trie, leaves[alive], scores[alive], RANKING_CUTOFF, _unseen(users.history[index])
            )
            ranked = found.items.tolist()
            recall.append(recall_at(ranked, users.truth[index], RANKING_CUTOFF))
            ndcg.append(ndcg_at(ranked, users.truth[index], RANKING_CUTOFF))
    return {"recall@10": float(np.mean(recall)), "ndcg@10": float(np.mean(ndcg))}


def item_loss(model: nn.Module, paths: Int32Array, users: ValidationSet, *, bf16: bool) -> float:
    """Return the cross-entropy of the validation items given what came before, nats per token."""
    depth = paths.shape[1]
    order = sorted(range(len(users)), key=lambda i: len(users.continuations[i][0]))
    total, count = 0.0, 0
    for begin in range(0, len(order), LOSS_BATCH):
        rows = [users.continuations[index] for index in order[begin : begin + LOSS_BATCH]]
        tokens = torch.from_numpy(pad([items for items, _ in rows], paths)).long()
        with torch.inference_mode():
            logits = forward_logits(model, tokens, bf16=bf16)
            hidden = torch.tensor([1 + depth * num_history for _, num_history in rows])
            loss, labels = _masked_loss(logits, tokens, hidden, depth)
        total += loss
        count += labels
    return total / max(count, 1)


def _masked_loss(logits: Tensor, tokens: Tensor, first: Tensor, depth: int) -> tuple[float, int]:
    """Sum the loss of labels at positions >= first. `first` has shape (B,)."""
    wanted = torch.arange(tokens.shape[1]) >= first[:, None]
    kept = torch.where(wanted, tokens, 0)
    rows, labels, _ = labelled_rows(logits, kept, depth)
    loss = torch.nn.functional.cross_entropy(rows, labels, reduction="sum")
    return float(loss), len(labels)


def _unseen(history: Int32Array) -> Callable[[np.ndarray], np.ndarray]:
    return lambda items: ~np.isin(items, history)
