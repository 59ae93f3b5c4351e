"""Item-based nearest neighbours, its three settings chosen on the validation split."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from specbeam.training.data.dataset import Dataset
from specbeam.training.errors import TrainingError
from specbeam.training.evaluation.baselines import VoteRanker
from specbeam.training.evaluation.ranking import rank_all
from specbeam.training.evaluation.sparse import (
    CsrMatrix,
    cooccurring_users,
    keep_largest,
)
from specbeam.training.evaluation.users import evaluation_users
from specbeam.training.evaluation.values import ranking_values

Int32Array = npt.NDArray[np.int32]

NEIGHBOURS = (100, 500)
SHRINKAGES = (0.0, 5.0, 20.0)
DECAYS = (0.15, 0.3, 0.5, 0.7, 1.0)
VALIDATION_USERS = 2000
CHOSEN_BY = "ndcg@10"
CHOSEN_CUTOFF = 10
# Users times the squares of their items: what counting pairs of one user may cost in memory.
MAX_PAIRS = 400_000_000
VALIDATION_KEY = f"valid_{CHOSEN_BY}"


@dataclass(frozen=True, slots=True)
class ItemKnnSettings:
    """What is chosen on the validation split.

    Attributes:
        neighbours: most similar items kept per item.
        shrinkage: added to the denominator of the cosine; damps pairs of rare items.
        decay: weight of an item relative to the next newer one of the same history.
    """

    neighbours: int = 100
    shrinkage: float = 0.0
    decay: float = 1.0


def check_pairs(dataset: Dataset) -> None:
    """Refuse logs whose pairs of items of one user would not fit into memory.

    Raises:
        TrainingError: there are too many.
    """
    pairs = sum(len(history) ** 2 for history in dataset.histories("train"))
    if pairs > MAX_PAIRS:
        raise TrainingError(
            f"item-knn would count {pairs:,} pairs; leave it out: --baselines "
            "popularity,co-occurrence"
        )


def shrunk_cosine(shared_users: CsrMatrix, popularity: Int32Array, shrinkage: float) -> CsrMatrix:
    """Return n_ij / (sqrt(n_i n_j) + shrinkage) of the binary user-item matrix.

    Source: M. Deshpande and G. Karypis, "Item-based top-N recommendation algorithms", TOIS 2004;
    shrinkage is a later addition of practice.

    Args:
        shared_users: n_ij, users who have both items in the train split. Shape (N, N).
        popularity: n_i, training interactions per item. Shape (N,).
        shrinkage: 0 for the plain cosine.
    """
    users = popularity.astype(np.float64)
    rows = np.repeat(np.arange(len(users)), np.diff(shared_users.indptr))
    similarity = shared_users.copy()
    # The root of the product, not the product of roots: equal cosines stay exactly equal.
    norm = np.sqrt(users[rows] * users[similarity.indices])
    similarity.data = similarity.data / (norm + shrinkage)
    return similarity


def candidate_rankers(dataset: Dataset) -> Iterator[tuple[ItemKnnSettings, VoteRanker]]:
    """Yield a ranker for each combination of the grid, fitted on the train split.

    All items of a history vote for their neighbours.
    """
    popularity = dataset.items.popularity
    shared = cooccurring_users(dataset.histories("train"), len(popularity))
    for shrinkage in SHRINKAGES:
        similarity = shrunk_cosine(shared, popularity, shrinkage)
        for neighbours in sorted(NEIGHBOURS, reverse=True):
            similarity = keep_largest(similarity, neighbours)
            for decay in DECAYS:
                settings = ItemKnnSettings(neighbours, shrinkage, decay)
                yield settings, VoteRanker(similarity, popularity, decay)


def ranker_with(dataset: Dataset, settings: ItemKnnSettings) -> VoteRanker:
    """Return the ranker of one combination, fitted on the train split."""
    popularity = dataset.items.popularity
    shared = cooccurring_users(dataset.histories("train"), len(popularity))
    similarity = shrunk_cosine(shared, popularity, settings.shrinkage)
    kept = keep_largest(similarity, settings.neighbours)
    return VoteRanker(kept, popularity, settings.decay)


def settings_from(choice: Mapping[str, Any]) -> ItemKnnSettings:
    """Return the settings in what `choose_item_knn` reports.

    Raises:
        KeyError: one is missing.
        ValueError: one is not a number.
    """
    return ItemKnnSettings(
        int(choice["neighbours"]), float(choice["shrinkage"]), float(choice["decay"])
    )


def choose_item_knn(
    dataset: Dataset, on_progress: Callable[[float, str], None] = lambda share, text: None
) -> tuple[VoteRanker, dict[str, Any]]:
    """Fit on train and keep the settings with the best NDCG@10 on the validation split.

    Args:
        dataset: histories.
        on_progress: told after each combination.

    Returns:
        The ranker, and its settings with all scores that were compared.

    Raises:
        TrainingError: nobody has validation items.
    """
    users = evaluation_users(dataset, "valid", VALIDATION_USERS)
    if not users:
        raise TrainingError(f"dataset {dataset.name} has no validation items to choose item-knn by")
    histories, truth = [user.history for user in users], [user.truth for user in users]
    size = len(NEIGHBOURS) * len(SHRINKAGES) * len(DECAYS)
    tried: list[dict[str, Any]] = []
    best, best_score = None, -1.0
    for settings, ranker in candidate_rankers(dataset):
        ranked = rank_all(ranker, histories, CHOSEN_CUTOFF)
        values = ranking_values(ranked, truth, len(dataset.items), (CHOSEN_CUTOFF,))
        score = float(values[CHOSEN_BY].mean())
        tried.append({**asdict(settings), VALIDATION_KEY: score})
        if score > best_score:
            best, best_score = ranker, score
        on_progress(len(tried) / size, f"{len(tried)} of {size} settings")
    assert best is not None
    chosen = max(tried, key=lambda row: float(row[VALIDATION_KEY]))
    return best, {
        **chosen,
        "chosen_by": f"valid {CHOSEN_BY}",
        "validation_users": len(users),
        "tried": tried,
    }
