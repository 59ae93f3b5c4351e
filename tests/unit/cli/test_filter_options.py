"""Which items `specbeam recommend` asks for."""

import click
import pytest

from specbeam.cli.filter_options import Filters, read_filters

NONE = {
    "include_history": False,
    "exclude": (),
    "allow": (),
    "allow_file": None,
    "require_tag": (),
    "created_after": None,
}


def read(**options):
    return read_filters({**NONE, **options})


def test_nothing_given_filters_nothing():
    assert read() == Filters(None, (), None, (), None)
    assert read(include_history=True).exclude_history is False


def test_other_options_are_left_alone():
    options = {**NONE, "bundle": "b"}
    read_filters(options)
    assert options == {"bundle": "b"}


def test_tags_are_clauses_of_alternatives():
    assert read(require_tag=("new", "red | blue")).required_tags == (("new",), ("red", "blue"))
    for text in ("", "a|", "a||b"):
        with pytest.raises(click.BadParameter, match="empty tag"):
            read(require_tag=(text,))


def test_allowed_items_come_from_flags_and_a_file(tmp_path):
    file = tmp_path / "items.txt"
    file.write_text("item-1\n\n  item-2  \n")
    assert read(allow=("a",)).allow_item_ids == ("a",)
    assert read(allow=("a",), allow_file=file).allow_item_ids == ("a", "item-1", "item-2")
    file.write_text("\n")
    assert read(allow=("a",), allow_file=file).allow_item_ids == ("a",)
    with pytest.raises(click.BadParameter, match="names no item"):
        read(allow_file=file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not a text file"):
        read(allow_file=file)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("0", 0),
        ("1767225600000", 1_767_225_600_000),
        ("2026-01-01", 1_767_225_600_000),
        ("2026-01-01T01:00:00+01:00", 1_767_225_600_000),
        ("2026-01-01T00:00:00.0005Z", 1_767_225_600_001),
    ],
)
def test_times_are_iso_or_milliseconds(text, milliseconds):
    assert read(created_after=text).created_after_ms == milliseconds


@pytest.mark.parametrize("text", ["yesterday", "-5", "2026-13-01", ""])
def test_a_time_that_is_none_is_refused(text):
    with pytest.raises(click.BadParameter, match="neither"):
        read(created_after=text)
