"""Means with intervals per ranker, and paired differences between target and baselines."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from specbeam.training.evaluation.bootstrap import RESAMPLES, Interval, intervals, resampled_means
from specbeam.training.evaluation.values import GROUPS, METRICS, UserValues

# Results or differences by ranker and group: "users" and an entry per metric.
Summary = dict[str, dict[str, dict[str, Any]]]


def compare(
    values: Mapping[str, UserValues], reference: str, *, resamples: int = RESAMPLES
) -> tuple[Summary, Summary]:
    """Summarise all rankers over the same users.

    Args:
        values: per-user values of each ranker.
        reference: the ranker the others are compared with.
        resamples: of the bootstrap.

    Returns:
        Per ranker and group, the number of users and per metric mean, low and high; and the same
        for the reference minus each other ranker, with "contains_zero" besides.  A group without
        users has no metrics.
    """
    results: Summary = {name: {} for name in values}
    differences: Summary = {name: {} for name in values if name != reference}
    for group in GROUPS:
        summaries, paired, users = _group(values, reference, group, resamples)
        for name in results:
            results[name][group] = {"users": users, **summaries.get(name, {})}
        for name in differences:
            differences[name][group] = {"users": users, **paired.get(name, {})}
    return results, differences


def _group(
    values: Mapping[str, UserValues], reference: str, group: str, resamples: int
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]], int]:
    """Return summaries and differences by ranker, and the number of users of one group."""
    counted = ~np.isnan(values[reference][group][METRICS[0]])
    users = int(counted.sum())
    if not users:
        return {}, {}, 0
    columns = {
        name: np.stack([groups[group][metric][counted] for metric in METRICS], axis=1)
        for name, groups in values.items()
    }
    drawn = resampled_means(np.concatenate(list(columns.values()), axis=1), resamples=resamples)
    means = dict(zip(columns, np.split(drawn, len(columns), axis=1), strict=True))
    summaries = {
        name: _entries(intervals(columns[name], means[name]), paired=False) for name in columns
    }
    paired = {
        name: _entries(
            intervals(columns[reference] - columns[name], means[reference] - means[name]),
            paired=True,
        )
        for name in columns
        if name != reference
    }
    return summaries, paired, users


def _entries(found: list[Interval], *, paired: bool) -> dict[str, Any]:
    entries = {metric: one.to_dict() for metric, one in zip(METRICS, found, strict=True)}
    if paired:
        for metric, one in zip(METRICS, found, strict=True):
            entries[metric]["contains_zero"] = one.contains_zero
    return entries
