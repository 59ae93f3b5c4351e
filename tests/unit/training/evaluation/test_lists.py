import numpy as np
import pytest

from specbeam.training.evaluation.lists import list_figures, popularity_percentiles
from specbeam.training.evaluation.values import NO_ITEM


def test_percentiles_count_less_popular_items_and_half_of_equal_ones() -> None:
    popularity = np.random.default_rng(0).integers(0, 6, 50).astype(np.int32)
    expected = [
        sum((other < own) + 0.5 * (other == own) for other in popularity) / 50 for own in popularity
    ]
    assert popularity_percentiles(popularity) == pytest.approx(expected)


def test_figures_of_known_lists() -> None:
    popularity = np.arange(40, dtype=np.int32)
    ranked = np.full((2, 20), NO_ITEM, np.int32)
    ranked[0, :15] = np.arange(15)
    ranked[1, :5] = [39, 0, 1, 2, 3]
    figures = list_figures(ranked, popularity)
    assert figures["coverage@10"] == 11 / 40
    assert figures["coverage@20"] == 16 / 40
    assert figures["short_lists@10"] == 0.5
    assert figures["short_lists@20"] == 1.0
    first = [*range(10), 39, 0, 1, 2, 3]
    assert figures["popularity_percentile@10"] == pytest.approx(np.mean(np.add(first, 0.5)) / 40)
    nothing = list_figures(np.full((2, 20), NO_ITEM, np.int32), popularity)
    assert nothing["coverage@10"] == nothing["popularity_percentile@10"] == 0.0
