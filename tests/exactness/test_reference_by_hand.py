"""The reference itself, on laws small enough to compute by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from specbeam.catalog import FRESHNESS_BUCKET_MS
from specbeam.catalog import PAD as CATALOG_PAD
from specbeam.decoding.reference import (
    HOUR_MS,
    PAD,
    CatalogItem,
    PlainFilter,
    ReferenceAnswer,
    ReferenceSpec,
    reference_beam_search,
)

A, B, C, D, E = range(5)
PROMPT = (7, 8)

# Weights of A, B, C, D, E after each prefix; the probability is the weight over the sum of the
# weights that the convention counts.
LAW = {
    (): (4, 3, 2, 1, 2),
    (A,): (1, 2, 3, 2, 4),
    (B,): (5, 2, 1, 1, 3),
    (C,): (1, 1, 5, 2, 3),
}
PAIRS = {
    "p": CatalogItem((A, B)),
    "q": CatalogItem((A, C)),
    "r": CatalogItem((B, A)),
    "s": CatalogItem((C, C)),
}


class Table:
    """A law given as a table; it knows the prefixes asked and no others than its own."""

    def __init__(self, weights: Mapping[tuple[int, ...], Sequence[float]]) -> None:
        self._weights = weights
        self.asked: list[list[tuple[int, ...]]] = []

    def __call__(self, prefixes: Sequence[Sequence[int]]) -> list[list[float]]:
        assert all(tuple(prefix[: len(PROMPT)]) == PROMPT for prefix in prefixes)
        paths = [tuple(prefix[len(PROMPT) :]) for prefix in prefixes]
        self.asked.append(paths)
        return [[math.log(weight) for weight in self._weights[path]] for path in paths]


def search(
    catalog: Mapping[str, CatalogItem], spec: ReferenceSpec, law: Table | None = None
) -> ReferenceAnswer:
    return reference_beam_search(catalog, spec, law or Table(LAW))


def spec_of(width: int, **fields: object) -> ReferenceSpec:
    return ReferenceSpec(PROMPT, width, width, **fields)  # type: ignore[arg-type]


def probabilities(answer: ReferenceAnswer) -> dict[str, float]:
    """Items in the order returned, with their probabilities."""
    return {item.item_id: math.exp(item.score) for item in answer.items}


def assert_is(answer: ReferenceAnswer, expected: Mapping[str, float]) -> None:
    got = probabilities(answer)
    assert list(got) == list(expected)
    assert list(got.values()) == pytest.approx(list(expected.values()), rel=1e-14)


def test_constants_are_the_catalogues() -> None:
    assert (PAD, HOUR_MS) == (CATALOG_PAD, FRESHNESS_BUCKET_MS)


# ---------------------------------------------------------------- conventions


def test_vocab_counts_every_token() -> None:
    law = Table(LAW)
    answer = search(PAIRS, spec_of(4), law)
    assert_is(answer, {"r": 15 / 144, "q": 12 / 144, "s": 10 / 144, "p": 8 / 144})
    assert law.asked == [[()], [(A,), (B,), (C,)]]
    assert answer.asked == (1, 3)


def test_level_counts_the_codebook_used_or_not() -> None:
    codebooks = [(A, B, C, D), (A, B, C, D)]
    answer = search(PAIRS, spec_of(4, convention="LEVEL", codebooks=codebooks))
    expected = {
        "r": 3 / 10 * 5 / 9,
        "q": 4 / 10 * 3 / 8,
        "s": 2 / 10 * 5 / 9,
        "p": 4 / 10 * 2 / 8,
    }
    assert_is(answer, expected)


def test_level_without_codebooks_counts_what_the_catalogue_uses() -> None:
    """Whatever the filter: D is used by no item, B on the second level by an excluded one."""
    expected = {"q": 4 / 9 * 3 / 6, "r": 3 / 9 * 5 / 8, "s": 2 / 9 * 5 / 7, "p": 4 / 9 * 2 / 6}
    assert_is(search(PAIRS, spec_of(4, convention="LEVEL")), expected)
    del expected["p"]
    filtered = spec_of(4, convention="LEVEL", item_filter=PlainFilter(excluded={"p"}))
    assert_is(search(PAIRS, filtered), expected)


def test_level_refuses_tokens_outside_the_codebook() -> None:
    with pytest.raises(ValueError, match=r"tokens \[2\] are in no codebook"):
        search(PAIRS, spec_of(4, convention="LEVEL", codebooks=[(A, B), (A, B, C)]))


def test_trie_counts_the_children_and_an_only_child_is_free() -> None:
    law = Table(LAW)
    answer = search(PAIRS, spec_of(4, convention="TRIE"), law)
    assert_is(answer, {"r": 3 / 9, "q": 4 / 9 * 3 / 5, "s": 2 / 9, "p": 4 / 9 * 2 / 5})
    assert sum(probabilities(answer).values()) == pytest.approx(1)
    assert law.asked == [[()], [(A,)]]


def test_trie_counts_admitted_children_only() -> None:
    law = Table(LAW)
    spec = spec_of(4, convention="TRIE", item_filter=PlainFilter(excluded={"q"}))
    answer = search(PAIRS, spec, law)
    assert_is(answer, {"p": 4 / 9, "r": 3 / 9, "s": 2 / 9})
    assert law.asked == [[()]]
    assert answer.asked == (1, 0)


def test_trie_of_one_admitted_item_is_certain() -> None:
    spec = spec_of(4, convention="TRIE", item_filter=PlainFilter(allowed={"s"}))
    answer = search(PAIRS, spec, Table({}))
    assert [(item.item_id, item.score) for item in answer.items] == [("s", 0.0)]
    assert answer.asked == (0, 0)


# ---------------------------------------------------------------- the beam


def test_a_narrow_beam_misses_the_best_item() -> None:
    assert_is(search(PAIRS, spec_of(1)), {"q": 12 / 144})
    assert_is(search(PAIRS, replace(spec_of(2), num_items=1)), {"r": 15 / 144})


def test_candidates_are_told_by_level() -> None:
    answer = search(PAIRS, spec_of(2))
    assert [[beam.path for beam in level] for level in answer.candidates] == [
        [(A,), (B,), (C,)],
        [(B, A), (A, C), (A, B)],
    ]


def test_ties_go_to_the_smaller_path() -> None:
    catalog = {
        name: CatalogItem(path) for name, path in zip("zyx", [(A,), (B,), (C,)], strict=True)
    }
    law = Table({(): (2, 2, 2, 1, 1)})
    assert [item.item_id for item in search(catalog, spec_of(2), law).items] == ["z", "y"]


def test_ties_are_by_path_not_by_parent() -> None:
    """(B, A) is the child of the better prefix, but its score equals that of (A, C)."""
    catalog = {"x": CatalogItem((A, C)), "y": CatalogItem((B, A)), "z": CatalogItem((B, B))}
    law = Table({(): (1, 3, 1, 1, 2), (A,): (1, 1, 4, 1, 1), (B,): (1, 1, 1, 1, 8)})
    trie = spec_of(3, convention="TRIE")
    # x: 1/4 and then certain; y and z: 3/4 times 1/2.
    assert [i.item_id for i in search(catalog, trie, law).items] == ["y", "z", "x"]
    flat = Table({(): (1,) * 5, (A,): (1,) * 5, (B,): (1,) * 5})
    assert [i.item_id for i in search(catalog, spec_of(3), flat).items] == ["x", "y", "z"]
    assert [i.item_id for i in search(catalog, spec_of(2), flat).items] == ["x", "y"]


# ---------------------------------------------------------------- finished items

ENDED_LAW = {
    (): (6, 2, 1, 1, 2),
    (A,): (1, 6, 1, 1, 3),
    (B,): (9, 1, 1, 2, 2),
    (A, B): (5, 1, 4, 1, 1),
    (B, A): (9, 1, 1, 1, 1),
}
ENDED = {
    "short": CatalogItem((A, E)),
    "one": CatalogItem((A, B, A)),
    "two": CatalogItem((A, B, C)),
    "three": CatalogItem((B, A, A)),
}


def test_the_end_token_is_paid_for_and_padding_is_free() -> None:
    law = Table(ENDED_LAW)
    answer = search(ENDED, spec_of(4), law)
    expected = {
        "short": 6 / 12 * 3 / 12,
        "one": 6 / 12 * 6 / 12 * 5 / 12,
        "two": 6 / 12 * 6 / 12 * 4 / 12,
        "three": 2 / 12 * 9 / 15 * 9 / 13,
    }
    assert_is(answer, expected)
    assert [item.path for item in answer.items] == [(A, E), (A, B, A), (A, B, C), (B, A, A)]
    assert answer.candidates[2][0].path == (A, E, PAD)
    assert law.asked[2] == [(A, B), (B, A)]


def test_finished_items_hold_a_place_of_the_beam() -> None:
    """On level 2 (A, B) and (A, E) fill a beam of 2, so that (B, A) is lost."""
    answer = search(ENDED, spec_of(2), Table(ENDED_LAW))
    assert [beam.path for beam in answer.candidates[1]] == [(A, B), (A, E), (B, A)]
    assert_is(answer, {"short": 6 / 12 * 3 / 12, "one": 6 / 12 * 6 / 12 * 5 / 12})


def test_finished_items_can_still_be_overtaken() -> None:
    """Both items below (A, B) beat the finished one, which is third on the last level."""
    law = Table({**ENDED_LAW, (): (6, 1, 1, 2, 2), (A,): (1, 8, 1, 1, 1), (B,): (1, 1, 9, 9, 9)})
    answer = search(ENDED, spec_of(2), law)
    assert [beam.path for beam in answer.candidates[1][:2]] == [(A, B), (A, E)]
    expected = {"one": 6 / 12 * 8 / 12 * 5 / 12, "two": 6 / 12 * 8 / 12 * 4 / 12}
    assert_is(answer, expected)
    assert answer.candidates[2][2].path == (A, E, PAD)


def test_finished_items_under_level_and_trie() -> None:
    """The end token belongs to the codebook; padding does not count anywhere."""
    level = spec_of(4, convention="LEVEL")  # {A, B}, {A, B, E}, {A, C}
    expected = {
        "one": 6 / 8 * 6 / 10 * 5 / 9,
        "short": 6 / 8 * 3 / 10,
        "two": 6 / 8 * 6 / 10 * 4 / 9,
        "three": 2 / 8 * 9 / 12 * 9 / 10,
    }
    assert_is(search(ENDED, level, Table(ENDED_LAW)), expected)
    law = Table({**ENDED_LAW, (): (6, 3, 1, 1, 2)})
    trie = search(ENDED, spec_of(4, convention="TRIE"), law)
    expected = {
        "three": 3 / 9,
        "one": 6 / 9 * 6 / 9 * 5 / 9,
        "short": 6 / 9 * 3 / 9,
        "two": 6 / 9 * 6 / 9 * 4 / 9,
    }
    assert_is(trie, expected)
    assert law.asked == [[()], [(A,)], [(A, B)]]


def test_ties_of_finished_and_unfinished_items() -> None:
    """Equal scores: the padded paths decide, here (A, E, PAD) before (B, A, A)."""
    catalog = {name: ENDED[name] for name in ("three", "one", "short")}
    law = Table({(): (1,) * 5, (A,): (1,) * 5})
    answer = search(catalog, spec_of(3, convention="TRIE"), law)
    assert_is(answer, {"three": 1 / 2, "one": 1 / 4, "short": 1 / 4})
    catalog["four"] = CatalogItem((B, B))
    law = Table({(): (1,) * 5, (A,): (1,) * 5, (B,): (1,) * 5})
    answer = search(catalog, spec_of(3, convention="TRIE"), law)
    assert_is(answer, {"one": 1 / 4, "short": 1 / 4, "three": 1 / 4})


# ---------------------------------------------------------------- items of one path


SHARED = {
    "b": CatalogItem((A,), 5),
    "a": CatalogItem((A,), 5),
    "c": CatalogItem((A,), 9),
    "d": CatalogItem((B,), 1),
}


def test_items_of_a_path_by_popularity_then_id() -> None:
    assert [i.item_id for i in search(SHARED, spec_of(4)).items] == ["c", "a", "b", "d"]
    assert [i.item_id for i in search(SHARED, spec_of(2)).items] == ["c", "a"]


def test_a_path_lives_as_long_as_one_of_its_items() -> None:
    spec = spec_of(4, item_filter=PlainFilter(excluded={"c", "b"}))
    assert [i.item_id for i in search(SHARED, spec).items] == ["a", "d"]


def test_k_counts_items_and_w_counts_paths() -> None:
    spec = replace(spec_of(1), num_items=1)
    assert [i.item_id for i in search(SHARED, spec).items] == ["c"]
    assert [i.item_id for i in search(SHARED, replace(spec, num_items=3)).items] == ["c", "a", "b"]


# ---------------------------------------------------------------- filters


@pytest.mark.parametrize("convention", ["VOCAB", "LEVEL", "TRIE"])
def test_filters_that_leave_nothing_one_and_almost_enough(convention: str) -> None:
    def answer(allowed: set[str]) -> list[str]:
        spec = spec_of(3, convention=convention, item_filter=PlainFilter(allowed=allowed))
        return [item.item_id for item in search(PAIRS, spec).items]

    assert answer(set()) == []
    assert answer({"unknown"}) == []
    assert answer({"p"}) == ["p"]
    assert sorted(answer({"p", "r"})) == ["p", "r"]
    assert sorted(answer({"p", "q", "s"})) == ["p", "q", "s"]


def test_filters_keep_the_beam_for_admitted_items() -> None:
    """Unlike dropping items afterwards: with r and q gone a beam of 1 still finds one."""
    spec = spec_of(1, item_filter=PlainFilter(excluded={"q", "p"}))
    assert_is(search(PAIRS, spec), {"r": 15 / 144})


HOURS = 1000 * HOUR_MS
TAGGED = CatalogItem((A,), tags=frozenset({"shoe", "red"}), created_at_ms=HOURS)


@pytest.mark.parametrize(
    ("item_filter", "admitted"),
    [
        (PlainFilter(), True),
        (PlainFilter(excluded={"other"}), True),
        (PlainFilter(excluded={"it"}), False),
        (PlainFilter(allowed={"it", "other"}), True),
        (PlainFilter(allowed=()), False),
        (PlainFilter(allowed={"it"}, excluded={"it"}), False),
        (PlainFilter(required_tags=(("shoe",),)), True),
        (PlainFilter(required_tags=(("hat", "shoe"),)), True),
        (PlainFilter(required_tags=(("hat",),)), False),
        (PlainFilter(required_tags=(("hat", "shoe"), ("red",))), True),
        (PlainFilter(required_tags=(("hat", "shoe"), ("blue", "green"))), False),
        (PlainFilter(allowed={"it"}, required_tags=(("hat",),)), False),
        (PlainFilter(created_after_ms=HOURS), True),
        (PlainFilter(created_after_ms=HOURS - 1), True),
        (PlainFilter(created_after_ms=HOURS - HOUR_MS + 1), True),
        (PlainFilter(created_after_ms=HOURS + 1), False),
        (PlainFilter(created_after_ms=0), True),
        (PlainFilter(created_after_ms=HOURS, required_tags=(("red",),)), True),
    ],
)
def test_predicate(item_filter: PlainFilter, admitted: bool) -> None:
    assert item_filter.admits("it", TAGGED) is admitted


def test_freshness_is_never_older_than_asked() -> None:
    late = replace(TAGGED, created_at_ms=HOURS + 1)
    assert PlainFilter(created_after_ms=HOURS).admits("it", late)
    # Within the hour asked for, but the hour begins before: rounded up, the next hour counts.
    assert not PlainFilter(created_after_ms=HOURS + 1).admits("it", late)
    unknown = replace(TAGGED, created_at_ms=None)
    assert not PlainFilter(created_after_ms=0).admits("it", unknown)
    assert PlainFilter().admits("it", unknown)
