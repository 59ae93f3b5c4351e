"""Exact laws of random programs: every draw, every accept or reject.

A program gets its randomness from `Choices`.  `law_of` runs it once for every way its draws can go
and adds up the probabilities, so a rule can be written down as it reads in its paper.  `then` joins
two stages whose outcomes are worth merging in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

from tests.rules.laws import Law, Other, Outcome, positive


class Choices:
    """The draws of one run: those of the run before up to some point, then first ones."""

    def __init__(self, script: list[int]) -> None:
        """Repeat the choices of `script`, then take the first possible outcome of each draw."""
        self._script = script
        self.taken: list[tuple[int, int]] = []
        self.mass = Fraction(1)

    def draw(self, law: Mapping[Outcome, Fraction]) -> Outcome:
        """One outcome of a law; weights need not sum to 1."""
        live = positive(law)
        if not live:
            raise AssertionError("a draw from a law without mass")
        place = len(self.taken)
        number = self._script[place] if place < len(self._script) else 0
        outcome = list(live)[number]
        self.taken.append((number, len(live)))
        self.mass *= live[outcome] / sum(live.values())
        return outcome

    def flip(self, chance: Fraction) -> bool:
        """Heads with probability `chance`, cut to [0, 1]."""
        chance = min(max(chance, Fraction(0)), Fraction(1))
        return self.draw({True: chance, False: 1 - chance})

    def next_script(self) -> list[int] | None:
        """Choices of the next run; None after the last."""
        taken = list(self.taken)
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        if not taken:
            return None
        return [number for number, _ in taken[:-1]] + [taken[-1][0] + 1]


def law_of(program: Callable[[Choices], Outcome]) -> Law[Outcome]:
    """Exact law of what a program returns."""
    found: Law[Outcome] = {}
    script: list[int] | None = []
    while script is not None:
        choices = Choices(script)
        outcome = program(choices)
        found[outcome] = found.get(outcome, Fraction(0)) + choices.mass
        script = choices.next_script()
    return found


def then(law: Mapping[Outcome, Fraction], step: Callable[[Outcome], Law[Other]]) -> Law[Other]:
    """Law after a further random step."""
    found: Law[Other] = {}
    for outcome, mass in law.items():
        for image, share in step(outcome).items():
            found[image] = found.get(image, Fraction(0)) + mass * share
    return found
