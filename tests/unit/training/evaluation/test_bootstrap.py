import numpy as np
import pytest

from specbeam.training.evaluation import bootstrap
from specbeam.training.evaluation.bootstrap import intervals, resampled_means
from specbeam.training.evaluation.comparison import compare
from specbeam.training.evaluation.values import GROUPS, METRICS


def obvious_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(values), size=(resamples, len(values)))
    return np.array([values[users].mean(axis=0) for users in draws])


def test_resampled_means_are_those_of_drawn_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "BLOCK_NUMBERS", 100)
    values = np.random.default_rng(1).random((30, 4))
    found = resampled_means(values, resamples=50, seed=7)
    assert found == pytest.approx(obvious_means(values, 50, 7))


def test_the_interval_of_a_mean_is_close_to_the_normal_one() -> None:
    values = np.random.default_rng(2).normal(5.0, 2.0, (400, 1))
    (interval,) = intervals(values, resampled_means(values))
    half = 1.96 * values.std() / 20
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.02)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.02)


def metric_values(column: np.ndarray, missing: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    known = dict.fromkeys(METRICS, column)
    gaps = {metric: np.where(missing, np.nan, column) for metric in METRICS}
    nobody = {metric: np.full(len(column), np.nan) for metric in METRICS}
    return dict(zip(GROUPS, (known, gaps, nobody), strict=True))


def test_differences_are_paired_and_groups_count_their_own_users() -> None:
    rng = np.random.default_rng(3)
    noise, missing = rng.random(200), rng.random(200) < 0.3
    values = {
        "target": metric_values(noise + 0.01, missing),
        "weaker": metric_values(noise, missing),
        "other": metric_values(rng.permutation(noise), missing),
    }
    results, differences = compare(values, "target", resamples=500)
    gain = differences["weaker"]["all"]["ndcg@10"]
    # Every user gains the same, so nothing is uncertain, however wide the means' own intervals.
    assert (gain["low"], gain["high"]) == pytest.approx((0.01, 0.01))
    assert not gain["contains_zero"]
    assert differences["other"]["all"]["ndcg@10"]["contains_zero"]
    own = results["target"]["all"]["ndcg@10"]
    assert own["high"] - own["low"] > 0.05
    assert set(differences) == {"weaker", "other"}
    assert results["other"]["seen"]["users"] == int((~missing).sum())
    expected = values["other"]["seen"]["recall@5"]
    assert results["other"]["seen"]["recall@5"]["mean"] == pytest.approx(np.nanmean(expected))
    assert results["target"]["unseen"] == {"users": 0}
