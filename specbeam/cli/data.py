"""`specbeam data`: make dataset directories."""

import dataclasses
from pathlib import Path

import click

from specbeam.cli.data_semantic_ids import semantic_ids
from specbeam.cli.output import print_json, print_table
from specbeam.training.data.dataset import Dataset

LAYOUTS = ("atspeed",)


@click.group(help="Import or generate a dataset directory, the input of `specbeam train`.")
def data() -> None:
    """Group of the data commands."""


@data.command(
    name="import",
    epilog="Example: specbeam data import --layout atspeed downloads/beauty beauty.dataset",
)
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("dataset_dir", type=click.Path(path_type=Path))
@click.option("--layout", type=click.Choice(LAYOUTS), required=True, help="Layout of SOURCE.")
@click.option("--name", help="Dataset name; the folder's name by default.")
@click.option("--overwrite", is_flag=True, help="Replace DATASET_DIR if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
def import_command(
    source: Path, dataset_dir: Path, layout: str, name: str | None, overwrite: bool, as_json: bool
) -> None:
    r"""Import the files in SOURCE as DATASET_DIR.

    Every problem of the input is reported at once, and nothing is written if there is one.

    \b
    Layout atspeed: sequential_{train,valid,test}.txt and one *.json with the item codes.
    """
    from specbeam.training.data.atspeed import import_atspeed
    from specbeam.training.data.dataset_files import write_dataset

    assert layout in LAYOUTS
    dataset = import_atspeed(source, name=name)
    write_dataset(dataset, dataset_dir, overwrite=overwrite)
    _report(dataset, dataset_dir, as_json)


@data.command(epilog="Example: specbeam data synthesize demo.dataset --items 2000 --users 1500")
@click.argument("dataset_dir", type=click.Path(path_type=Path))
@click.option("--items", default=2000, show_default=True, help="Items in the catalogue.")
@click.option("--users", default=1500, show_default=True, help="Users.")
@click.option("--mean-length", default=11.0, show_default=True, help="Mean interactions per user.")
@click.option("--seed", default=0, show_default=True, help="Same seed, same dataset.")
@click.option("--overwrite", is_flag=True, help="Replace DATASET_DIR if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
def synthesize(
    dataset_dir: Path,
    items: int,
    users: int,
    mean_length: float,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Generate DATASET_DIR: topics, Zipf popularity and sequences a model can learn."""
    from specbeam.training.data.dataset_files import write_dataset
    from specbeam.training.data.synthetic import SyntheticConfig
    from specbeam.training.data.synthetic import synthesize as generate

    dataset = generate(SyntheticConfig(items, users, mean_length, seed))
    write_dataset(dataset, dataset_dir, overwrite=overwrite)
    _report(dataset, dataset_dir, as_json)


def _report(dataset: Dataset, directory: Path, as_json: bool) -> None:
    counts = dataset.counts()
    if as_json:
        levels = [dataclasses.asdict(level) for level in dataset.levels]
        print_json({"dataset": str(directory), "counts": counts, "levels": levels})
        return
    rows = [(name, f"{count:,}") for name, count in counts.items()]
    print_table(f"{dataset.name}: {directory}", ("count", ""), rows)


data.add_command(semantic_ids)
