"""Stochastic beam search with one mistake each, enumerated in exact rationals."""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction

from tests.rules.enumeration import then
from tests.rules.laws import Law, Path, TreeLaw, likeliest, mapped, without_replacement
from tests.rules.races import Arrivals, next_level, race_of

ONE, ZERO = Fraction(1), Fraction(0)
Answers = Law[tuple[Path, ...]]


def redrawn(law: TreeLaw, width: int, drafted: Collection[Path]) -> Answers:
    """A first level that was not drafted whole is drawn again, with new noise.

    What is drafted on the first level decides; below, everything is found.
    """
    beams = next_level(law, Arrivals(((),)), width)
    passed = {found: mass for found, mass in beams.items() if set(found.prefixes) <= set(drafted)}
    again = ONE - sum(passed.values(), ZERO)
    for found, mass in beams.items():
        passed[found] = passed.get(found, ZERO) + again * mass
    for _ in range(law.depth - 1):
        passed = then(passed, lambda above: next_level(law, above, width))
    return mapped(passed, lambda found: found.prefixes)


def from_drafts_only(law: TreeLaw, width: int, drafted: Collection[Path]) -> Answers:
    """The beams of a level are the best of what was drafted on it."""
    levels = {len(path) for path in drafted}

    def known(path: Path) -> bool:
        return len(path) not in levels or path in drafted

    kept = law.changed(
        lambda prefix, row: {
            token: mass if known((*prefix, token)) else ZERO for token, mass in row.items()
        }
    )
    return race_of(kept, width)


def unnormalised_top_k(law: TreeLaw, width: int, top_k: int) -> Answers:
    """Children left out by top-k take their mass with them."""
    return race_of(law.changed(lambda _, row: likeliest(row, top_k)), width)


def tempered_afterwards(law: TreeLaw, width: int, power: int) -> Answers:
    """Temperature on cumulative scores: steps are no laws any more."""
    warm = law.changed(lambda _, row: {token: mass**power for token, mass in row.items()})
    return race_of(warm, width)


def tempered_in_part(
    law: TreeLaw, tempered: TreeLaw, width: int, drafted: Collection[Path]
) -> Answers:
    """Rows that come with a draft are scored without the temperature."""
    both = law.changed(lambda prefix, row: row if prefix in drafted else tempered.children[prefix])
    return race_of(both, width)


def without_heirs(law: TreeLaw, width: int) -> Answers:
    """Children start when their parent arrives, but none arrives with it; for two levels.

    The largest rank of a node's children is then less than its own.
    """
    assert law.depth == 2
    first = next_level(law, Arrivals(((),)), width)
    return then(first, lambda above: _late_children(law, above, width))


def _late_children(law: TreeLaw, beams: Arrivals, width: int) -> Answers:
    """Order of the W earliest children where every child waits by itself."""
    found: Answers = {}
    running: Law[tuple[tuple[Path, ...], int]] = {((), 1): ONE}
    while running:
        (arrived, parents), mass = running.popitem()
        clocks = {
            child: law.probability(child)
            for parent in beams.prefixes[:parents]
            for child, share in law.below(parent).items()
            if share > 0 and child not in arrived
        }
        if parents < len(beams.prefixes):
            clocks[beams.prefixes[parents]] = beams.rates[parents - 1]
        if len(arrived) == width or not clocks:
            found[arrived] = found.get(arrived, ZERO) + mass
            continue
        for (winner,), share in without_replacement(clocks, 1).items():
            born = len(winner) == law.depth
            after = ((*arrived, winner), parents) if born else (arrived, parents + 1)
            running[after] = running.get(after, ZERO) + mass * share
    return found
