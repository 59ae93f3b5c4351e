"""The kit finds nothing in the lossless rules for text, and something in every known mistake."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import product

import pytest

from tests.rules import text_rules
from tests.rules.laws import Path, TreeLaw, random_law, tempered, total_variation
from tests.rules.text_rules import Rule, mean_tokens, text_law

BRANCHINGS: tuple[tuple[int, ...], ...] = ((1, 1), (2, 1), (2, 2), (3, 2))
# A chain of three, and a tree of three levels, over two tokens.
DEEP: tuple[tuple[int, ...], ...] = ((1, 1, 1), (2, 2, 1))


def model(source: random.Random, vocabulary: int, depth: int, zeros: float = 0.2) -> TreeLaw:
    """Laws for every text shorter than `depth`."""
    prefixes = [path for n in range(depth) for path in product(range(vocabulary), repeat=n)]
    return TreeLaw(depth, {path: random_law(source, vocabulary, zeros) for path in prefixes})


def random_draft(source: random.Random, vocabulary: int, depth: int) -> set[Path]:
    """Drafted paths, every parent included."""
    tree: set[Path] = set()
    for _ in range(source.randint(1, 5)):
        path = tuple(source.randrange(vocabulary) for _ in range(source.randint(1, depth)))
        tree |= {path[: n + 1] for n in range(len(path))}
    return tree


def distance(p: TreeLaw, rule: Rule) -> Fraction:
    """Between the texts of a rule and those of plain sampling."""
    return total_variation(text_law(p, rule), p.items())


def pairs(seed: int, cases: int, vocabulary: int, depth: int) -> Iterator[tuple[TreeLaw, TreeLaw]]:
    """Random targets and drafts."""
    source = random.Random(seed)
    for _ in range(cases):
        yield model(source, vocabulary, depth), model(source, vocabulary, depth)


@pytest.mark.parametrize("rule", [text_rules.sample_then_match, text_rules.match_children_in_turn])
def test_matching_a_deterministic_tree_is_lossless(
    rule: Callable[[TreeLaw, set[Path]], Rule],
) -> None:
    source = random.Random(2)
    for vocabulary in (2, 3, 4):
        for _ in range(20):
            p, tree = model(source, vocabulary, 3), random_draft(source, vocabulary, 2)
            assert distance(p, rule(p, tree)) == 0


@pytest.mark.parametrize("length", [1, 2, 3])
def test_rejection_on_a_chain_is_lossless(length: int) -> None:
    for vocabulary in (2, 3):
        for p, q in pairs(3, 12, vocabulary, length + 1):
            assert distance(p, text_rules.rejection(p, q, length)) == 0


@pytest.mark.parametrize(
    "rule",
    [
        text_rules.siblings,
        text_rules.siblings_without_replacement,
        text_rules.leaf_to_root,
    ],
)
def test_rejection_on_trees_is_lossless(
    rule: Callable[[TreeLaw, TreeLaw, tuple[int, ...]], Rule],
) -> None:
    for branching in BRANCHINGS:
        for p, q in pairs(5, 4, 3, 3):
            assert distance(p, rule(p, q, branching)) == 0
    for branching in DEEP:
        for p, q in pairs(6, 3, 2, 4):
            assert distance(p, rule(p, q, branching)) == 0


@pytest.mark.parametrize("branching", BRANCHINGS)
def test_from_leaf_to_root_more_is_accepted(branching: tuple[int, ...]) -> None:
    """On average over targets, as published."""
    gain = sum(
        mean_tokens(text_rules.leaf_to_root(p, q, branching))
        - mean_tokens(text_rules.siblings_without_replacement(p, q, branching))
        for p, q in pairs(7, 8, 3, 3)
    )
    assert gain > 0


def largest(rules: Iterator[tuple[TreeLaw, Rule]]) -> Fraction:
    """Largest distance over some cases."""
    return max(distance(p, rule) for p, rule in rules)


def deterministic(rule: Callable[[TreeLaw, set[Path]], Rule]) -> Iterator[tuple[TreeLaw, Rule]]:
    source = random.Random(11)
    for _ in range(12):
        p, tree = model(source, 3, 3), random_draft(source, 3, 2)
        yield p, rule(p, tree)


def top_k_as_samples() -> Iterator[tuple[TreeLaw, Rule]]:
    for p, q in pairs(12, 8, 3, 3):
        yield p, text_rules.siblings_without_replacement(p, q, (2, 2), drawn=False)


def no_renormalisation() -> Iterator[tuple[TreeLaw, Rule]]:
    for p, q in pairs(13, 12, 4, 2):
        yield p, text_rules.siblings_without_replacement(p, q, (3,), renormalise=False)


def bonus_from_the_parent() -> Iterator[tuple[TreeLaw, Rule]]:
    for p, q in pairs(14, 8, 3, 3):
        yield p, text_rules.rejection(p, q, 2, bonus_below=1)


def stale_draft_law() -> Iterator[tuple[TreeLaw, Rule]]:
    for p, q in pairs(15, 8, 3, 3):
        yield p, text_rules.rejection(p, tempered(q, 3), 2, tested_with=q)


@pytest.mark.parametrize(
    ("name", "cases", "floor"),
    [
        ("M1 redraw", lambda: deterministic(text_rules.redrawn), 0.1),
        ("M2 a draw for each branch", lambda: deterministic(text_rules.drawn_per_branch), 0.1),
        ("M3 top-k as samples", top_k_as_samples, 0.1),
        ("M4 no renormalisation", no_renormalisation, 0.01),
        ("M6 bonus from the leaf's parent", bonus_from_the_parent, 0.1),
        ("M7 a draft law from before its temperature", stale_draft_law, 0.1),
    ],
)
def test_known_mistakes_are_told(
    name: str, cases: Callable[[], Iterator[tuple[TreeLaw, Rule]]], floor: float
) -> None:
    found = largest(cases())
    print(f"{name}: total variation {float(found):.3f}")
    assert found > floor
