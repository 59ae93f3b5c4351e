"""The cost table: between, below and beyond what was measured; never falling with the rows."""

import itertools

import numpy as np
import pytest

from specbeam.decoding.costs import CostPoint, CostTable

POINTS = [
    CostPoint(30, 0, 20.0),
    CostPoint(200, 0, 105.0),
    CostPoint(1, 30, 10.0),
    CostPoint(9, 30, 14.0),
    CostPoint(25, 30, 30.0),
    CostPoint(1, 200, 12.0),
    CostPoint(9, 200, 20.0),
    CostPoint(25, 200, 40.0),
]


def table(points=POINTS):
    found = CostTable.from_points(points)
    assert found is not None
    return found


def test_measured_points_come_back():
    costs = table(POINTS[::-1])
    for point in POINTS:
        if point.prefix_tokens:
            assert costs.ms(point.rows, point.prefix_tokens) == pytest.approx(point.ms)
        else:
            assert costs.prompt_ms(point.rows) == pytest.approx(point.ms)


def test_between_points_it_is_linear_in_rows_and_in_prefix():
    costs = table()
    assert costs.ms([5, 17], 30).tolist() == pytest.approx([12.0, 22.0])
    assert costs.ms(9, 115) == pytest.approx(17.0)
    assert costs.ms(5, 115) == pytest.approx((12.0 + 16.0) / 2)
    assert costs.prompt_ms(115) == pytest.approx(62.5)


def test_above_the_last_point_it_goes_on_and_below_the_first_it_stays():
    costs = table()
    assert costs.ms(41, 30) == pytest.approx(46.0)
    assert costs.ms(41, 370) == pytest.approx(74.0)  # 60 behind 200, which is 14 more
    assert costs.ms(0, 5) == pytest.approx(10.0)
    assert costs.prompt_ms(540) == pytest.approx(275.0)
    assert costs.prompt_ms(3) == pytest.approx(20.0)


def test_rows_keep_their_shape():
    rows = np.arange(1, 7).reshape(2, 3)
    found = table().ms(rows, 80)
    assert found.shape == (2, 3)
    assert found[1, 2] == table().ms(6, 80)


def test_nothing_measured_is_no_table():
    assert CostTable.from_points([]) is None
    assert CostTable.from_points(POINTS[:2]) is None
    assert table(POINTS[2:]).prompt_ms(30) is None


def test_one_point_costs_the_same_everywhere():
    costs = table([CostPoint(8, 30, 4.0)])
    assert costs.ms([1, 8, 90], 200).tolist() == [4.0, 4.0, 4.0]


@pytest.mark.parametrize(
    "point", [CostPoint(0, 30, 1.0), CostPoint(1, -1, 1.0), CostPoint(1, 30, float("nan"))]
)
def test_a_point_that_is_none_is_refused(point):
    with pytest.raises(ValueError, match="no cost"):
        CostTable.from_points([point])


def closest_by_pooling(values):
    """Obvious and slow: average neighbours in the wrong order until there are none."""
    blocks = [[value] for value in values]
    while True:
        wrong = [
            i
            for i, (a, b) in enumerate(itertools.pairwise(blocks))
            if np.mean(a) > np.mean(b) + 1e-15
        ]
        if not wrong:
            return [float(np.mean(block)) for block in blocks for _ in block]
        blocks[wrong[0] : wrong[0] + 2] = [blocks[wrong[0]] + blocks[wrong[0] + 1]]


@pytest.mark.parametrize("seed", range(30))
def test_noise_never_lets_more_rows_cost_less(seed):
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(300, rng.integers(1, 12), replace=False)) + 1
    prefixes = rng.choice([30, 80, 200, 400], rng.integers(1, 4), replace=False)
    points = [
        CostPoint(int(r), int(p), float(1 + 0.02 * r + rng.exponential(2)))
        for p in prefixes
        for r in rows[: rng.integers(1, len(rows) + 1)]
    ]
    costs = table(points)
    for prefix in (1, 30, 55, 200, 333, 1000):
        ms = costs.ms(np.arange(1, 700), prefix)
        assert (np.diff(ms) >= -1e-9).all()
        assert (ms > 0).all()
    first = [p for p in points if p.prefix_tokens == prefixes[0]]
    assert costs.ms([p.rows for p in first], int(prefixes[0])).tolist() == pytest.approx(
        closest_by_pooling([p.ms for p in first])
    )
