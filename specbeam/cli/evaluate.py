"""`specbeam evaluate`."""

from pathlib import Path
from typing import Any

import click
from rich.progress import Progress

from specbeam.cli.output import print_json, print_table, progress_console

METRICS = ("recall@5", "recall@10", "recall@20", "ndcg@5", "ndcg@10", "ndcg@20")
GROUP_TITLES = {
    "all": "all test items",
    "seen": "test items that occur in the train split",
    "unseen": "test items that do not",
}


@click.command(
    epilog="""\b
Examples:
  specbeam evaluate beauty.bundle beauty.dataset
  specbeam evaluate beauty.bundle beauty.dataset --users 500 --beam-width 50 --json"""
)
@click.argument("bundle_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("dataset_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--users", type=click.IntRange(1), help="Sample this many test users; all by default."
)
@click.option("--beam-width", type=click.IntRange(1), default=20, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="CPU threads; all cores by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def evaluate(
    bundle_dir: Path,
    dataset_dir: Path,
    users: int | None,
    beam_width: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Recall and NDCG of BUNDLE_DIR's target on the test users of DATASET_DIR.

    A user's history is train + valid, the truth all test items; items of the history are excluded.
    Popularity and item co-occurrence are ranked for the same users.
    """
    import torch

    from specbeam.bundle import load_bundle
    from specbeam.training.data.dataset_files import read_dataset
    from specbeam.training.evaluation.evaluate import evaluate_bundle

    if threads is not None:
        torch.set_num_threads(threads)
    console = progress_console()
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("evaluating", total=1.0)
        report = evaluate_bundle(
            load_bundle(bundle_dir),
            read_dataset(dataset_dir),
            num_users=users,
            beam_width=beam_width,
            on_progress=lambda share: progress.update(task, completed=share),
        )
    if as_json:
        print_json(report)
        return
    for group, title in GROUP_TITLES.items():
        _print_group(report, group, title)


def _print_group(report: dict[str, Any], group: str, title: str) -> None:
    results = {name: numbers[group] for name, numbers in report["results"].items()}
    users = next(iter(results.values()))["users"]
    if not users:
        return
    rows = [
        (name, *(f"{numbers[metric]['mean']:.4f}" for metric in METRICS))
        for name, numbers in results.items()
    ]
    print_table(f"{report['bundle']}: {title}, {users:,} users", ("", *METRICS), rows)
