"""Recall and NDCG of a bundle on the test split, beside simple baselines.

Protocol: the history of a test user is train + valid, the truth is all test items, items of the
history are not recommended, users without test items are left out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from specbeam.bundle import Bundle
from specbeam.catalog import FilterCompiler, ItemFilter, rank_items
from specbeam.decoding.scoring import Scoring
from specbeam.engine import ModelRunner, RunnerConfig, SearchModel, SearchSpec, plain_search
from specbeam.training.data.dataset import Dataset
from specbeam.training.errors import TrainingError
from specbeam.training.evaluation.baselines import CooccurrenceRanker, PopularityRanker, Ranker
from specbeam.training.evaluation.metrics import ndcg_at, recall_at

Int32Array = npt.NDArray[np.int32]
CUTOFFS = (5, 10, 20)
GROUPS = ("all", "seen", "unseen")
BOOTSTRAP_SAMPLES = 1000
INTERVAL = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class EvaluationUser:
    """A test user.

    Attributes:
        history: train and valid item numbers, oldest first.
        truth: test item numbers.
    """

    history: Int32Array
    truth: Int32Array


class BundleRanker:
    """Exact top-K of a bundle's target: plain beam search with the history excluded."""

    def __init__(self, bundle: Bundle, dataset: Dataset, beam_width: int) -> None:
        """Load the target in float32.

        Args:
            bundle: what is evaluated.
            dataset: item numbers are those of this dataset.
            beam_width: W.

        Raises:
            TrainingError: bundle and dataset have different items.
        """
        self._index = bundle.trie.index_of(dataset.items.item_ids)
        if (self._index < 0).any() or len(self._index) != bundle.trie.num_items:
            raise TrainingError(
                f"bundle {bundle.manifest.name} and dataset {dataset.name} have different items"
            )
        self._number = np.argsort(self._index)
        self._bundle, self._paths, self._beam_width = bundle, dataset.items.paths, beam_width
        widest = max(level.max_children for level in bundle.trie.levels)
        config = RunnerConfig(
            slots=1,
            max_prompt_tokens=bundle.max_prompt_tokens,
            max_rows=max(beam_width * bundle.trie.depth, widest),
            max_item_tokens=bundle.trie.depth,
        )
        runner = ModelRunner.load(bundle.target_dir, config)
        self._search = SearchModel.of(
            runner, bundle.trie, Scoring(bundle.manifest.score_kind, bundle.manifest.codebooks())
        )
        self._filters = FilterCompiler(bundle.trie)

    def rank(self, history: Int32Array, limit: int) -> list[int]:
        """Return the target's best items: at most `limit`, on at most `beam_width` leaves."""
        excluded = self._index[history]
        prompt = self._bundle.template.render(self._paths[history])
        wanted = ItemFilter(excluded_items=excluded)
        leaf_filter = self._filters.compile(self._filters.resolve(wanted))
        spec = SearchSpec(prompt, self._beam_width, leaf_filter)
        beams = plain_search(self._search, spec).beams
        found = rank_items(
            self._bundle.trie,
            beams.nodes,
            beams.scores,
            limit,
            lambda items: self._filters.allowed(wanted, items),
        )
        return [int(number) for number in self._number[found.items]]


def users_with_test_items(
    dataset: Dataset, num_users: int | None, seed: int = 0
) -> list[EvaluationUser]:
    """Return users with test items.

    Args:
        dataset: histories.
        num_users: sample at most this many; None for all.
        seed: of the sample.
    """
    train, valid, test = (dataset.histories(split) for split in ("train", "valid", "test"))
    users = [user for user, items in enumerate(test) if len(items)]
    if num_users is not None and num_users < len(users):
        users = sorted(np.random.default_rng(seed).permutation(users)[:num_users].tolist())
    return [
        EvaluationUser(np.concatenate([train[user], valid[user]]), test[user]) for user in users
    ]


def evaluate_bundle(
    bundle: Bundle,
    dataset: Dataset,
    *,
    num_users: int | None = None,
    beam_width: int = 20,
    on_progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """Evaluate the bundle's target, popularity and co-occurrence on the same users.

    Args:
        bundle: what is evaluated.
        dataset: its test split.
        num_users: sample at most this many users; None for all.
        beam_width: W of the beam search.
        on_progress: called with the share done, 0 .. 1.

    Returns:
        Counts, and per ranker, group of truth items (all, seen in training, unseen) and metric the
        mean over users with a 95 % bootstrap interval.

    Raises:
        TrainingError: bundle and dataset do not belong together, or nobody has test items.
    """
    users = users_with_test_items(dataset, num_users)
    if not users:
        raise TrainingError(f"dataset {dataset.name} has no user with test items")
    popularity = dataset.items.popularity
    rankers: dict[str, Ranker] = {
        "target": BundleRanker(bundle, dataset, beam_width),
        "co-occurrence": CooccurrenceRanker(dataset.histories("train"), popularity),
        "popularity": PopularityRanker(popularity),
    }
    values: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in rankers}
    for number, user in enumerate(users, start=1):
        for name, ranker in rankers.items():
            ranked = ranker.rank(user.history, max(CUTOFFS))
            values[name].append(_user_values(ranked, user.truth, popularity))
        on_progress(number / len(users))
    return {
        "bundle": bundle.manifest.name,
        "dataset": dataset.name,
        "users": len(users),
        "beam_width": beam_width,
        "exclude_history": True,
        "truth_items": {
            "all": int(sum(len(user.truth) for user in users)),
            "unseen": int(sum((popularity[user.truth] == 0).sum() for user in users)),
        },
        "results": {name: _summary(rows) for name, rows in values.items()},
    }


def _user_values(
    ranked: Sequence[int], truth: Int32Array, popularity: Int32Array
) -> dict[str, dict[str, float]]:
    """Return the metrics of one user by group; a group without truth items is absent."""
    seen = popularity[truth] > 0
    groups = {"all": truth, "seen": truth[seen], "unseen": truth[~seen]}
    return {
        group: {
            f"{metric}@{k}": function(ranked, items.tolist(), k)
            for metric, function in (("recall", recall_at), ("ndcg", ndcg_at))
            for k in CUTOFFS
        }
        for group, items in groups.items()
        if len(items)
    }


def _summary(rows: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for group in GROUPS:
        chosen = [row[group] for row in rows if group in row]
        summary[group] = {"users": len(chosen)}
        for metric in chosen[0] if chosen else ():
            summary[group][metric] = mean_interval([row[metric] for row in chosen])
    return summary


def mean_interval(values: Sequence[float], seed: int = 0) -> dict[str, float]:
    """Return the mean and its 95 % bootstrap interval over users.

    Args:
        values: one number per user; not empty.
        seed: of the resampling; the same seed gives the same users for every ranker.
    """
    array = np.asarray(values)
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(array), size=(BOOTSTRAP_SAMPLES, len(array)))
    low, high = np.percentile(array[draws].mean(axis=1), INTERVAL)
    return {"mean": float(array.mean()), "low": float(low), "high": float(high)}
