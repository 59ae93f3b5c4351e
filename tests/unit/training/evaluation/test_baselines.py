import itertools
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pytest

from specbeam.training.data.dataset import Dataset
from specbeam.training.evaluation import item_knn
from specbeam.training.evaluation.baselines import CooccurrenceRanker, PopularityRanker
from specbeam.training.evaluation.item_knn import ItemKnnSettings, choose_item_knn, ranker_with
from specbeam.training.evaluation.ranking import rank_all, top_items
from specbeam.training.evaluation.users import evaluation_users
from specbeam.training.evaluation.values import NO_ITEM

Votes = dict[int, dict[int, float]]


def items(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def obvious_popularity(popularity: np.ndarray, history: Sequence[int]) -> list[int]:
    order = sorted(range(len(popularity)), key=lambda item: (-popularity[item], item))
    return [item for item in order if item not in history]


def obvious_ranking(
    neighbours: Votes,
    voters: Sequence[int],
    history: Sequence[int],
    popular: list[int],
    decay: float,
) -> list[int]:
    votes: dict[int, float] = defaultdict(float)
    for age, item in enumerate(reversed(voters)):
        for other, weight in neighbours.get(item, {}).items():
            if other not in history:
                votes[other] += weight * decay**age
    ranked = sorted(votes, key=lambda item: (-np.float32(votes[item]), item))
    return ranked + [item for item in popular if item not in votes]


def obvious_pairs(histories: Sequence[np.ndarray], popularity: np.ndarray) -> Votes:
    neighbours: Votes = defaultdict(lambda: defaultdict(float))
    for history in histories:
        for place, item in enumerate(history.tolist()):
            for distance, other in enumerate(history[place + 1 : place + 6].tolist(), start=1):
                weight = 1.0 / distance / np.sqrt(popularity[item] * popularity[other])
                neighbours[item][other] += weight
                neighbours[other][item] += weight
    return neighbours


def obvious_neighbours(
    histories: Sequence[np.ndarray], popularity: np.ndarray, settings: ItemKnnSettings
) -> Votes:
    together: Votes = defaultdict(lambda: defaultdict(float))
    for history in histories:
        for one, other in itertools.permutations(history.tolist(), 2):
            together[one][other] += 1.0
    kept: Votes = {}
    for one, others in together.items():
        cosine = {
            other: count
            / (np.sqrt(float(popularity[one] * popularity[other])) + settings.shrinkage)
            for other, count in others.items()
        }
        best = sorted(cosine, key=lambda other: (-cosine[other], other))[: settings.neighbours]
        kept[one] = {other: cosine[other] for other in best}
    return kept


def shown(rows: np.ndarray) -> list[list[int]]:
    return [[item for item in row if item != NO_ITEM] for row in rows.tolist()]


def assert_same_order(found: list[int], expected: list[int]) -> None:
    assert found == expected[: len(found)]


@pytest.fixture
def histories(small_dataset: Dataset) -> list[np.ndarray]:
    return [user.history for user in evaluation_users(small_dataset)]


def test_popularity_skips_the_history_and_breaks_ties_by_number() -> None:
    ranker = PopularityRanker(items(1, 5, 3, 3))
    assert ranker.rank([items(1), items(), items(0, 1, 2)], 3).tolist() == [
        [2, 3, 0],
        [1, 2, 3],
        [3, NO_ITEM, NO_ITEM],
    ]


def test_popularity_is_the_obvious_ranking(
    small_dataset: Dataset, histories: list[np.ndarray]
) -> None:
    popularity = small_dataset.items.popularity
    found = shown(rank_all(PopularityRanker(popularity), histories, 20))
    for row, history in zip(found, histories, strict=True):
        assert row == obvious_popularity(popularity, history.tolist())[:20]


def test_cooccurrence_prefers_neighbours_and_fills_with_popularity() -> None:
    train = [items(0, 1, 4), items(0, 1), items(2, 3)]
    ranked = CooccurrenceRanker(train, items(2, 2, 1, 1, 1)).rank([items(0)], 5)
    assert ranked.tolist() == [[1, 4, 2, 3, NO_ITEM]]


def test_cooccurrence_is_the_obvious_ranking(
    small_dataset: Dataset, histories: list[np.ndarray]
) -> None:
    popularity, train = small_dataset.items.popularity, small_dataset.histories("train")
    neighbours = obvious_pairs(train, popularity)
    found = shown(rank_all(CooccurrenceRanker(train, popularity), histories, 160))
    for row, history in zip(found, histories, strict=True):
        known = history.tolist()
        popular = obvious_popularity(popularity, known)
        expected = obvious_ranking(neighbours, known[-10:], known, popular, 0.8)
        assert_same_order(row, expected)


@pytest.mark.parametrize(
    "settings", [ItemKnnSettings(5, 0.0, 1.0), ItemKnnSettings(40, 10.0, 0.6)], ids=str
)
def test_item_knn_is_the_obvious_ranking(
    small_dataset: Dataset, histories: list[np.ndarray], settings: ItemKnnSettings
) -> None:
    popularity = small_dataset.items.popularity
    neighbours = obvious_neighbours(small_dataset.histories("train"), popularity, settings)
    found = shown(rank_all(ranker_with(small_dataset, settings), histories, 160))
    for row, history in zip(found, histories, strict=True):
        known = history.tolist()
        popular = obvious_popularity(popularity, known)
        assert_same_order(row, obvious_ranking(neighbours, known, known, popular, settings.decay))


def test_item_knn_settings_are_the_best_of_the_grid_on_the_valid_split(
    small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_knn, "NEIGHBOURS", (5, 40))
    monkeypatch.setattr(item_knn, "DECAYS", (0.5, 1.0))
    shares: list[float] = []
    ranker, report = choose_item_knn(small_dataset, lambda share, text: shares.append(share))
    assert len(report["tried"]) == 12
    assert shares[-1] == 1.0
    scores = [row["valid_ndcg@10"] for row in report["tried"]]
    assert report["valid_ndcg@10"] == max(scores) > min(scores)
    # The grid reuses matrices; the ranker of a combination alone must be the same.
    again = ranker_with(small_dataset, item_knn.settings_from(report))
    users = [user.history for user in evaluation_users(small_dataset, "valid")]
    assert (rank_all(ranker, users, 20) == rank_all(again, users, 20)).all()


def test_top_items_breaks_ties_by_number_and_leaves_out_minus_infinity() -> None:
    scores = np.array([[1.0, 3.0, 3.0, 3.0, 2.0], [-np.inf, 0.0, -np.inf, -np.inf, 9.0]])
    found = top_items(scores, [items(3), items(4)], 3)
    assert found.tolist() == [[1, 2, 4], [1, NO_ITEM, NO_ITEM]]


def test_valid_users_see_train_and_test_users_see_train_and_valid(small_dataset: Dataset) -> None:
    train, valid = small_dataset.histories("train"), small_dataset.histories("valid")
    for user in evaluation_users(small_dataset, "valid"):
        assert user.history.tolist() == train[user.number].tolist()
        assert user.truth.tolist() == sorted(set(valid[user.number].tolist())) != []
    for user in evaluation_users(small_dataset, "test"):
        known = [*train[user.number].tolist(), *valid[user.number].tolist()]
        assert user.history.tolist() == known
        wanted = small_dataset.histories("test")[user.number].tolist()
        assert user.truth.tolist() == sorted(set(wanted))
    sample = [user.number for user in evaluation_users(small_dataset, "test", 5, seed=1)]
    assert len(sample) == 5
    assert sample == [user.number for user in evaluation_users(small_dataset, "test", 5, seed=1)]
