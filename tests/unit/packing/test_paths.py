"""Token paths from an index or from titles."""

from __future__ import annotations

import pytest

from specbeam.bundle import BundleError
from specbeam.packing.errors import SHOWN_PROBLEMS, PackError
from specbeam.packing.paths import (
    ItemPaths,
    common_end,
    find_end_token,
    index_paths,
    length_problems,
    title_paths,
    without_end,
)
from specbeam.packing.vocabulary import Vocabulary


def rows(**tokens: object) -> dict[str, dict[str, object]]:
    return {item_id: {"tokens": value} for item_id, value in tokens.items()}


def test_names_become_single_ids(qwen: Vocabulary) -> None:
    items = index_paths(rows(x=["<a_1>", "<b_2>"], y=["<a_1>", "<c_0>"]), qwen, [])
    assert items.item_ids == ("x", "y")
    assert items.paths[0] == (qwen.ids["<a_1>"], qwen.ids["<b_2>"])
    assert items.texts == ("<a_1><b_2>", "<a_1><c_0>")


def test_ids_need_no_tokenizer() -> None:
    items = index_paths(rows(x=[5, 6], y=[5, 7]), None, [])
    assert items == ItemPaths(("x", "y"), ((5, 6), (5, 7)), None)
    problems: list[str] = []
    index_paths(rows(x=["<a_1>"]), None, problems)
    assert "need a tokenizer" in problems[0]


def test_every_problem_of_an_index_is_named(qwen: Vocabulary) -> None:
    broken = rows(
        p=["<a_99>", "<b_1>"],
        q=["<a_99>", "<b_77>"],
        r="<a_1>",
        s=[],
        t=["<a_1>", 4],
        u=[-1],
        v=["<a_1>", "<b_1>"],
    )
    problems: list[str] = []
    index_paths(broken, qwen, problems)
    text = str(PackError("index.json", problems))
    assert text.startswith("index.json: 6 problems")
    assert "token '<a_99>' (item 'p' and 1 more) is not in the tokenizer's vocabulary" in text
    assert "token '<b_77>' (item 'q')" in text
    assert "it becomes" in text
    for item_id in "rstu":
        assert f"item '{item_id}'" in text


def test_a_long_list_of_problems_is_cut_in_the_message_only() -> None:
    error = PackError("index.json", [f"problem {n}" for n in range(50)])
    assert len(error.problems) == 50
    assert len(str(error).splitlines()) == SHOWN_PROBLEMS + 2
    assert str(error).endswith("... and 30 more")


def test_titles_are_tokenised_and_cut(llama: Vocabulary) -> None:
    titles = {"x": {"title": " the red kettle "}, "y": {"title": "the blue lamp"}}
    options = {"field": "title", "pattern": '"{title}"'}
    items = title_paths(titles, llama, [], **options, max_tokens=30)
    assert items.texts == ('"the red kettle"', '"the blue lamp"')
    assert list(items.paths[0]) == llama.encode('"the red kettle"')
    assert items.cut == 0
    short = title_paths(titles, llama, [], **options, max_tokens=2)
    assert [len(path) for path in short.paths] == [2, 2]
    assert short.paths[0] == items.paths[0][:2]
    assert short.cut == 2


def test_titles_are_read_where_the_model_writes_them(llama: Vocabulary, qwen: Vocabulary) -> None:
    titles = {"x": {"title": "<the red kettle>"}}
    options = {"field": "title", "pattern": "{title}", "max_tokens": 30}
    (alone,) = title_paths(titles, llama, [], **options).paths
    (behind,) = title_paths(titles, llama, [], **options, context="\nNext:").paths
    assert alone == (llama.ids["▁"], *behind)
    assert llama.encode("\nNext:<the red kettle>") == [*llama.encode("\nNext:"), *behind]
    # Where the words melt there is no such reading: "lamp" becomes one token with the space.
    titles = {"x": {"title": "lamp"}}
    (path,) = title_paths(titles, qwen, [], **options, context="the blue ").paths
    assert list(path) == qwen.encode("lamp")


def test_items_without_title_are_named(llama: Vocabulary) -> None:
    titles = {"x": {"title": " "}, "y": {}, "z": {"title": 3}, "good": {"title": "lamp"}}
    problems: list[str] = []
    title_paths(titles, llama, problems, field="title", pattern="{title}", max_tokens=9)
    assert len(problems) == 3
    del titles["x"], titles["y"], titles["z"]
    title_paths(titles, llama, problems, field="title", pattern="title", max_tokens=9)
    assert "exactly one" in problems[3]


@pytest.mark.parametrize(
    ("paths", "end", "message"),
    [
        (((1, 2), (3,)), (), "different numbers of tokens (1 of 1, 1 of 2): they need"),
        (((1, 2), (9, 3)), (9,), "item 'i1' contains the end token 9"),
        (((1,) * 64,), (9,), "the longest item has 65 tokens"),
        (((1,) * 63,), (9, 2), "the longest item has 65 tokens"),
    ],
)
def test_items_that_cannot_be_told_apart_are_refused(paths, end, message: str) -> None:
    items = ItemPaths(tuple(f"i{n}" for n in range(len(paths))), paths, None)
    (problem,) = length_problems(items, end)
    assert message in problem


def test_an_end_token_that_is_there_already_is_found() -> None:
    items = ItemPaths(("x", "y"), ((5, 6, 2), (7, 2)), ("a", "b"))
    assert common_end(items) == (2,)
    assert without_end(items, (2,)).paths == ((5, 6), (7,))
    for paths in (((5, 2), (7, 2)), ((5, 2, 2), (7, 2)), ((5, 6, 2), (7, 3))):
        assert common_end(ItemPaths(("x", "y"), paths, None)) == ()
    assert without_end(items, (6, 2)) is items
    both = ItemPaths(("x", "y"), ((5, 9, 2), (7, 8, 9, 2)), None)
    assert without_end(both, (9, 2)).paths == ((5,), (7, 8))
    half = ItemPaths(("x", "y"), ((5, 2), (7,)), None)
    assert without_end(half, (2,)) is half


def test_end_tokens_are_ids_or_single_tokens(qwen: Vocabulary) -> None:
    assert find_end_token("17", None) == 17
    assert find_end_token("<|im_end|>", qwen) == qwen.eos
    assert find_end_token("\n", qwen) == qwen.encode("\n")[0]
    with pytest.raises(BundleError, match="tokens"):
        find_end_token("customer oldest", qwen)
    with pytest.raises(BundleError, match="needs a tokenizer"):
        find_end_token("</s>", None)
