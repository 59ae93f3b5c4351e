"""Prompt templates: the window, rendering, the longest prompt, the file."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from specbeam.bundle import FixedSegment, HistorySegment, PromptTemplate, Window
from specbeam.bundle.summary import describe_prompt
from specbeam.catalog import pad_paths

END = 2


def test_window_moves_once_per_stride() -> None:
    window = Window(max_items=50, stride=10)
    starts = [window.start(length) for length in range(120)]
    assert starts[:51] == [0] * 51
    assert all(length - start <= 50 for length, start in enumerate(starts))
    assert all(length - start > 40 for length, start in enumerate(starts) if length > 50)
    assert {b - a for a, b in pairwise(starts)} == {0, 10}
    with pytest.raises(ValueError, match="stride"):
        Window(max_items=5, stride=6)


def test_prompt_of_codes_starts_with_bos_and_keeps_its_prefix() -> None:
    template = PromptTemplate.of_codes((1,), suffix=(7,))
    paths = np.arange(12).reshape(3, 4) + 3
    assert template.render(paths[:0]).tolist() == [1, 7]
    shorter, longer = template.render(paths[:2]), template.render(paths)
    assert longer[: len(shorter) - 1].tolist() == shorter[:-1].tolist()
    assert PromptTemplate.from_json(template.to_json()) == template
    assert PromptTemplate.of_codes().fingerprint != template.fingerprint
    assert (template.prefix, template.suffix, template.window) == ((1,), (7,), Window())


def text_template(**history: object) -> PromptTemplate:
    return PromptTemplate(
        (FixedSegment((1,)), FixedSegment((20, 21), "Items: ")),
        HistorySegment(
            Window(max_items=3, stride=2), separator=(30, 31), separator_text=", ", **history
        ),  # type: ignore[arg-type]
        (FixedSegment((22,), "\nNext:"),),
    )


def test_segments_stand_in_their_order_and_padding_is_dropped() -> None:
    template = text_template()
    paths = pad_paths([[40, 41, 42], [43], [44, 45]])
    expected = [1, 20, 21, 40, 41, 42, 30, 31, 43, 30, 31, 44, 45, 22]
    assert template.render(paths).tolist() == expected
    assert template.render(paths).dtype == np.int32
    assert template.render(paths[:0]).tolist() == [1, 20, 21, 22]
    assert template.render(paths[1:2]).tolist() == [1, 20, 21, 43, 22]


def test_end_tokens_are_shown_or_left_out() -> None:
    paths = pad_paths([[40, 41], [END, 43]], [END])
    shown = text_template(end_tokens=(END,), keep_end_tokens=True)
    assert shown.render(paths).tolist() == [1, 20, 21, 40, 41, END, 30, 31, END, 43, END, 22]
    hidden = text_template(end_tokens=(END,), keep_end_tokens=False)
    # Only the last token of an item is its end.
    assert hidden.render(paths).tolist() == [1, 20, 21, 40, 41, 30, 31, END, 43, 22]


def test_an_ending_of_two_tokens_is_left_out_whole_or_not_at_all() -> None:
    template = text_template(end_tokens=(50, END), keep_end_tokens=False)
    paths = pad_paths([[40, 41], [42], [43, 44, 45]], [50, END])
    expected = [1, 20, 21, 40, 41, 30, 31, 42, 30, 31, 43, 44, 45, 22]
    assert template.render(paths).tolist() == expected
    # An item that has only a part of it, or is too short for it, is shown as it is.
    other = pad_paths([[40, 50], [50, 41], [END]])
    assert template.render(other).tolist() == [1, 20, 21, 40, 50, 30, 31, 50, 41, 30, 31, END, 22]


@pytest.mark.parametrize("length", range(12))
def test_no_prompt_is_longer_than_the_longest(length: int) -> None:
    rng = np.random.default_rng(length)
    template = text_template()
    paths = [[40] * int(n) for n in rng.integers(1, 5, size=length)]
    longest = template.max_tokens(4)
    assert len(template.render(pad_paths([*paths, [1] * 4])[:-1])) <= longest
    full = template.render(pad_paths([[40] * 4] * 3))
    assert len(full) == longest == 1 + 2 + 3 * 4 + 2 * 2 + 1


def test_a_template_survives_its_file() -> None:
    template = text_template(end_tokens=(END,), keep_end_tokens=False)
    assert PromptTemplate.from_json(template.to_json()) == template
    document = json.loads(template.to_json())
    assert [segment["type"] for segment in document["segments"]] == [
        "tokens",
        "text",
        "history",
        "text",
    ]
    assert document["segments"][2]["separator"] == [30, 31]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d | {"version": 1}, "version 1"),
        (lambda d: d | {"segments": d["segments"][:2]}, "0 history segments"),
        (lambda d: d | {"segments": [d["segments"][2]] * 2}, "2 history segments"),
        (lambda d: d | {"segments": [d["segments"][2]]}, "at least one token"),
        (lambda d: d | {"segments": [{"type": "image"}]}, "unknown segment type"),
        (lambda d: d | {"segments": [{"type": "tokens", "ids": [-1]}]}, "not vocabulary ids"),
        (lambda d: d | {"segments": [{"type": "tokens", "ids": ["a"]}]}, "not vocabulary ids"),
        (lambda d: d | {"segments": 7}, "version 3"),
        (lambda d: [d], "version 3"),
    ],
)
def test_a_wrong_template_is_refused(change, message: str) -> None:
    document = json.loads(text_template().to_json())
    with pytest.raises(ValueError, match=message):
        PromptTemplate.from_json(json.dumps(change(document)))


def test_a_template_can_be_read_by_people() -> None:
    text = describe_prompt(text_template(end_tokens=(END,), keep_end_tokens=False))
    assert text == (
        '[1] "Items: " {history: the last 3 items with ", " between, end token left out} "\\nNext:"'
    )
