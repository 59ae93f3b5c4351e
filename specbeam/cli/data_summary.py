"""What `specbeam data` prints about a dataset."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from specbeam.cli.output import print_json, print_table
from specbeam.training.data.dataset import Dataset
from specbeam.training.data.statistics import dataset_statistics

# Times below are counters: sources without times count a user's interactions.
FIRST_REAL_TIME_MS = 86_400_000
MISSING = "-"


def print_counts(dataset: Dataset, directory: Path, as_json: bool) -> None:
    """Print how many users, items and interactions there are."""
    counts = dataset.counts()
    if as_json:
        print_json(_document(dataset, directory))
        return
    rows = [(name, f"{count:,}") for name, count in counts.items()]
    print_table(f"{dataset.name}: {directory}", ("count", ""), rows)


def print_import(dataset: Dataset, directory: Path, as_json: bool, layout_reason: str) -> None:
    """Print what was read, what was dropped, what the dataset looks like and what to run next.

    Args:
        dataset: what was written.
        directory: where to.
        as_json: print one JSON document.
        layout_reason: how the layout was chosen, empty if it was given.
    """
    statistics = dataset_statistics(dataset)
    next_command = _next_command(dataset, directory)
    if as_json:
        more = {"statistics": statistics, "import": dict(dataset.provenance), "next": next_command}
        print_json({**_document(dataset, directory), **more})
        return
    if layout_reason:
        click.echo(f"layout {dataset.provenance.get('layout', '')}: {layout_reason}")
    for line in _columns(dataset.provenance):
        click.echo(line)
    rows = [*_row_counts(dataset.provenance), *_sizes(statistics)]
    print_table(f"{dataset.name}: {directory}", ("count", ""), rows)
    columns = ("split", "interactions", "users", "items", "unseen", "first", "last")
    print_table("splits", columns, list(_splits(statistics)))
    click.echo("unseen: interactions with items that train lacks")
    ids = "have" if statistics["has_semantic_ids"] else "have no"
    click.echo(f"The items {ids} semantic IDs. Next: {next_command}")


def _document(dataset: Dataset, directory: Path) -> dict[str, Any]:
    levels = [asdict(level) for level in dataset.levels]
    return {"dataset": str(directory), "counts": dataset.counts(), "levels": levels}


def _next_command(dataset: Dataset, directory: Path) -> str:
    if dataset.has_semantic_ids:
        return f"specbeam train {directory} BUNDLE_DIR"
    return f"specbeam data semantic-ids {directory}"


def _columns(provenance: Mapping[str, Any]) -> Iterator[str]:
    """Yield how columns were recognised."""
    guessed = provenance.get("guessed_columns", ())
    found = [
        f"{role} from {column!r}" + (" (guessed)" if column in guessed else "")
        for role, column in provenance.get("columns", {}).items()
    ]
    if found:
        times = f" ({provenance['times']})" if provenance.get("times") else ""
        yield f"interactions: {', '.join(found)}{times}"
    item_columns = provenance.get("item_columns", {})
    if item_columns:
        shown = (
            f"{role} from {', '.join(column) if isinstance(column, list) else column}"
            for role, column in item_columns.items()
        )
        yield f"items: {'; '.join(shown)}"
    if provenance.get("missing_files"):
        yield f"missing: {', '.join(provenance['missing_files'])}"


def _row_counts(provenance: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the rows read and those dropped by each rule that dropped any."""
    rows: Mapping[str, int] = provenance.get("rows", {})
    for name, count in rows.items():
        if count or name in ("read", "kept"):
            label = f"rows {name}" if name in ("read", "kept") else name.replace("_", " ")
            yield label, f"{count:,}"
    for name, label in (("users", "users dropped"), ("catalogue", "items dropped")):
        sizes = list(provenance.get(name, {}).values())
        if sizes and sizes[0] > sizes[1]:
            yield label, f"{sizes[0] - sizes[1]:,}"


def _sizes(statistics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("users", "items", "interactions"):
        yield name, f"{statistics[name]:,}"
    yield "density", f"{statistics['density']:.4%}"
    lengths = statistics["per_user"].values()
    yield "per user p50 / p90 / p99 / max", " / ".join(f"{length:,}" for length in lengths)
    for name in (
        "users_without_train",
        "items_unseen_in_train",
        "items_with_text",
        "semantic_ids",
    ):
        yield name.replace("_", " "), f"{statistics[name]:,}"


def _splits(statistics: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, split in statistics["splits"].items():
        counts = (split[key] for key in ("interactions", "users", "items", "on_unseen_items"))
        times = (_day(split["first_time_ms"]), _day(split["last_time_ms"]))
        yield (name, *(f"{count:,}" for count in counts), *times)


def _day(ms: int | None) -> str:
    """Return the UTC day of a time; a counter shows nothing."""
    if ms is None or ms < FIRST_REAL_TIME_MS:
        return MISSING
    return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%d}"
