"""Measure how far relaxed sampling is from sampling, exactly.

    python -m tests.rules.report [--out benchmarks/results/relaxed-distance.json]

Every figure is a total variation distance between laws of *sets*, computed in rationals over all
draws and all decisions, and rounded only when it is written.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path as File
from typing import Any

from tests.rules.laws import (
    Law,
    Path,
    TreeLaw,
    normalised,
    random_law,
    random_tree,
    sets_without_replacement,
    total_variation,
)
from tests.rules.relaxed_laws import beam_sampling, items_law, level_law, passing

OUTCOMES = 8


def _shape(weight: Callable[[int], int]) -> Law[int]:
    """A law over eight outcomes, the likeliest first."""
    return normalised({place: Fraction(weight(OUTCOMES - place)) for place in range(OUTCOMES)})


SHAPES: dict[str, Law[int]] = {
    "halving": _shape(lambda place: 2**place),
    "cubes": _shape(lambda place: place**3),
    "squares": _shape(lambda place: place**2),
}
SHUFFLES = 10
DISTANCES = tuple(Fraction(percent, 100) for percent in (0, 10, 33, 70))
WIDTH = 3
DRAFT_WIDTHS = (3, 4, 6, 8)
TREES = 12
# Share of an unrelated law in the draft's.
FOREIGN = (Fraction(0), Fraction(1, 10), Fraction(1, 2))


def at_distance(p: Law[int], far: Fraction, order: Sequence[int] | None = None) -> Law[int]:
    """A draft law at a total variation distance from p, on the way to p in another order.

    Args:
        p: the target's law.
        far: the distance.
        order: which outcome's probability each outcome is heading for; None = backwards.
    """
    order = order or list(reversed(range(len(p))))
    goal = {place: p[order[place]] for place in p}
    share = far / total_variation(p, goal)
    if share > 1:
        raise ValueError("even that order is nearer to p")
    return {place: mass + share * (goal[place] - mass) for place, mass in p.items()}


def pairs(name: str, far: Fraction) -> list[tuple[Law[int], Law[int]]]:
    """Target and draft laws of a family, `far` from each other."""
    if name in SHAPES:
        return [(SHAPES[name], at_distance(SHAPES[name], far))]
    source, p = random.Random(1), SHAPES["halving"]
    found: list[tuple[Law[int], Law[int]]] = []
    while len(found) < SHUFFLES:
        order = source.sample(range(OUTCOMES), OUTCOMES)
        if total_variation(p, {place: p[order[place]] for place in p}) >= max(DISTANCES):
            found.append((p, at_distance(p, far, order)))
    return found


def level_distance(p: Law[int], q: Law[int], draft_width: int, width: int) -> Fraction:
    """From draws without replacement: the law of one level's next beams."""
    return total_variation(level_law(p, q, draft_width, width), sets_without_replacement(p, width))


def mixed(p: TreeLaw, other: TreeLaw, share: Fraction) -> TreeLaw:
    """A draft that is `share` of the way from p to another law of the same tree."""
    return p.changed(
        lambda prefix, row: {
            token: mass + share * (other.children[prefix][token] - mass)
            for token, mass in row.items()
        }
    )


def tree_pairs(depth: int, branching: int, share: Fraction) -> Iterator[tuple[TreeLaw, TreeLaw]]:
    """Targets, and drafts that far from them."""
    source = random.Random(depth)
    for _ in range(TREES):
        p = random_tree(source, depth, branching, zeros=0.1)
        foreign = p.changed(
            lambda _, row: dict(
                zip(row, random_law(source, len(row), zeros=0.0).values(), strict=True)
            )
        )
        yield p, mixed(p, foreign, share)


def level_rows() -> Iterator[dict[str, Any]]:
    """One level of eight candidates: means over the pairs of laws of a family."""
    for name in (*SHAPES, "halving, shuffled"):
        for far in DISTANCES:
            cases = pairs(name, far)
            for draft_width in DRAFT_WIDTHS:
                passes = [passing(p, q, draft_width, WIDTH) for p, q in cases]
                distances = [level_distance(p, q, draft_width, WIDTH) for p, q in cases]
                yield {
                    "laws": name,
                    "draft_distance": float(far),
                    "width": WIDTH,
                    "draft_width": draft_width,
                    "passes": _mean(passes),
                    "distance": _mean(distances),
                    "largest_distance": round(float(max(distances)), 4),
                }


def _mean(values: Sequence[Fraction]) -> float:
    return round(float(sum(values, Fraction(0)) / len(values)), 4)


def item_rows() -> Iterator[dict[str, Any]]:
    """Whole items of random trees: means over the trees."""
    for depth, branching, width, draft_widths in ((2, 4, 2, (2, 4)), (3, 3, 2, (2, 4))):
        for share in FOREIGN:
            for draft_width in draft_widths:
                found = [
                    _item_distances(p, q, draft_width, width)
                    for p, q in tree_pairs(depth, branching, share)
                ]
                beams, items, plain = (_mean(column) for column in zip(*found, strict=True))
                yield {
                    "levels": depth,
                    "width": width,
                    "draft_width": draft_width,
                    "foreign_share": float(share),
                    "from_beam_sampling": beams,
                    "from_items": items,
                    "beam_sampling_from_items": plain,
                }


def _item_distances(
    p: TreeLaw, q: TreeLaw, draft_width: int, width: int
) -> tuple[Fraction, Fraction, Fraction]:
    """Relaxed from beam sampling, relaxed from the items' law, beam sampling from that law."""
    relaxed, plain = items_law(p, q, draft_width, width), beam_sampling(p, width)
    items: Law[frozenset[Path]] = sets_without_replacement(p.items(), width)
    return (
        total_variation(relaxed, plain),
        total_variation(relaxed, items),
        total_variation(plain, items),
    )


def main(arguments: Sequence[str]) -> None:
    """Print the figures, or write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=File)
    options = parser.parse_args(arguments)
    report = {
        "measured": "total variation of set laws, exact enumeration in rationals",
        "made_by": "python -m tests.rules.report",
        "conditions": {
            "outcomes": OUTCOMES,
            "laws": {name: [str(mass) for mass in law.values()] for name, law in SHAPES.items()},
            "trees": TREES,
        },
        "one_level": list(level_rows()),
        "whole_items": list(item_rows()),
    }
    text = json.dumps(report, indent=1) + "\n"
    if options.out is None:
        sys.stdout.write(text)
    else:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
