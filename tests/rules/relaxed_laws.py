"""AtSpeed's relaxed verification, enumerated in exact rationals.

A level's candidates are drafted by N draws without replacement from the draft's joint law Q over
the children of all drafted parents.  Each one that is a child of a beam is accepted by itself with
probability min(1, P/Q), where P is the target's joint law over the children of its beams.  W or
more accepted: W of them, chosen uniformly, are the next beams.  Fewer: all of them, and the rest
drawn without replacement from [P - Q]+ without the accepted; there the round ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

from tests.rules.enumeration import then
from tests.rules.laws import (
    Law,
    Outcome,
    Path,
    TreeLaw,
    mapped,
    normalised,
    positive,
    sets_without_replacement,
)

ONE, ZERO = Fraction(1), Fraction(0)
Beam = frozenset[Path]


def level_law(
    p: Law[Outcome], q: Law[Outcome], draft_width: int, width: int
) -> Law[frozenset[Outcome]]:
    """Law of the next beams of one level, over all drafts."""
    drafts = sets_without_replacement(q, draft_width)
    return mapped(
        then(drafts, lambda drafted: verified(p, q, drafted, width)), lambda step: step[0]
    )


def passing(p: Law[Outcome], q: Law[Outcome], draft_width: int, width: int) -> Fraction:
    """Probability that a level is accepted and its round goes on."""
    drafts = sets_without_replacement(q, draft_width)
    went = mapped(
        then(drafts, lambda drafted: verified(p, q, drafted, width)), lambda step: step[1]
    )
    return went.get(True, ZERO)


def verified(
    p: Mapping[Outcome, Fraction],
    q: Mapping[Outcome, Fraction],
    drafted: frozenset[Outcome],
    width: int,
) -> Law[tuple[frozenset[Outcome], bool]]:
    """Law of the next beams given what was drafted, and of whether the round goes on.

    Args:
        p: target's law over the children of its beams.
        q: draft's law over the children of all its parents.
        drafted: what was drawn.
        width: W.
    """
    live = frozenset(positive(p))
    if len(live) <= width:
        return {(live, live <= drafted): ONE}

    def chosen(accepted: frozenset[Outcome]) -> Law[tuple[frozenset[Outcome], bool]]:
        if len(accepted) >= width:
            return mapped(_uniform(accepted, width), lambda kept: (kept, True))
        return mapped(_filled_up(p, q, accepted, width), lambda kept: (kept, False))

    return then(accepted_law(p, q, drafted), chosen)


def accepted_law(
    p: Mapping[Outcome, Fraction], q: Mapping[Outcome, Fraction], drafted: frozenset[Outcome]
) -> Law[frozenset[Outcome]]:
    """Law of the accepted ones, each tested by itself."""
    found: Law[frozenset[Outcome]] = {frozenset(): ONE}
    for node in drafted:
        chance = min(ONE, p.get(node, ZERO) / q[node])
        grown: Law[frozenset[Outcome]] = {}
        for accepted, mass in positive(found).items():
            with_it = accepted | {node}
            grown[with_it] = grown.get(with_it, ZERO) + mass * chance
            grown[accepted] = grown.get(accepted, ZERO) + mass * (1 - chance)
        found = grown
    return positive(found)


def _uniform(accepted: frozenset[Outcome], width: int) -> Law[frozenset[Outcome]]:
    """Any W of the accepted, all equally likely."""
    kept = [frozenset(some) for some in combinations(accepted, width)]
    return dict.fromkeys(kept, Fraction(1, len(kept)))


def _filled_up(
    p: Mapping[Outcome, Fraction],
    q: Mapping[Outcome, Fraction],
    accepted: frozenset[Outcome],
    width: int,
) -> Law[frozenset[Outcome]]:
    """The accepted and draws from the residual, from p where the residual has too few."""
    missing = width - len(accepted)
    left = {node: mass for node, mass in p.items() if node not in accepted}
    excess = positive({node: mass - q.get(node, ZERO) for node, mass in left.items()})
    drawn = sets_without_replacement(excess if len(excess) >= missing else left, missing)
    return mapped(drawn, lambda more: accepted | more)


# ---------------------------------------------------------------- whole items


@dataclass(frozen=True)
class _Round:
    """A search inside one round.

    Attributes:
        beams: the target's beams of the level reached.
        parents: what the draft draws below: all it drew on that level, accepted or not.
        base: the beams that the round started from; the draft knows their scores.
    """

    beams: Beam
    parents: Beam
    base: Beam


_ROOT: Beam = frozenset({()})
_START: Law[_Round] = {_Round(_ROOT, _ROOT, _ROOT): ONE}


def items_law(p: TreeLaw, q: TreeLaw, draft_width: int, width: int) -> Law[Beam]:
    """Law of the items that a relaxed search returns.

    Every round drafts all levels below its beams but the items' last one.
    """
    states = _START
    for _ in range(p.depth - 1):
        states = then(states, lambda state: _drafted_step(p, q, state, draft_width, width))
    return mapped(then(states, lambda state: _plain_step(p, state, width)), _beams_of)


def beam_sampling(p: TreeLaw, width: int) -> Law[Beam]:
    """Law of plain beam sampling: W draws without replacement on every level, fresh noise."""
    states = _START
    for _ in range(p.depth):
        states = then(states, lambda state: _plain_step(p, state, width))
    return mapped(states, _beams_of)


def _plain_step(p: TreeLaw, state: _Round, width: int) -> Law[_Round]:
    """Draws from the target's joint law over the children of its beams."""
    drawn = sets_without_replacement(_joint(p, state.beams), width)
    return mapped(drawn, lambda beams: _Round(beams, beams, beams))


def _drafted_step(
    p: TreeLaw, q: TreeLaw, state: _Round, draft_width: int, width: int
) -> Law[_Round]:
    """Draw below all drafted parents, verify; a repaired level begins a new round."""
    target = _joint(p, state.beams)
    draft = _draft_joint(p, q, state.base, state.parents)

    def after(drafted: Beam) -> Law[_Round]:
        def next_round(step: tuple[Beam, bool]) -> _Round:
            beams, go_on = step
            return _Round(beams, drafted, state.base) if go_on else _Round(beams, beams, beams)

        return mapped(verified(target, draft, drafted, width), next_round)

    return then(sets_without_replacement(draft, draft_width), after)


def _beams_of(state: _Round) -> Beam:
    return state.beams


def _joint(p: TreeLaw, beams: Beam) -> Law[Path]:
    """P: all children of the beams, by cumulative probability."""
    return normalised({c: p.probability(c) for beam in beams for c in p.below(beam)})


def _draft_joint(p: TreeLaw, q: TreeLaw, base: Beam, parents: Beam) -> Law[Path]:
    """Q: all children of the drafted parents; scores start from the target's at the base."""
    level = len(next(iter(base)))

    def score(path: Path) -> Fraction:
        found = p.probability(path[:level])
        for place in range(level, len(path)):
            found *= q.children[path[:place]][path[place]]
        return found

    return normalised({c: score(c) for parent in parents for c in q.below(parent)})
