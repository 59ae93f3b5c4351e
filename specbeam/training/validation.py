"""Ranking the validation items while training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import nn

from specbeam.bundle import PromptTemplate
from specbeam.catalog import ItemTrie, rank_items
from specbeam.training.choices import TrainedScoreKind
from specbeam.training.data.dataset import Dataset
from specbeam.training.devices import Devices
from specbeam.training.evaluation.metrics import ndcg_at, recall_at
from specbeam.training.ranking import SearchConfig, beam_search, equal_length_groups

Int32Array = npt.NDArray[np.int32]
RANKING_BEAM_WIDTH = 20
RANKING_CUTOFF = 10


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """Users with validation items: train history as the prompt, validation items as the truth.

    Attributes:
        prompts: token ids per user.
        history: excluded item indices (trie order) per user.
        truth: validation item indices (trie order) per user.
    """

    prompts: tuple[Int32Array, ...]
    history: tuple[Int32Array, ...]
    truth: tuple[frozenset[int], ...]

    def __len__(self) -> int:
        return len(self.prompts)

    def share(self, devices: Devices) -> "ValidationSet":
        """Return the users that this process ranks."""
        own = slice(devices.rank, None, devices.size)
        return ValidationSet(self.prompts[own], self.history[own], self.truth[own])


def validation_users(dataset: Dataset, num_users: int, seed: int) -> list[int]:
    """Return the users of `make_validation_set`, by their numbers, ascending."""
    users = [user for user, items in enumerate(dataset.histories("valid")) if len(items)]
    rng = np.random.default_rng(seed)
    return sorted(rng.permutation(users)[:num_users].tolist())


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
    chosen = validation_users(dataset, num_users, seed)
    return ValidationSet(
        prompts=tuple(template.render(dataset.items.paths[train[user]]) for user in chosen),
        history=tuple(order[train[user]] for user in chosen),
        truth=tuple(frozenset(order[valid[user]].tolist()) for user in chosen),
    )


class Validator:
    """Ranks validation items by a width-20 beam search, history excluded."""

    def __init__(
        self,
        model: nn.Module,
        trie: ItemTrie,
        users: ValidationSet,
        devices: Devices,
        *,
        score_kind: TrainedScoreKind,
        bf16: bool,
    ) -> None:
        """Take this process's share of the users.

        Args:
            model: ranked, in eval mode.
            trie: the catalogue.
            users: all validation users.
            devices: this process and the others.
            score_kind: convention of the scores.
            bf16: run matrix products in bfloat16.
        """
        self._model, self._trie, self._devices = model, trie, devices
        self._users = users.share(devices)
        self._search = SearchConfig(RANKING_BEAM_WIDTH, trie.depth, score_kind, bf16)

    def ranking_numbers(self) -> Mapping[str, float]:
        """Return mean Recall@10 and NDCG@10 over all processes' users; nothing without users."""
        recall = ndcg = 0.0
        for indices, prompts in equal_length_groups(self._users.prompts, RANKING_BEAM_WIDTH):
            beams = beam_search(self._model, self._trie, prompts, self._search)[-1]
            for index, leaves, scores in zip(
                indices, beams.nodes.numpy(), beams.scores.numpy(), strict=True
            ):
                ranked, truth = self._ranked(index, leaves, scores), self._users.truth[index]
                recall += recall_at(ranked, truth, RANKING_CUTOFF)
                ndcg += ndcg_at(ranked, truth, RANKING_CUTOFF)
        recall, ndcg, count = self._devices.sums([recall, ndcg, float(len(self._users))])
        return {"recall@10": recall / count, "ndcg@10": ndcg / count} if count else {}

    def _ranked(
        self, index: int, leaves: npt.NDArray[np.int64], scores: npt.NDArray[np.float32]
    ) -> list[int]:
        alive = leaves >= 0
        unseen = _unseen(self._users.history[index])
        found = rank_items(self._trie, leaves[alive], scores[alive], RANKING_CUTOFF, unseen)
        return [int(item) for item in found.items]


def _unseen(history: Int32Array) -> Callable[[np.ndarray], np.ndarray]:
    return lambda items: ~np.isin(items, history)
