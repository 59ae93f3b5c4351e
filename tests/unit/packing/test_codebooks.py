"""Codebooks: all codes that the tokenizer knows, used or not."""

from __future__ import annotations

import pytest

from specbeam.catalog import ItemTrie, pad_paths
from specbeam.packing.codebooks import find_codebooks


def names(pattern: str, sizes: dict[str, int], first: int) -> dict[str, int]:
    tokens = [pattern.format(level, n) for level, size in sizes.items() for n in range(size)]
    return {token: first + n for n, token in enumerate(tokens)}


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("<{}_{}>", "a"), ("<|sid_{}_{}|>", "sida"), ("[{} code {}]", "acode"), ("{}{}", "a")],
)
def test_unused_codes_of_the_same_pattern_belong_to_a_level(pattern: str, name: str) -> None:
    vocabulary = {"the": 0, "12": 1, "Ġ7": 2} | names(pattern, {"a": 8, "b": 4}, 10)
    trie = ItemTrie.build(pad_paths([[12, 18], [15, 21]]), ["x", "y"])
    levels = find_codebooks(trie, vocabulary)
    assert [level.ranges for level in levels] == [((10, 8),), ((18, 4),)]
    assert levels[0].name == name


def test_codes_may_lie_in_several_runs_and_out_of_order() -> None:
    vocabulary = {"<a_0>": 9, "<a_1>": 3, "<a_2>": 8, "<b_0>": 4, "<a_3>": 20}
    trie = ItemTrie.build(pad_paths([[9, 4]]), ["x"])
    first, second = find_codebooks(trie, vocabulary)
    assert (first.name, first.ranges) == ("a", ((3, 1), (8, 2), (20, 1)))
    assert (second.name, second.ranges) == ("b", ((4, 1),))


def test_without_a_tokenizer_the_catalogue_tells() -> None:
    trie = ItemTrie.build(pad_paths([[5, 7], [6, 9]]), ["x", "y"])
    assert [lv.ranges for lv in find_codebooks(trie, None)] == [((5, 2),), ((7, 1), (9, 1))]


def test_end_tokens_and_plain_words_are_added_as_they_are_used() -> None:
    vocabulary = {"</s>": 2, "red": 3, "blue": 4, **names("<{}_{}>", {"a": 3}, 10)}
    trie = ItemTrie.build(pad_paths([[10, 3], [11]], ending=[2]), ["x", "y"])
    levels = find_codebooks(trie, vocabulary, (2,))
    assert [(lv.name, lv.ranges) for lv in levels] == [
        ("a", ((10, 3),)),
        ("2", ((2, 2),)),
        ("end", ((2, 1),)),
    ]
