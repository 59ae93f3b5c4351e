"""`specbeam bundle add-drafter` and `specbeam bundle remove-drafter`."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from specbeam.cli import exit_codes
from specbeam.cli.output import print_json, print_table, progress_console

if TYPE_CHECKING:
    from specbeam.bundle import Bundle
    from specbeam.training.data.dataset import Dataset
    from specbeam.training.progress import Reporter

    # Writes a drafter's files to an empty folder and returns figures for the bundle's report.
    Builder = Callable[[Bundle, Dataset, Path, Reporter], Mapping[str, Any]]

# Kind of drafter -> module:function that builds one.
KINDS: dict[str, str] = {
    "cooccurrence": "specbeam.training.drafters.cooccurrence:add_to_bundle",
    "head": "specbeam.training.head.fitting:add_to_bundle",
}
BUNDLE = click.Path(exists=True, file_okay=False, path_type=Path)
OUT = click.Path(path_type=Path)


@click.command(
    name="add-drafter",
    epilog="""\b
Examples:
  specbeam bundle add-drafter beauty.bundle --kind cooccurrence --dataset beauty.dataset
  specbeam bundle add-drafter shop.bundle --kind cooccurrence --dataset shop.dataset \\
      --name neighbours --out shop-b.bundle --json

A drafter of the same name and kind is replaced.  Target, prompt and catalogue keep their
fingerprints: stored histories and states stay valid.""",
)
@click.argument("bundle_dir", metavar="BUNDLE", type=BUNDLE)
@click.option("--kind", required=True, type=click.Choice(sorted(KINDS)), help="What to build.")
@click.option(
    "--dataset", "dataset_dir", required=True, type=BUNDLE, help="Whose train split is used."
)
@click.option("--name", help="Name in the bundle.  [default: the kind]")
@click.option("--out", type=OUT, help="Write another bundle; BUNDLE stays as it is.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def add_drafter(
    bundle_dir: Path,
    kind: str,
    dataset_dir: Path,
    name: str | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Build a drafter from the train split of a dataset and add it to BUNDLE."""
    from specbeam.bundle import load_bundle
    from specbeam.bundle.rewriting import check_drafter, with_drafter
    from specbeam.training.data.dataset_files import read_dataset
    from specbeam.training.loop import StopRequested
    from specbeam.training.progress import ConsoleReporter

    name = name or kind
    bundle = load_bundle(bundle_dir)
    check_drafter(bundle, out or bundle_dir, name, kind)
    with (
        ConsoleReporter(progress_console()) as reporter,
        tempfile.TemporaryDirectory(prefix="specbeam-drafter-") as scratch,
    ):
        directory = Path(scratch) / name
        try:
            figures = _builder(kind)(bundle, read_dataset(dataset_dir), directory, reporter)
        except StopRequested:
            reporter.note(f"stopped; {bundle_dir} is as it was")
            return exit_codes.INTERRUPTED
        added = with_drafter(bundle, out or bundle_dir, name, directory, figures)
    result = {"bundle": str(added.path), "drafter": name, "kind": kind, **figures}
    if as_json:
        print_json(result)
    else:
        rows = [(key, _shown(value)) for key, value in figures.items()]
        print_table(f"drafter {name} added: {added.path}", ("", ""), rows)
    return exit_codes.OK


@click.command(
    name="remove-drafter", epilog="Example: specbeam bundle remove-drafter beauty.bundle default"
)
@click.argument("bundle_dir", metavar="BUNDLE", type=BUNDLE)
@click.argument("name")
@click.option("--out", type=OUT, help="Write another bundle; BUNDLE stays as it is.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def remove_drafter(bundle_dir: Path, name: str, out: Path | None, as_json: bool) -> int:
    """Take the drafter NAME out of BUNDLE."""
    from specbeam.bundle import load_bundle
    from specbeam.bundle.rewriting import without_drafter

    left = without_drafter(load_bundle(bundle_dir), out or bundle_dir, name)
    if as_json:
        print_json({"bundle": str(left.path), "drafters": list(left.manifest.drafters)})
    else:
        click.echo(f"{left.path}: drafters {', '.join(left.manifest.drafters) or 'none'}")
    return exit_codes.OK


def _builder(kind: str) -> Builder:
    module, _, function = KINDS[kind].partition(":")
    builder: Builder = getattr(importlib.import_module(module), function)
    return builder


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)
