"""One search as a picture sees it: the last word on every prefix, level by level."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from specbeam.client_debug import DebugNode, DebugRound
from specbeam.client_types import Recommendation, RecommendedItem

Path = tuple[int, ...]

TREE = "tree"
# Source of exact beams that nobody drafted and that had a row nevertheless.
TARGET = "target"
EXACT_KINDS = ("accepted", "own", "missed")
KINDS = (*EXACT_KINDS, "rejected", "unreached")


@dataclass(frozen=True, slots=True)
class Prefix:
    """One prefix.

    Attributes:
        tokens: Token path.
        kind: accepted, own (the target got there without a draft), missed, rejected or unreached.
        source: Drafter that spoke most for it; empty = nobody drafted it.
        draft_score: Of the drafters; None = not drafted.
        target_score: Of the target; None = not told.
        round: Round that said so, counted from 0.
    """

    tokens: Path
    kind: str
    source: str
    draft_score: float | None
    target_score: float | None
    round: int

    @property
    def exact(self) -> bool:
        """Whether it is an exact beam."""
        return self.kind in EXACT_KINDS

    @property
    def score(self) -> float:
        """What it is stacked by: the target's score, else the drafters'."""
        known = self.target_score if self.target_score is not None else self.draft_score
        return float("-inf") if known is None else known


@dataclass(frozen=True, slots=True)
class Level:
    """One level of the search.

    Attributes:
        number: Tokens of its prefixes.
        prefixes: Exact beams first, then by score, descending.
        round: Round that settled it; None = none did.
        step: How the target was asked in that round.
    """

    number: int
    prefixes: tuple[Prefix, ...]
    round: int | None
    step: str

    def count(self, kind: str) -> int:
        """Return how many prefixes are of a kind."""
        return sum(prefix.kind == kind for prefix in self.prefixes)

    @property
    def num_exact(self) -> int:
        """Number of exact beams."""
        return sum(prefix.exact for prefix in self.prefixes)

    @property
    def num_covered(self) -> int:
        """Exact beams that had a row when the level was settled."""
        return self.num_exact - self.count("missed")


@dataclass(frozen=True, slots=True)
class Search:
    """What there is to draw of one answer.

    Attributes:
        levels: Levels 1 .. L - 1; the last level are the items.
        item_length: L.
        left_out: Drafted nodes the server did not send.
    """

    levels: tuple[Level, ...]
    item_length: int
    left_out: int

    def find(self, tokens: Path) -> Prefix | None:
        """Return the prefix with these tokens; None where it is not known."""
        if not 0 < len(tokens) <= len(self.levels):
            return None
        level = self.levels[len(tokens) - 1]
        return next((prefix for prefix in level.prefixes if prefix.tokens == tokens), None)


def search_of(answer: Recommendation) -> Search:
    """Return the search behind an answer.

    Raises:
        ValueError: The answer carries no details.
    """
    if answer.debug is None or not answer.debug.rounds:
        raise ValueError("the answer carries no details of its rounds")
    rounds = answer.debug.rounds
    length = max(rounds[-1].level, *(len(item.tokens) for item in answer.items), 1)
    known: dict[Path, Prefix] = {}
    for number, one in enumerate(rounds):
        for node in one.nodes:
            known[node.tokens] = _latest(known.get(node.tokens), _prefix(node, one, number))
    levels = tuple(_level(level, known, rounds) for level in range(1, length))
    sent = sum(node.draft_score is not None for one in rounds for node in one.nodes)
    return Search(levels, length, max(0, answer.work.drafted_nodes - sent))


def headline(answer: Recommendation, search: Search) -> str:
    """Return in one or two sentences how the search went."""
    passes = f"{answer.work.passes} passes of the target"
    trees = answer.work.rounds
    if not trees:
        return f"Nothing was drafted: plain beam search, {passes}."
    missed = [(level.count("missed"), level) for level in search.levels if level.count("missed")]
    plain = search.item_length
    if not missed:
        which = "One tree" if trees == 1 else f"{trees} trees"
        return f"{which} settled every level: {passes}; plain search needs {plain}."
    told = ", ".join(
        f"{count} of {level.num_exact} exact beams on level {level.number}"
        for count, level in missed
    )
    return (
        f"Nobody drafted {told}; the target went on from them by itself. "
        f"{passes[0].upper()}{passes[1:]}; plain search needs {plain}."
    )


def sources_of(search: Search) -> list[tuple[str, int, int]]:
    """Return each drafter with the prefixes it spoke most for and the exact beams among them."""
    drafted: Counter[str] = Counter()
    exact: Counter[str] = Counter()
    for level in search.levels:
        for prefix in level.prefixes:
            if prefix.draft_score is not None:
                drafted[prefix.source] += 1
                exact[prefix.source] += prefix.exact
    return [(name, count, exact[name]) for name, count in drafted.most_common()]


def provenance(item: RecommendedItem, search: Search) -> tuple[str, ...]:
    """Return who brought each prefix of an item, level by level."""
    told = []
    for length in range(1, min(len(item.tokens), len(search.levels) + 1)):
        prefix = search.find(item.tokens[:length])
        if prefix is None:
            told.append("?")
        else:
            told.append(prefix.source if prefix.kind == "accepted" else prefix.kind)
    return tuple(told)


def _prefix(node: DebugNode, one: DebugRound, number: int) -> Prefix:
    kind = node.fate
    # An exact beam of a round without a tree was not missed: nobody was asked for it.
    if node.source == TARGET or (kind == "missed" and one.step != TREE):
        kind = "own"
    source = "" if node.source == TARGET else node.source
    return Prefix(node.tokens, kind, source, node.draft_score, node.target_score, number)


def _latest(old: Prefix | None, new: Prefix) -> Prefix:
    """The round that settles a level has the last word on it; who drafted it stays known."""
    if old is None:
        return new
    if new.kind == "unreached":
        return old
    if new.draft_score is None:
        return replace(new, source=old.source, draft_score=old.draft_score)
    return new


def _level(number: int, known: dict[Path, Prefix], rounds: tuple[DebugRound, ...]) -> Level:
    settled = (at for at, one in enumerate(rounds) if one.base_level < number <= one.level)
    at = next(settled, None)
    prefixes = [prefix for path, prefix in known.items() if len(path) == number]
    ordered = sorted(prefixes, key=lambda one: (not one.exact, -one.score, one.tokens))
    return Level(number, tuple(ordered), at, "" if at is None else rounds[at].step)
