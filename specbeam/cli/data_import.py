"""`specbeam data import`: datasets from interaction logs and published layouts."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from specbeam.cli.data_import_options import (
    OPTIONS_OF_LAYOUT,
    catalogue_options,
    cleaning_options,
    column_options,
    common_options,
    split_options,
    split_rule,
    tag_fields,
)
from specbeam.cli.data_summary import print_import
from specbeam.training.data.dataset import Dataset
from specbeam.training.data.layouts import Layout, detect_layout

HELP = """\
Import SOURCE as DATASET_DIR.

SOURCE is a file of interactions, or a folder in a published layout. Every problem of the input
is reported at once, with line numbers, and then nothing is written.

\b
table       a file of users, items and times: CSV, TSV, JSON lines or Parquet (.gz too);
            --items adds titles, texts, topics and tags, --index semantic IDs
atspeed     sequential_{train,valid,test}.txt and one *.json with the item codes
minionerec  NAME.index.json, NAME.item.json, info.txt, {train,valid,test}.csv

Users, items and times are found in columns of the usual names (user_id, item_id, timestamp
and common synonyms). Times are Unix seconds, Unix milliseconds or ISO 8601, UTC where they
name no zone. Within a user, interactions are sorted by time, equal times as in the file.

Interactions are dropped in this order: unknown items, --min-rating, exact duplicates,
--repeats, --min-user-interactions and --min-item-interactions together.
"""
EPILOG = """\b
Examples:
  specbeam data import clicks.csv shop.dataset
  specbeam data import ratings.parquet shop.dataset --items items.jsonl --min-rating 4 \\
      --min-user-interactions 5 --min-item-interactions 5
  specbeam data import log.csv.gz shop.dataset --split global-time --test-from 2024-05-01 \\
      --valid-from 2024-04-01
  specbeam data import downloads/beauty beauty.dataset
"""


@click.command(name="import", help=HELP, epilog=EPILOG)
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("dataset_dir", type=click.Path(path_type=Path))
@common_options
@catalogue_options
@column_options
@cleaning_options
@split_options
@click.pass_context
def import_command(
    context: click.Context,
    /,
    source: Path,
    dataset_dir: Path,
    layout: Layout | None,
    name: str | None,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Import SOURCE as DATASET_DIR and print what became of it."""
    from specbeam.training.data.dataset_files import write_dataset

    reason = ""
    if layout is None:
        layout, reason = detect_layout(source)
    _refuse_other_options(context, layout)
    if layout == "table" and source.is_dir():
        raise click.UsageError("layout table reads a file of interactions, SOURCE is a folder")
    if layout != "table" and source.is_file():
        raise click.UsageError(f"layout {layout} reads a folder, SOURCE is a file")
    dataset = _import(layout, source, name, options)
    write_dataset(dataset, dataset_dir, overwrite=overwrite)
    print_import(dataset, dataset_dir, as_json, reason)


def _refuse_other_options(context: click.Context, layout: Layout) -> None:
    """Refuse options that the layout would ignore."""
    flags = {
        parameter.name: parameter.opts[-1]
        for parameter in context.command.params
        if isinstance(parameter, click.Option)
    }
    ignored = [
        flags[name]
        for name, layouts in OPTIONS_OF_LAYOUT.items()
        if layout not in layouts
        and context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if ignored:
        raise click.UsageError(f"layout {layout} does not take {', '.join(ignored)}")


def _import(layout: Layout, source: Path, name: str | None, options: dict[str, Any]) -> Dataset:
    if layout == "atspeed":
        from specbeam.training.data.atspeed import import_atspeed

        return import_atspeed(source, name=name)
    if layout == "minionerec":
        from specbeam.training.data.minionerec import import_minionerec

        return import_minionerec(
            source,
            name=name,
            ignore_index=options["ignore_index"],
            repeats=options["repeats"] or "all",
        )
    return _import_table(source, name, options)


def _import_table(source: Path, name: str | None, options: dict[str, Any]) -> Dataset:
    from specbeam.training.data.cleaning import Cleaning
    from specbeam.training.data.tables.importing import import_table
    from specbeam.training.data.tables.options import ItemFields, LogFields, TableImport

    request = TableImport(
        interactions=source,
        items=options["items"],
        index=options["index"],
        log_fields=LogFields(
            options["user_field"],
            options["item_field"],
            options["time_field"],
            options["rating_field"],
        ),
        item_fields=ItemFields(
            options["items_id_field"],
            options["title_field"],
            options["text_field"],
            options["topics_field"],
            options["created_field"],
            tag_fields(options["tag_field"]),
        ),
        unknown_items=options["unknown_items"],
        only_seen_items=options["only_seen_items"],
        keep_rare_items=options["keep_rare_items"],
        cleaning=Cleaning(
            options["min_rating"],
            options["repeats"] or "first",
            options["min_user_interactions"],
            options["min_item_interactions"],
        ),
        split=split_rule(options),
        name=name,
    )
    return import_table(request)
