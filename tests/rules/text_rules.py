"""Verification rules for sampled text, written as their papers say them, and wrong ones.

They are specimens: they show that the kit tells a right rule from a wrong one.  A rule emits the
tokens of one step, at least one.  Children of a node are drawn when it is visited; those of nodes
that are never visited matter to nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from fractions import Fraction

from tests.rules.enumeration import Choices, law_of
from tests.rules.laws import Law, Path, TreeLaw, normalised, positive

Masses = Mapping[int, Fraction]
Rule = Callable[[Choices], Path]
ZERO = Fraction(0)


def text_law(p: TreeLaw, rule: Rule) -> Law[Path]:
    """Law of texts of full length: one step of the rule, then plain sampling."""

    def program(choices: Choices) -> Path:
        text = rule(choices)
        while len(text) < p.depth:
            text = (*text, choices.draw(p.children[text]))
        return text

    return law_of(program)


def mean_tokens(rule: Rule) -> Fraction:
    """Tokens that one step of the rule emits on average."""
    return sum((len(text) * mass for text, mass in law_of(rule).items()), ZERO)


def residual(p: Masses, q: Masses) -> Law[int]:
    """[p - q]+ normalised; p where nothing is left."""
    left = positive({token: mass - q.get(token, ZERO) for token, mass in p.items()})
    return normalised(left) if left else dict(p)


def without(q: Masses, token: int) -> Law[int]:
    """Q with one token removed, normalised; empty where nothing is left."""
    left = positive({other: mass for other, mass in q.items() if other != token})
    return normalised(left) if left else {}


# ---------------------------------------------------------------- deterministic drafts


def sample_then_match(p: TreeLaw, tree: Collection[Path]) -> Rule:
    """R2: draw from the target; go on while the drawn token is a child.  It is always emitted."""

    def rule(choices: Choices) -> Path:
        text: Path = (choices.draw(p.children[()]),)
        while text in tree:
            text = (*text, choices.draw(p.children[text]))
        return text

    return rule


def match_children_in_turn(p: TreeLaw, tree: Collection[Path]) -> Rule:
    """R2 told sequentially: each child by its share of what is left, else p without children."""

    def rule(choices: Choices) -> Path:
        text: Path = ()
        while True:
            left = dict(p.children[text])
            token = None
            for child in children_of(tree, text):
                if choices.flip(left[child] / sum(left.values()) if any(left.values()) else ZERO):
                    token = child
                    break
                left[child] = ZERO
            if token is None:
                return (*text, choices.draw(left))
            text = (*text, token)

    return rule


def redrawn(p: TreeLaw, tree: Collection[Path]) -> Rule:
    """M1: a drawn token that is no child is thrown away and drawn again."""

    def rule(choices: Choices) -> Path:
        text: Path = ()
        while True:
            token = choices.draw(p.children[text])
            if (*text, token) not in tree:
                return (*text, choices.draw(p.children[text]))
            text = (*text, token)

    return rule


def drawn_per_branch(p: TreeLaw, tree: Collection[Path]) -> Rule:
    """M2: every branch draws a token of its own at a node that it shares with others."""

    def rule(choices: Choices) -> Path:
        text: Path = ()
        while True:
            matched = None
            drawn = None
            for child in children_of(tree, text):
                drawn = choices.draw(p.children[text])
                if drawn == child:
                    matched = child
                    break
            if matched is None:
                return (*text, choices.draw(p.children[text]) if drawn is None else drawn)
            text = (*text, matched)

    return rule


def children_of(tree: Collection[Path], prefix: Path) -> list[int]:
    """Drafted tokens below a prefix."""
    return sorted(path[-1] for path in tree if path and path[:-1] == prefix)


# ---------------------------------------------------------------- sampled drafts


def rejection(
    p: TreeLaw,
    drawn_from: TreeLaw,
    length: int,
    tested_with: TreeLaw | None = None,
    bonus_below: int = 0,
) -> Rule:
    """R3: a chain; keep x with probability min(1, p/q), else draw from [p - q]+ and stop.

    `tested_with` another law than the one drawn from is M7, a bonus from a node `bonus_below` the
    leaf's number of tokens is M6.
    """
    q = tested_with or drawn_from

    def rule(choices: Choices) -> Path:
        text: Path = ()
        while len(text) < length:
            token = choices.draw(drawn_from.children[text])
            target, draft = p.children[text], q.children[text]
            if not choices.flip(_ratio(target[token], draft[token])):
                return (*text, choices.draw(residual(target, draft)))
            text = (*text, token)
        return (*text, choices.draw(p.children[text[: length - bonus_below]]))

    return rule


def siblings(p: TreeLaw, q: TreeLaw, branching: tuple[int, ...]) -> Rule:
    """R4: several independent draws a node, each tested against what the others left of p."""

    def rule(choices: Choices) -> Path:
        text: Path = ()
        for count in branching:
            target, draft = p.children[text], q.children[text]
            for _ in range(count):
                token = choices.draw(draft)
                if choices.flip(_ratio(target[token], draft[token])):
                    break
                target = {**dict.fromkeys(target, ZERO), **residual(target, draft)}
            else:
                return (*text, choices.draw(target))
            text = (*text, token)
        return (*text, choices.draw(p.children[text]))

    return rule


def siblings_without_replacement(
    p: TreeLaw,
    q: TreeLaw,
    branching: tuple[int, ...],
    renormalise: bool = True,
    drawn: bool = True,
) -> Rule:
    """R5: as R4, but a rejected child leaves q, too.

    Not to renormalise q is M4; to take the likeliest children of q instead of drawing is M3.
    """

    def rule(choices: Choices) -> Path:
        text: Path = ()
        for count in branching:
            target, draft = p.children[text], dict(q.children[text])
            left = dict(draft)  # what the next child is drawn from
            for _ in range(count):
                if not any(left.values()):
                    return (*text, choices.draw(target))
                token = choices.draw(left) if drawn else max(left, key=lambda t: (left[t], -t))
                if choices.flip(_ratio(target[token], draft[token])):
                    break
                target = {**dict.fromkeys(target, ZERO), **residual(target, draft)}
                left = without(left, token)
                if renormalise:
                    draft = {**dict.fromkeys(draft, ZERO), **left}
            else:
                return (*text, choices.draw(target))
            text = (*text, token)
        return (*text, choices.draw(p.children[text]))

    return rule


def leaf_to_root(p: TreeLaw, q: TreeLaw, branching: tuple[int, ...]) -> Rule:
    """R6: a node is judged after everything below it has been rejected."""

    def visit(choices: Choices, path: Path, reach: Fraction) -> Path | None:
        target, draft = dict(p.children[path]), dict(q.children[path])
        for _ in range(branching[len(path)] if len(path) < len(branching) else 0):
            if not any(draft.values()):
                break
            token = choices.draw(draft)
            below = min(Fraction(1), reach * _ratio(target[token], draft[token]))
            found = visit(choices, (*path, token), below)
            if found is not None:
                return found
            excess = positive({t: reach * mass - draft.get(t, ZERO) for t, mass in target.items()})
            left = sum(excess.values(), ZERO)
            if left:
                target = {**dict.fromkeys(target, ZERO), **normalised(excess)}
            # Where this is 0/0 the child was accepted for certain, and nobody gets here.
            reach = left / (left + 1 - reach) if left else ZERO
            draft = without(draft, token)
        return (*path, choices.draw(target)) if choices.flip(reach) else None

    def rule(choices: Choices) -> Path:
        found = visit(choices, (), Fraction(1))
        if found is None:
            raise AssertionError("the root always accepts")
        return found

    return rule


def _ratio(target: Fraction, draft: Fraction) -> Fraction:
    """Chance to keep a token; one that the law tested with excludes is kept."""
    return target / draft if draft else Fraction(1)
