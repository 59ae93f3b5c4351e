"""Toy laws over whole items, in exact rationals.

A law tells for every prefix how likely each next token is.  Items are the prefixes of full length;
branches of probability zero stay in the tree, because rules have to leave them alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

Path = tuple[int, ...]
Outcome = TypeVar("Outcome", bound=Hashable)
Other = TypeVar("Other", bound=Hashable)
Law = dict[Outcome, Fraction]


@dataclass(frozen=True)
class TreeLaw:
    """Probabilities of the children of every prefix shorter than an item.

    Attributes:
        depth: L, tokens of an item.
        children: by prefix, the probability of each child's token; they sum to 1 unless a wrong
            rule is being described.
    """

    depth: int
    children: Mapping[Path, Mapping[int, Fraction]]

    def below(self, prefix: Path) -> Law[Path]:
        """Probability of each child given its parent."""
        return {(*prefix, token): mass for token, mass in self.children[prefix].items()}

    def probability(self, path: Path) -> Fraction:
        """Product of the steps of a path."""
        found = Fraction(1)
        for level, token in enumerate(path):
            found *= self.children[path[:level]][token]
        return found

    def level(self, level: int) -> Law[Path]:
        """Probability of every prefix of a length, the impossible ones included."""
        prefixes: list[Path] = [()]
        for _ in range(level):
            prefixes = [child for prefix in prefixes for child in self.below(prefix)]
        return {prefix: self.probability(prefix) for prefix in prefixes}

    def items(self) -> Law[Path]:
        """Probability of every item."""
        return self.level(self.depth)

    def changed(
        self, change: Callable[[Path, Mapping[int, Fraction]], Mapping[int, Fraction]]
    ) -> TreeLaw:
        """Put other probabilities in place of each node's own."""
        found = {prefix: change(prefix, masses) for prefix, masses in self.children.items()}
        return TreeLaw(self.depth, found)


def normalised(weights: Mapping[Outcome, Fraction]) -> Law[Outcome]:
    """Divide by the sum, which must not be zero."""
    total = sum(weights.values(), Fraction(0))
    return {outcome: weight / total for outcome, weight in weights.items()}


def positive(law: Mapping[Outcome, Fraction]) -> Law[Outcome]:
    """Leave out what is impossible."""
    return {outcome: mass for outcome, mass in law.items() if mass > 0}


def without_replacement(
    weights: Mapping[Outcome, Fraction], count: int
) -> Law[tuple[Outcome, ...]]:
    """Law of `count` ordered draws without replacement, of all where fewer are possible.

    P(y1 .. yk) is the product of w(yi) / (total - w of those before).
    """
    live = positive(weights)
    found: Law[tuple[Outcome, ...]] = {(): Fraction(1)}
    for _ in range(min(count, len(live))):
        longer: Law[tuple[Outcome, ...]] = {}
        for drawn, mass in found.items():
            left = {outcome: live[outcome] for outcome in live if outcome not in drawn}
            for outcome, share in normalised(left).items():
                longer[*drawn, outcome] = mass * share
        found = longer
    return found


def sets_without_replacement(
    weights: Mapping[Outcome, Fraction], count: int
) -> Law[frozenset[Outcome]]:
    """Law of the set of `count` draws without replacement.

    Which were drawn first does not change the chances of the next, so sets are merged as they grow.
    """
    live = positive(weights)
    total = sum(live.values(), Fraction(0))
    found: Law[frozenset[Outcome]] = {frozenset(): Fraction(1)}
    for _ in range(min(count, len(live))):
        larger: Law[frozenset[Outcome]] = {}
        for drawn, mass in found.items():
            left = total - sum(live[outcome] for outcome in drawn)
            for outcome, weight in live.items():
                if outcome not in drawn:
                    grown = drawn | {outcome}
                    larger[grown] = larger.get(grown, Fraction(0)) + mass * weight / left
        found = larger
    return found


def mapped(law: Mapping[Outcome, Fraction], function: Callable[[Outcome], Other]) -> Law[Other]:
    """Law of a function of the outcome."""
    found: Law[Other] = {}
    for outcome, mass in law.items():
        image = function(outcome)
        found[image] = found.get(image, Fraction(0)) + mass
    return found


def total_variation(one: Mapping[Outcome, Fraction], other: Mapping[Outcome, Fraction]) -> Fraction:
    """Half the sum of absolute differences; 0 says that the laws are the same."""
    both = set(one) | set(other)
    zero = Fraction(0)
    return sum((abs(one.get(key, zero) - other.get(key, zero)) for key in both), zero) / 2


def tempered(law: TreeLaw, power: int) -> TreeLaw:
    """Temperature 1 / power on every step, before steps are multiplied up."""
    return law.changed(
        lambda _, masses: normalised({token: mass**power for token, mass in masses.items()})
    )


def likeliest(masses: Mapping[int, Fraction], top_k: int) -> dict[int, Fraction]:
    """The `top_k` likeliest children, ties to the smaller token; the others get nothing."""
    best = sorted(masses, key=lambda token: (-masses[token], token))[:top_k]
    return {token: mass if token in best else Fraction(0) for token, mass in masses.items()}


def filtered(law: TreeLaw, top_k: int) -> TreeLaw:
    """Only the `top_k` likeliest children of each prefix."""
    return law.changed(lambda _, masses: normalised(likeliest(masses, top_k)))


def tree_of(depth: int, weights: Mapping[Path, Iterable[int]]) -> TreeLaw:
    """A law from integer weights of the children 0, 1, ... of each prefix."""
    children = {
        prefix: normalised({token: Fraction(weight) for token, weight in enumerate(row)})
        for prefix, row in weights.items()
    }
    return TreeLaw(depth, children)


def random_tree(source: random.Random, depth: int, branching: int, zeros: float = 0.2) -> TreeLaw:
    """A tree with 1 .. `branching` children below each prefix, some of them impossible.

    The root has `branching` children, so that a beam has something to choose from.
    """
    weights: dict[Path, list[int]] = {}
    prefixes: list[Path] = [()]
    for _ in range(depth):
        below: list[Path] = []
        for prefix in prefixes:
            count = source.randint(1, branching) if prefix else branching
            row = [0 if source.random() < zeros else source.randint(1, 9) for _ in range(count)]
            row[source.randrange(count)] = source.randint(1, 9)
            weights[prefix] = row
            below += [(*prefix, token) for token in range(count)]
        prefixes = below
    return tree_of(depth, weights)


def random_law(source: random.Random, size: int, zeros: float = 0.2) -> Law[int]:
    """Probabilities of 0 .. size - 1, some of them zero."""
    row = [0 if source.random() < zeros else source.randint(1, 12) for _ in range(size)]
    row[source.randrange(size)] = source.randint(1, 12)
    return normalised(dict(enumerate(map(Fraction, row))))
