"""`specbeam evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from specbeam.cli.output import print_json, progress_console

if TYPE_CHECKING:
    from specbeam.training.evaluation.evaluate import Evaluation

ALL_BASELINES = ("popularity", "co-occurrence", "item-knn", "sasrec")
QUICK_BASELINES = "popularity,co-occurrence,item-knn"


@click.command(
    epilog="""\b
Examples:
  specbeam evaluate beauty.bundle beauty.dataset
  specbeam evaluate beauty.bundle beauty.dataset --users 500 --beam-width 50 --json
  specbeam evaluate beauty.bundle beauty.dataset --baselines all --baselines-dir beauty.baselines
  specbeam evaluate beauty.bundle beauty.dataset --plot beauty.png --out beauty.json"""
)
@click.argument("bundle_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("dataset_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--users", type=click.IntRange(1), help="Sample this many users; all by default.")
@click.option(
    "--split",
    type=click.Choice(["test", "valid"]),
    default="test",
    show_default=True,
    help="Whose items are to be found.",
)
@click.option("--beam-width", type=click.IntRange(1), default=20, show_default=True)
@click.option(
    "--baselines",
    default=QUICK_BASELINES,
    show_default=True,
    help=f"Names from {', '.join(ALL_BASELINES)}, separated by commas; or all, or none.",
)
@click.option(
    "--sasrec-minutes",
    type=click.FloatRange(0, min_open=True),
    help="Stop training SASRec after this time at the latest; no limit by default.",
)
@click.option(
    "--baselines-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep fitted baselines here and use them again; without it they are fitted anew.",
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads; all cores by default.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write a JSON report.")
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw to this .png or .svg."
)
@click.option(
    "--save-users",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all lists and per-user values to this .npz.",
)
@click.option("--write-report", is_flag=True, help="Add the figures to the bundle's report.json.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def evaluate(
    bundle_dir: Path,
    dataset_dir: Path,
    users: int | None,
    split: str,
    beam_width: int,
    baselines: str,
    sasrec_minutes: float | None,
    baselines_dir: Path | None,
    threads: int | None,
    out: Path | None,
    plot: Path | None,
    save_users: Path | None,
    write_report: bool,
    as_json: bool,
) -> None:
    """Recall and NDCG of BUNDLE_DIR's target on the users of DATASET_DIR.

    For the test split a user's history is train + valid and the truth all test items; for the valid
    split it is train, and all valid items. Items of the history are excluded. Baselines are fitted
    on the train split, tuned and stopped by the valid split, and ranked for the same users.
    Intervals are 95 % bootstrap intervals over users.

    SASRec takes minutes to train and is left out unless asked for.
    """
    import torch

    from specbeam.bundle import load_bundle
    from specbeam.training.data.dataset_files import read_dataset
    from specbeam.training.evaluation.evaluate import run_evaluation
    from specbeam.training.evaluation.fitted import BaselineOptions
    from specbeam.training.evaluation.plot import check_plot_path
    from specbeam.training.progress import ConsoleReporter
    from specbeam.training.sasrec.config import SasRecConfig

    if plot is not None:
        check_plot_path(plot)
    if threads is not None:
        torch.set_num_threads(threads)
    with ConsoleReporter(progress_console()) as reporter:
        evaluation = run_evaluation(
            load_bundle(bundle_dir),
            read_dataset(dataset_dir),
            num_users=users,
            beam_width=beam_width,
            split="valid" if split == "valid" else "test",
            baselines=_names(baselines),
            options=BaselineOptions(SasRecConfig(minutes=sasrec_minutes), baselines_dir),
            reporter=reporter,
        )
    _write_files(evaluation, out, plot, save_users)
    if write_report:
        _add_to_bundle(evaluation, bundle_dir)
    if as_json:
        print_json(evaluation.report)
    else:
        from specbeam.cli.evaluate_tables import print_evaluation

        print_evaluation(evaluation.report)


def _names(baselines: str) -> list[str]:
    """Return the names in a value of --baselines."""
    if baselines in ("all", "none"):
        return list(ALL_BASELINES) if baselines == "all" else []
    return [name.strip() for name in baselines.split(",") if name.strip()]


def _write_files(
    evaluation: "Evaluation", out: Path | None, plot: Path | None, users: Path | None
) -> None:
    from specbeam.training.evaluation.plot import plot_evaluation
    from specbeam.training.evaluation.saving import save_users
    from specbeam.training.files import write_json

    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, evaluation.report)
    if plot is not None:
        plot_evaluation(evaluation.report, plot)
    if users is not None:
        save_users(evaluation, users)


def _add_to_bundle(evaluation: "Evaluation", bundle_dir: Path) -> None:
    from specbeam.bundle.reporting import add_to_report

    add_to_report(bundle_dir, "evaluation", evaluation.report)
