"""The slow, obvious beam search every fast path is compared with.

It shares nothing with the fast path, not even the catalogue: a dict trie of the items a filter
admits, one cache-free forward over the whole prefix of every beam, Python's `sorted` on (-score,
path).  Used by tests and never by a service.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

PAD = -1
HOUR_MS = 3_600_000

Path = tuple[int, ...]
# Logits (or log-probabilities: any constant may be added) of every vocabulary id after each of
# several token sequences of equal length.
NextLogits = Callable[[Sequence[Sequence[int]]], Sequence[Sequence[float]]]


@dataclass(frozen=True, slots=True)
class CatalogItem:
    """What the catalogue knows of one item.

    Attributes:
        path: its tokens, an end token included if the catalogue has one; no padding.
        popularity: interaction count.
        tags: names of its tags.
        created_at_ms: creation time, milliseconds since the epoch; None = unknown.
    """

    path: Path
    popularity: int = 0
    tags: frozenset[str] = frozenset()
    created_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class PlainFilter:
    """An item filter as a predicate on one item.

    Attributes:
        excluded: item ids that must not be returned.
        allowed: if given, the only item ids that may be returned.
        required_tags: each group needs at least one of its tags on the item.
        created_after_ms: oldest creation time, rounded up to a whole hour; an item of unknown age
            is too old.
    """

    excluded: Collection[str] = ()
    allowed: Collection[str] | None = None
    required_tags: tuple[tuple[str, ...], ...] = ()
    created_after_ms: int | None = None

    def admits(self, item_id: str, item: CatalogItem) -> bool:
        """Tell whether `item` may be returned."""
        if item_id in self.excluded:
            return False
        if self.allowed is not None and item_id not in self.allowed:
            return False
        if not all(any(tag in item.tags for tag in group) for group in self.required_tags):
            return False
        if self.created_after_ms is None:
            return True
        oldest = math.ceil(self.created_after_ms / HOUR_MS) * HOUR_MS
        return item.created_at_ms is not None and item.created_at_ms >= oldest


@dataclass(frozen=True, slots=True)
class ReferenceSampling:
    """Items drawn without replacement instead of the best ones.

    Attributes:
        noise: standard Gumbel noise of a prefix (padded).
        temperature: logits are divided by it.
        top_k: only so many of the likeliest children of a prefix may follow it; 0 = all.
    """

    noise: Callable[[Path], float]
    temperature: float = 1.0
    top_k: int = 0


@dataclass(frozen=True, slots=True)
class ReferenceSpec:
    """What is searched for.

    Attributes:
        prompt: prompt tokens.
        beam_width: W.
        num_items: K, at most W.
        convention: what a next token's probability is relative to.  VOCAB: the whole vocabulary.
            LEVEL: the codebook of the token's level.  TRIE: the children that lead to an admitted
            item.
        codebooks: token ids of each level, used or not; None = those the catalogue uses there.
        item_filter: which items may be returned.
        sampling: draw items; None = take the best.  Only under TRIE.
    """

    prompt: Sequence[int]
    beam_width: int
    num_items: int
    convention: Literal["VOCAB", "LEVEL", "TRIE"] = "VOCAB"
    codebooks: Sequence[Collection[int]] | None = None
    item_filter: PlainFilter = field(default_factory=PlainFilter)
    sampling: ReferenceSampling | None = None


class Beam(NamedTuple):
    """A prefix, its cumulative log-probability and the value it is ordered by."""

    score: float
    path: Path
    rank: float


@dataclass(frozen=True, slots=True)
class ReferenceItem:
    """One returned item; `path` is unpadded."""

    item_id: str
    score: float
    path: Path
    rank: float


@dataclass(frozen=True, slots=True)
class ReferenceAnswer:
    """The best items, and how the search came to them.

    Attributes:
        items: at most K items, best first.
        candidates: of each level 1 .. L every continuation of the beams of the level before, best
            first (padded paths).  The first W are the beams.
        asked: of each level 0 .. L - 1 how many beams needed the model to go on.
    """

    items: tuple[ReferenceItem, ...]
    candidates: tuple[tuple[Beam, ...], ...]
    asked: tuple[int, ...]


def reference_beam_search(
    catalog: Mapping[str, CatalogItem], spec: ReferenceSpec, next_logits: NextLogits
) -> ReferenceAnswer:
    """Return the K best items by beam search of width W over the trie of the admitted items.

    All paths are padded to the longest one's length L.  Padding adds 0 to a score and needs no law,
    and so does, under TRIE, the only child of a prefix.  Beams are ordered by rank descending,
    then padded path ascending; the items of one path by popularity descending, then id ascending.
    The rank is the score unless items are drawn.

    Args:
        catalog: every item by its id, whether admitted or not.
        spec: what is searched for.
        next_logits: the model.

    Raises:
        ValueError: under LEVEL, a token is not in its level's codebook.
    """
    depth = max(len(item.path) for item in catalog.values())
    codebooks = spec.codebooks or _used_tokens(catalog, depth)
    children: dict[Path, set[int]] = {}
    items_of: dict[Path, list[str]] = {}
    for item_id, item in catalog.items():
        if spec.item_filter.admits(item_id, item):
            path = item.path + (PAD,) * (depth - len(item.path))
            items_of.setdefault(path, []).append(item_id)
            for level in range(depth):
                children.setdefault(path[:level], set()).add(path[level])

    rank = 0.0 if spec.sampling is None else spec.sampling.noise(())
    beams = [Beam(0.0, (), rank)] if children else []
    candidates: list[tuple[Beam, ...]] = []
    asked: list[int] = []
    for level in range(depth):
        unsure = [beam for beam in beams if not _is_certain(children[beam.path], spec)]
        prefixes = [[*spec.prompt, *beam.path] for beam in unsure]
        after = next_logits(prefixes) if unsure else []
        laws = dict(zip([beam.path for beam in unsure], after, strict=True))
        asked.append(len(unsure))
        found: list[Beam] = []
        for beam in beams:
            steps = dict.fromkeys(children[beam.path], 0.0)
            if beam.path in laws:
                logits = laws[beam.path]
                among = _denominator(spec, codebooks[level], children[beam.path], len(logits))
                steps = _law(logits, children[beam.path], among, spec.sampling)
            found += _continued(beam, steps, spec.sampling)
        found.sort(key=lambda beam: (-beam.rank, beam.path))
        candidates.append(tuple(found))
        beams = found[: spec.beam_width]

    items: list[ReferenceItem] = []
    for score, path, rank in beams:
        for item_id in sorted(items_of[path], key=lambda name: (-catalog[name].popularity, name)):
            items.append(ReferenceItem(item_id, score, catalog[item_id].path, rank))
    return ReferenceAnswer(tuple(items[: spec.num_items]), tuple(candidates), tuple(asked))


def _used_tokens(catalog: Mapping[str, CatalogItem], depth: int) -> list[set[int]]:
    return [
        {item.path[level] for item in catalog.values() if level < len(item.path)}
        for level in range(depth)
    ]


def _is_certain(children: set[int], spec: ReferenceSpec) -> bool:
    """Whether the next step costs nothing whatever the model says."""
    return children == {PAD} or (spec.convention == "TRIE" and len(children) == 1)


def _denominator(
    spec: ReferenceSpec, codebook: Collection[int], children: set[int], vocab_size: int
) -> Collection[int]:
    if spec.convention == "VOCAB":
        return range(vocab_size)
    return codebook if spec.convention == "LEVEL" else children


def _law(
    logits: Sequence[float],
    wanted: Collection[int],
    among: Collection[int],
    sampling: ReferenceSampling | None,
) -> dict[int, float]:
    """Log-probabilities of the tokens that may follow."""
    if sampling is None:
        return _log_softmax(logits, wanted, among)
    likeliest = sorted(wanted, key=lambda token: (-logits[token], token))
    kept = likeliest[: sampling.top_k or None]
    tempered = {token: logits[token] / sampling.temperature for token in kept}
    largest = max(tempered.values())
    total = largest + math.log(math.fsum(math.exp(x - largest) for x in tempered.values()))
    return {token: tempered[token] - total for token in kept}


def _continued(
    beam: Beam, steps: Mapping[int, float], sampling: ReferenceSampling | None
) -> list[Beam]:
    """Every continuation of a beam.

    Drawn without replacement means: every item arrives at a random time, exponential with its
    probability as the rate, and the first ones win.  A prefix arrives with its first item, so one
    of its continuations arrives when it does, and the others as much later as they are slower.
    Ranks are times on a logarithmic scale, turned round.
    """
    scores = {token: beam.score + step for token, step in steps.items()}
    if sampling is None:
        return [Beam(score, (*beam.path, token), score) for token, score in scores.items()]
    times = {
        token: math.exp(-(score + sampling.noise((*beam.path, token))))
        for token, score in scores.items()
    }
    arrival, first = math.exp(-beam.rank), min(times.values())
    return [
        Beam(scores[token], (*beam.path, token), -math.log(arrival + (times[token] - first)))
        for token in scores
    ]


def _log_softmax(
    logits: Sequence[float], wanted: Collection[int], among: Collection[int]
) -> dict[int, float]:
    """Log-probabilities of `wanted` tokens relative to all tokens `among` which they are."""
    if not set(wanted) <= set(among):
        raise ValueError(f"tokens {sorted(set(wanted) - set(among))} are in no codebook")
    largest = max(logits[token] for token in among)
    total = largest + math.log(math.fsum(math.exp(logits[token] - largest) for token in among))
    return {token: logits[token] - total for token in wanted}
