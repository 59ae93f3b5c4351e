import math

import numpy as np
import pytest

from specbeam.training.evaluation.baselines import CooccurrenceRanker, PopularityRanker
from specbeam.training.evaluation.evaluate import mean_interval
from specbeam.training.evaluation.metrics import ndcg_at, recall_at


def test_recall_and_ndcg_of_a_known_ranking() -> None:
    ranked, truth = [4, 7, 1, 9], [7, 9, 5]
    assert recall_at(ranked, truth, 2) == pytest.approx(1 / 3)
    assert recall_at(ranked, truth, 4) == pytest.approx(2 / 3)
    gain = 1 / math.log2(3) + 1 / math.log2(5)
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert ndcg_at(ranked, truth, 4) == pytest.approx(gain / ideal)
    assert ndcg_at([7, 9, 5], truth, 10) == pytest.approx(1.0)


def test_popularity_skips_the_history_and_breaks_ties_by_number() -> None:
    ranker = PopularityRanker(np.array([1, 5, 3, 3], np.int32))
    assert ranker.rank(np.array([1], np.int32), 3) == [2, 3, 0]


def test_cooccurrence_prefers_neighbours_and_fills_with_popularity() -> None:
    histories = [np.array(items, np.int32) for items in ([0, 1, 4], [0, 1], [2, 3])]
    ranker = CooccurrenceRanker(histories, np.array([2, 2, 1, 1, 1], np.int32))
    ranked = ranker.rank(np.array([0], np.int32), 4)
    assert ranked[:2] == [1, 4]
    assert sorted(ranked) == [1, 2, 3, 4]


def test_the_interval_contains_the_mean() -> None:
    result = mean_interval([0.0, 1.0, 1.0, 0.0, 1.0])
    assert result["low"] <= result["mean"] == 0.6 <= result["high"]
