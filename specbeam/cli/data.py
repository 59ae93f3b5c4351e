"""`specbeam data`: make dataset directories and write them back as plain files."""

from pathlib import Path

import click

from specbeam.cli.data_export import export_command
from specbeam.cli.data_import import import_command
from specbeam.cli.data_semantic_ids import semantic_ids
from specbeam.cli.data_summary import print_counts


@click.group(help="Import, generate or export a dataset directory, the input of `specbeam train`.")
def data() -> None:
    """Group of the data commands."""


data.add_command(import_command)
data.add_command(semantic_ids)
data.add_command(export_command)


@data.command(
    epilog="""\b
Examples:
  specbeam data synthesize demo.dataset --items 2000 --users 1500
  specbeam data synthesize big.dataset --shape wide --items 1000000 --users 40000"""
)
@click.argument("dataset_dir", type=click.Path(path_type=Path))
@click.option("--items", default=2000, show_default=True, help="Items in the catalogue.")
@click.option("--users", default=1500, show_default=True, help="Users.")
@click.option("--mean-length", default=11.0, show_default=True, help="Mean interactions per user.")
@click.option(
    "--shape",
    type=click.Choice(("topics", "wide")),
    default="topics",
    show_default=True,
    help="Readable topics and titles, or any number of items with 256 codes on each of 4 levels.",
)
@click.option("--seed", default=0, show_default=True, help="Same seed, same dataset.")
@click.option("--overwrite", is_flag=True, help="Replace DATASET_DIR if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
def synthesize(
    dataset_dir: Path,
    items: int,
    users: int,
    mean_length: float,
    shape: str,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Generate DATASET_DIR: topics, Zipf popularity and sequences a model can learn."""
    from specbeam.training.data.dataset_files import write_dataset
    from specbeam.training.data.synthetic import SyntheticConfig
    from specbeam.training.data.synthetic import synthesize as generate
    from specbeam.training.data.synthetic_wide import WideConfig, synthesize_wide

    if shape == "wide":
        dataset = synthesize_wide(WideConfig(items, users, mean_length, seed=seed))
    else:
        dataset = generate(SyntheticConfig(items, users, mean_length, seed))
    write_dataset(dataset, dataset_dir, overwrite=overwrite)
    print_counts(dataset, dataset_dir, as_json)
