"""The tables of `specbeam evaluate`."""

from typing import Any

from specbeam.cli.output import print_table

MAIN_METRICS = ("recall@10", "recall@20", "ndcg@10")
ALL_METRICS = ("recall@5", "recall@10", "recall@20", "ndcg@5", "ndcg@10", "ndcg@20")
GROUP_TITLES = {
    "seen": "items that occur in the train split",
    "unseen": "items that do not",
}
LIST_COLUMNS = {
    "coverage@10": "coverage@10",
    "coverage@20": "coverage@20",
    "popularity_percentile@10": "popularity@10",
    "popularity_percentile@20": "popularity@20",
    "short_lists@10": "lists < 10",
    "short_lists@20": "lists < 20",
}


def print_evaluation(report: dict[str, Any]) -> None:
    """Print means, paired differences, seen and unseen items, and what the lists are like."""
    title = f"{report['bundle']} on {report['dataset']}, {report['split']} split"
    _print_means(report, title)
    if report["differences"]:
        _print_differences(report)
    for group, name in GROUP_TITLES.items():
        _print_group(report, group, name)
    rows = [
        (name, *(f"{figures[key]:.1%}" for key in LIST_COLUMNS))
        for name, figures in report["lists"].items()
    ]
    print_table(
        "share of the catalogue recommended, mean popularity percentile, users with short lists",
        ("", *LIST_COLUMNS.values()),
        rows,
    )


def _print_means(report: dict[str, Any], title: str) -> None:
    rows = [
        (name, *(_interval(groups["all"][metric]) for metric in MAIN_METRICS))
        for name, groups in report["results"].items()
    ]
    print_table(
        f"{title}: {report['users']:,} users, mean [95 % interval]", ("", *MAIN_METRICS), rows
    )


def _print_differences(report: dict[str, Any]) -> None:
    rows = [
        (name, *(_difference(groups["all"][metric]) for metric in MAIN_METRICS))
        for name, groups in report["differences"].items()
    ]
    print_table(
        "target minus baseline, paired by user; = marks intervals that contain 0",
        ("target minus", *MAIN_METRICS),
        rows,
    )


def _print_group(report: dict[str, Any], group: str, name: str) -> None:
    results = {ranker: groups[group] for ranker, groups in report["results"].items()}
    users = next(iter(results.values()))["users"]
    if not users:
        return
    rows = [
        (ranker, *(f"{numbers[metric]['mean']:.4f}" for metric in ALL_METRICS))
        for ranker, numbers in results.items()
    ]
    print_table(f"only {name}: {users:,} users", ("", *ALL_METRICS), rows)


def _interval(entry: dict[str, float]) -> str:
    return f"{entry['mean']:.4f} [{entry['low']:.4f}, {entry['high']:.4f}]"


def _difference(entry: dict[str, float]) -> str:
    mark = "=" if entry["contains_zero"] else " "
    return f"{entry['mean']:+.4f} [{entry['low']:+.4f}, {entry['high']:+.4f}]{mark}"
