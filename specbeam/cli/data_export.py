"""`specbeam data export`: a dataset as plain files."""

from pathlib import Path

import click

from specbeam.cli.output import print_json

HELP = """\
Write DATASET_DIR as interactions.csv and items.csv into OUT_DIR.

\b
interactions.csv  user_id, item_id, timestamp, split
items.csv         item_id, title, text, topics, tags, popularity, created_at
index.json        item id -> code tokens, if the items have semantic IDs

`specbeam data import OUT_DIR/interactions.csv NEW_DIR --items OUT_DIR/items.csv --repeats all`
reads them again; the split is made anew.
"""


@click.command(
    name="export",
    help=HELP,
    epilog="Example: specbeam data export shop.dataset shop-files",
)
@click.argument("dataset_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out_dir", type=click.Path(path_type=Path))
@click.option("--unix-times", is_flag=True, help="Unix milliseconds instead of ISO 8601.")
@click.option("--overwrite", is_flag=True, help="Replace OUT_DIR if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the names of the files as JSON.")
def export_command(
    dataset_dir: Path, out_dir: Path, unix_times: bool, overwrite: bool, as_json: bool
) -> None:
    """Write DATASET_DIR as plain files."""
    from specbeam.training.data.dataset_files import read_dataset
    from specbeam.training.data.export import export_dataset

    dataset = read_dataset(dataset_dir)
    files = export_dataset(dataset, out_dir, unix_times=unix_times, overwrite=overwrite)
    if as_json:
        print_json({"directory": str(out_dir), "files": files})
    else:
        click.echo(f"{out_dir}: {', '.join(files)}")
