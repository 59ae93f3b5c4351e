"""Recall and NDCG of a bundle's target beside baselines, all on the same users.

Protocol: for the test split, the history of a user is train + valid and the truth is all test
items; for the valid split, the history is train and the truth is all valid items.  Items of the
history are not recommended; users without truth items are left out.  Baselines are fitted on the
train split, and whatever is chosen about them is chosen on the valid split.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from specbeam.bundle import Bundle
from specbeam.training.data.dataset import Dataset
from specbeam.training.errors import TrainingError
from specbeam.training.evaluation.bootstrap import INTERVAL, RESAMPLES
from specbeam.training.evaluation.bundle_ranker import BundleRanker
from specbeam.training.evaluation.comparison import compare
from specbeam.training.evaluation.fitted import BASELINES, BaselineOptions, fit_baseline
from specbeam.training.evaluation.item_knn import check_pairs
from specbeam.training.evaluation.lists import list_figures
from specbeam.training.evaluation.ranking import Ranker, rank_all
from specbeam.training.evaluation.stages import Stage
from specbeam.training.evaluation.users import EvaluatedSplit, EvaluationUser, evaluation_users
from specbeam.training.evaluation.values import CUTOFFS, UserValues, user_values
from specbeam.training.progress import Reporter, SilentReporter

Int32Array = npt.NDArray[np.int32]

TARGET = "target"
LIST_LENGTH = max(CUTOFFS)
FORMAT = 2


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The lists of all rankers, and their figures.

    Attributes:
        users: who was evaluated, U of them.
        user_ids: their outside names.
        rankings: item numbers by ranker, best first. Shape (U, 20) each.
        values: per-user values by ranker.
        report: all figures, as JSON values.
    """

    users: Sequence[EvaluationUser]
    user_ids: Sequence[str]
    rankings: dict[str, Int32Array]
    values: dict[str, UserValues]
    report: dict[str, Any]


class _Rankings:
    """Ranks with one ranker after the other and keeps lists, details and times."""

    def __init__(self, users: Sequence[EvaluationUser], reporter: Reporter) -> None:
        self._histories, self._reporter = [user.history for user in users], reporter
        self.lists: dict[str, Int32Array] = {}
        self.details: dict[str, dict[str, Any]] = {}

    def add(self, name: str, ranker: Ranker, details: dict[str, Any]) -> None:
        stage = Stage(self._reporter, f"ranking with {name}")
        total = len(self._histories)

        def update(share: float) -> None:
            stage.update(share, f"{round(share * total):,} of {total:,} users")

        self.lists[name] = rank_all(ranker, self._histories, LIST_LENGTH, update)
        self.details[name] = {**details, "rank_seconds": round(stage.seconds, 2)}


def evaluate_bundle(
    bundle: Bundle,
    dataset: Dataset,
    *,
    num_users: int | None = None,
    beam_width: int = 20,
    split: EvaluatedSplit = "test",
    baselines: Sequence[str] = ("co-occurrence", "popularity"),
    options: BaselineOptions | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Return the report of `run_evaluation`, which says what the arguments are."""
    return run_evaluation(
        bundle,
        dataset,
        num_users=num_users,
        beam_width=beam_width,
        split=split,
        baselines=baselines,
        options=options,
        reporter=reporter,
    ).report


def run_evaluation(
    bundle: Bundle,
    dataset: Dataset,
    *,
    num_users: int | None = None,
    beam_width: int = 20,
    split: EvaluatedSplit = "test",
    baselines: Sequence[str] = ("co-occurrence", "popularity"),
    options: BaselineOptions | None = None,
    reporter: Reporter | None = None,
) -> Evaluation:
    """Evaluate the bundle's target and baselines on the same users.

    Args:
        bundle: what is evaluated.
        dataset: histories.
        num_users: sample at most this many users; None for all.
        beam_width: W of the beam search.
        split: whose items are to be found.
        baselines: names from `fitted.BASELINES`, without repetition.
        options: how baselines are fitted.
        reporter: told about progress; None for nobody.

    Raises:
        TrainingError: bundle and dataset do not belong together, nobody has items to be found, or
            a baseline is unknown or cannot be fitted.
    """
    _check_names(baselines)
    users = evaluation_users(dataset, split, num_users)
    if not users:
        raise TrainingError(f"dataset {dataset.name} has no user with {split} items")
    if "item-knn" in baselines:
        check_pairs(dataset)
    reporter = reporter or SilentReporter()
    rankings = _Rankings(users, reporter)
    # The target first: a bundle that does not fit must not cost the training of a baseline.
    rankings.add(TARGET, BundleRanker(bundle, dataset, beam_width), {"beam_width": beam_width})
    for name in baselines:
        stage = Stage(reporter, f"fitting {name}")
        fitted = fit_baseline(name, dataset, options or BaselineOptions(), stage)
        rankings.add(name, fitted.ranker, fitted.details)
    truth, popularity = [user.truth for user in users], dataset.items.popularity
    values = {name: user_values(found, truth, popularity) for name, found in rankings.lists.items()}
    results, differences = compare(values, TARGET)
    report = {
        **_conditions(bundle, dataset, users, split, beam_width),
        "rankers": rankings.details,
        "results": results,
        "differences": differences,
        "lists": {name: list_figures(found, popularity) for name, found in rankings.lists.items()},
    }
    ids = [dataset.interactions.user_ids[user.number] for user in users]
    return Evaluation(users, ids, rankings.lists, values, report)


def _check_names(baselines: Sequence[str]) -> None:
    unknown = [name for name in baselines if name not in BASELINES]
    if unknown:
        raise TrainingError(
            f"there is no baseline {', '.join(unknown)}; there are {', '.join(BASELINES)}"
        )
    if len(set(baselines)) < len(baselines):
        raise TrainingError("a baseline is named twice")


def _conditions(
    bundle: Bundle,
    dataset: Dataset,
    users: Sequence[EvaluationUser],
    split: EvaluatedSplit,
    beam_width: int,
) -> dict[str, Any]:
    truth = np.concatenate([user.truth for user in users])
    return {
        "format": FORMAT,
        "bundle": bundle.manifest.name,
        "model_fingerprint": bundle.manifest.fingerprints.model,
        "dataset": dataset.name,
        "split": split,
        "history": "train + valid" if split == "test" else "train",
        "users": len(users),
        "beam_width": beam_width,
        "exclude_history": True,
        "truth_items": {
            "all": len(truth),
            "unseen": int((dataset.items.popularity[truth] == 0).sum()),
        },
        "bootstrap": {"resamples": RESAMPLES, "percentiles": list(INTERVAL), "seed": 0},
    }
