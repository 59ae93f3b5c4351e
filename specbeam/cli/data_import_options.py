"""Options of `specbeam data import`, in groups."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from specbeam.training.data.cleaning import REPEATS
from specbeam.training.data.layouts import LAYOUTS
from specbeam.training.data.splits import SPLIT_METHODS, SplitRule
from specbeam.training.data.tables.options import UNKNOWN_ITEMS

Command = Callable[..., Any]

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
COUNT = click.IntRange(min=1)

# Which layouts take an option; those not named here are for all.
OPTIONS_OF_LAYOUT: dict[str, tuple[str, ...]] = {
    "ignore_index": ("minionerec",),
    "repeats": ("table", "minionerec"),
    **dict.fromkeys(
        (
            "items",
            "index",
            "unknown_items",
            "only_seen_items",
            "keep_rare_items",
            "user_field",
            "item_field",
            "time_field",
            "rating_field",
            "items_id_field",
            "title_field",
            "text_field",
            "topics_field",
            "tag_field",
            "created_field",
            "min_rating",
            "min_user_interactions",
            "min_item_interactions",
            "split",
            "valid_share",
            "test_share",
            "valid_from",
            "test_from",
        ),
        ("table",),
    ),
}


def _group(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return one decorator that adds several options in the order given."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


common_options = _group(
    click.option("--layout", type=click.Choice(LAYOUTS), help="Layout of SOURCE; found out else."),
    click.option("--name", help="Dataset name; the source's name by default."),
    click.option("--overwrite", is_flag=True, help="Replace DATASET_DIR if it exists."),
    click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON."),
)
catalogue_options = _group(
    click.option("--items", type=FILE, help="Item metadata: CSV, TSV, JSON or Parquet."),
    click.option(
        "--index", "--ids-index", "index", type=FILE, help='Codes: {"ID": ["<a_1>", "<b_7>"]}.'
    ),
    click.option("--ignore-index", is_flag=True, help="minionerec: make no semantic IDs."),
    click.option(
        "--unknown-items",
        type=click.Choice(UNKNOWN_ITEMS),
        default="error",
        show_default=True,
        help="Interactions with items that --items lacks; kept items have their id as title.",
    ),
    click.option("--only-seen-items", is_flag=True, help="Drop items without interactions."),
    click.option(
        "--keep-rare-items", is_flag=True, help="Keep items that lost all interactions to minimums."
    ),
)
column_options = _group(
    click.option("--user-field", metavar="COLUMN", help="User ids.  [default: user_id]"),
    click.option("--item-field", metavar="COLUMN", help="Item ids.  [default: item_id]"),
    click.option("--time-field", metavar="COLUMN", help="Times.  [default: timestamp, time]"),
    click.option("--rating-field", metavar="COLUMN", help="Ratings, for --min-rating."),
    click.option("--items-id-field", metavar="COLUMN", help="Item ids in --items."),
    click.option("--title-field", metavar="COLUMN", help="Titles in --items.  [default: title]"),
    click.option(
        "--text-field",
        metavar="COLUMN",
        multiple=True,
        help="Texts in --items; repeatable.  [default: description, text, brand, categories, "
        "features]",
    ),
    click.option(
        "--topics-field",
        metavar="COLUMN",
        help="Topics in --items, lists or comma-separated.  [default: topics, categories or "
        "category]",
    ),
    click.option(
        "--tag-field",
        metavar="PREFIX=COLUMN",
        multiple=True,
        help="Tags in --items, such as brand:HP from brand=brand; repeatable.",
    ),
    click.option(
        "--created-field", metavar="COLUMN", help="Creation times.  [default: created_at]"
    ),
)
cleaning_options = _group(
    click.option("--min-rating", type=float, help="Drop interactions rated lower."),
    click.option(
        "--repeats",
        type=click.Choice(REPEATS),
        help="Which of a user's interactions with one item to keep: a recommended item is a new "
        "one, so repeats teach little.  [default: first; minionerec: all]",
    ),
    click.option(
        "--min-user-interactions",
        type=COUNT,
        default=1,
        show_default=True,
        help="Drop users with fewer, again and again until all have them.",
    ),
    click.option(
        "--min-item-interactions",
        type=COUNT,
        default=1,
        show_default=True,
        help="The same for items.",
    ),
)
split_options = _group(
    click.option(
        "--split",
        type=click.Choice(SPLIT_METHODS),
        default="leave-one-out",
        show_default=True,
        help="leave-one-out: a user's last interaction is test, the one before valid; users with "
        "fewer than 3 only train. global-time: two cuts in time for all users.",
    ),
    click.option("--valid-share", type=float, help="global-time.  [default: 0.1]"),
    click.option("--test-share", type=float, help="global-time.  [default: 0.1]"),
    click.option("--valid-from", metavar="TIME", help="global-time: first time of valid."),
    click.option("--test-from", metavar="TIME", help="global-time: first time of test."),
)


def tag_fields(values: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return prefix and column of each --tag-field.

    Raises:
        click.UsageError: one is not PREFIX=COLUMN.
    """
    pairs = [(prefix, column) for prefix, _, column in (value.partition("=") for value in values)]
    wrong = [value for value, pair in zip(values, pairs, strict=True) if not all(pair)]
    if wrong:
        raise click.UsageError(f"--tag-field {wrong[0]!r} is not PREFIX=COLUMN, as in brand=brand")
    return tuple(pairs)


def split_rule(options: Mapping[str, Any]) -> SplitRule:
    """Return the split that the options ask for.

    Raises:
        click.UsageError: they contradict each other.
    """
    shares = (options["valid_share"], options["test_share"])
    cuts = (options["valid_from"], options["test_from"])
    given = [value for value in (*shares, *cuts) if value is not None]
    if options["split"] != "global-time" and given:
        raise click.UsageError("shares and times of the parts need --split global-time")
    if any(cuts) and not all(cuts):
        raise click.UsageError("--valid-from and --test-from are given together")
    if any(cuts) and any(share is not None for share in shares):
        raise click.UsageError("give either shares or times of the parts")
    valid_share, test_share = (0.1 if share is None else share for share in shares)
    try:
        times = _times(cuts) if all(cuts) else None
        return SplitRule(options["split"], valid_share, test_share, times)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _times(cuts: tuple[str, str]) -> tuple[int, int]:
    from specbeam.training.data.tables.times import parse_time

    return parse_time(cuts[0]), parse_time(cuts[1])
