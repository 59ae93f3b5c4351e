"""Stochastic beam search as a race, enumerated in exact rationals.

With T = exp(-G) a Gumbel value of location log p becomes an arrival time, exponential with rate p.
The earliest arrival below a prefix is the prefix's own: one child inherits it, with probability in
proportion to its rate, and its siblings arrive later, each after an exponential wait of its own
rate.  A beam of W prefixes in order of arrival is therefore told by that order and by the rates of
the waits between neighbours, and the next event of the level below is a contest of exponential
clocks: every probability is a ratio of rates.  (Kool, van Hoof and Welling, 2019.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from tests.rules.enumeration import then
from tests.rules.laws import Law, Path, TreeLaw, mapped, normalised, without_replacement


@dataclass(frozen=True)
class Arrivals:
    """Prefixes of one level in order of arrival.

    Attributes:
        prefixes: earliest first, at most W.
        rates: rate of the exponential wait between each prefix and the next; one fewer.
    """

    prefixes: tuple[Path, ...]
    rates: tuple[Fraction, ...] = ()


@dataclass(frozen=True)
class _Race:
    """Children that have arrived, siblings on their way, parents seen."""

    arrived: tuple[Path, ...]
    rates: tuple[Fraction, ...]
    waiting: tuple[Path, ...]
    parents: int


def race_of(law: TreeLaw, width: int) -> Law[tuple[Path, ...]]:
    """Law of the items that a top-down beam of width W finds, in order of arrival."""
    beams: Law[Arrivals] = {Arrivals(((),)): Fraction(1)}
    for _ in range(law.depth):
        beams = then(beams, lambda above: next_level(law, above, width))
    return mapped(beams, lambda found: found.prefixes)


def next_level(law: TreeLaw, beams: Arrivals, width: int) -> Law[Arrivals]:
    """Law of the W earliest children of a beam."""
    running = dict(_parent_arrives(law, beams, _Race((), (), (), 0)))
    finished: Law[Arrivals] = {}
    while running:
        race, mass = running.popitem()
        clocks = _clocks(law, beams, race)
        if len(race.arrived) == width or not clocks:
            # Races that differ in what is still on its way have come to the same beam.
            beam = Arrivals(race.arrived, race.rates)
            finished[beam] = finished.get(beam, Fraction(0)) + mass
            continue
        for after, share in _next_arrival(law, beams, race, clocks):
            running[after] = running.get(after, Fraction(0)) + mass * share
    return finished


def _clocks(law: TreeLaw, beams: Arrivals, race: _Race) -> Law[Path]:
    """Rates of what may arrive next: siblings of arrived children, and the next parent."""
    clocks = {child: law.probability(child) for child in race.waiting}
    if race.parents < len(beams.prefixes):
        clocks[beams.prefixes[race.parents]] = beams.rates[race.parents - 1]
    return clocks


def _next_arrival(
    law: TreeLaw, beams: Arrivals, race: _Race, clocks: Law[Path]
) -> Iterator[tuple[_Race, Fraction]]:
    """Whichever clock rings first; all others start anew, for they have no memory."""
    rate = sum(clocks.values(), Fraction(0))
    for winner, share in normalised(clocks).items():
        waited = _Race(race.arrived, (*race.rates, rate), race.waiting, race.parents)
        if winner in race.waiting:
            left = tuple(child for child in race.waiting if child != winner)
            yield _Race((*race.arrived, winner), waited.rates, left, race.parents), share
        else:
            for after, chance in _parent_arrives(law, beams, waited):
                yield after, share * chance


def _parent_arrives(law: TreeLaw, beams: Arrivals, race: _Race) -> Iterator[tuple[_Race, Fraction]]:
    """The next parent's time has come: one child has it, its siblings are on their way."""
    rates = {
        child: law.probability(child)
        for child, mass in law.below(beams.prefixes[race.parents]).items()
        if mass > 0
    }
    for heir, chance in normalised(rates).items():
        late = tuple(sorted({*race.waiting, *rates} - {heir}))
        yield _Race((*race.arrived, heir), race.rates, late, race.parents + 1), chance


def fresh_noise(law: TreeLaw, width: int) -> Law[tuple[Path, ...]]:
    """Beam sampling: new noise on the cumulative scores of every level.  Not the items' law."""
    beams: Law[tuple[Path, ...]] = {((),): Fraction(1)}
    for _ in range(law.depth):
        beams = then(beams, lambda above: _draw_children(law, above, width))
    return beams


def _draw_children(law: TreeLaw, beams: tuple[Path, ...], width: int) -> Law[tuple[Path, ...]]:
    """W draws without replacement from the children of all beams."""
    children = [child for beam in beams for child in law.below(beam)]
    return without_replacement({child: law.probability(child) for child in children}, width)


def first(law: Law[tuple[Path, ...]], count: int) -> Law[tuple[Path, ...]]:
    """Law of the K best of a beam, in order."""
    return mapped(law, lambda found: found[:count])


def as_sets(law: Law[tuple[Path, ...]]) -> Law[frozenset[Path]]:
    """Law of the set, whatever its order."""
    return mapped(law, frozenset)
