"""Made-up answers with details, for tests of pictures."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from specbeam.client import (
    DebugInfo,
    DebugNode,
    DebugRound,
    DebugSpan,
    Fingerprints,
    ForwardInterval,
    ItemMetadata,
    Recommendation,
    RecommendedItem,
    Timings,
    Work,
)

MS = 1_000_000


def item(
    number: int, tokens: tuple[int, ...], title: str = "", item_id: str = ""
) -> RecommendedItem:
    """An item; better ones first."""
    metadata = ItemMetadata(title, (), 3, None) if title else None
    score = -1.0 - number
    return RecommendedItem(item_id or f"i{number}", score, "vocab", score, tokens, number, metadata)


def answer(
    rounds: Sequence[DebugRound],
    items: Sequence[RecommendedItem],
    *,
    drafted: int | None = None,
    degraded: tuple[str, ...] = (),
) -> Recommendation:
    """An answer of three levels with these rounds; its times are made up."""
    count = sum(node.draft_score is not None for one in rounds for node in one.nodes)
    trees = sum(one.step == "tree" for one in rounds)
    spans = [DebugSpan("history", 0, MS), DebugSpan("open", MS, 8 * MS, 0)]
    spans += [DebugSpan("draft", 8 * MS, 10 * MS, 1), DebugSpan("tree", 10 * MS, 11 * MS, 1)]
    spans += [DebugSpan("verify", 11 * MS, 19 * MS, 1), DebugSpan("rank", 19 * MS, 20 * MS)]
    forwards = [
        ForwardInterval("target", 2 * MS, 7 * MS),
        ForwardInterval("draft", 3 * MS, 5 * MS),
        ForwardInterval("target", 12 * MS, 18 * MS),
    ]
    return Recommendation(
        items=tuple(items),
        mode="exact_topk",
        degraded=degraded,
        exhausted=False,
        fingerprints=Fingerprints("m" * 16, "p" * 16, "c" * 16),
        work=Work(
            passes=len(rounds),
            rows=sum(one.rows for one in rounds),
            prompt_rows=9,
            prompt_tokens=9,
            cached_tokens=0,
            accepted_levels=0,
            drafted_nodes=count if drafted is None else drafted,
            dropped_nodes=0,
            rounds=trees,
            speculation_used=trees > 0,
            flow="root_first" if trees else "plain",
        ),
        timings=Timings(20.0, 1.0, 2.0, 15.0, 11.0),
        debug=DebugInfo((1, 2), tuple(forwards), {}, tuple(rounds), tuple(spans)),
        bundle="b",
        request_id="r",
    )


def prompt_round(width: int = 2) -> DebugRound:
    """Level 1, told by the prompt."""
    nodes = [DebugNode((n,), "missed", target_score=-0.5 - n) for n in range(width)]
    return DebugRound(0, 1, "prompt", 0, 5.0, tuple(nodes))


def lucky() -> Recommendation:
    """One tree holds every beam."""
    nodes = (
        DebugNode((0, 5), "accepted", "model", -1.0, -1.1),
        DebugNode((1, 6), "accepted", "pool", -1.4, -1.3),
        DebugNode((0, 7), "rejected", "model", -2.0, -2.5),
    )
    tree = DebugRound(1, 3, "tree", 5, 6.0, nodes)
    return answer([prompt_round(), tree], [item(0, (0, 5, 8)), item(1, (1, 6, 9))])


def unlucky() -> Recommendation:
    """Nobody drafted one beam of level 2, and level 3 was drafted in vain."""
    tree = DebugRound(
        1,
        2,
        "tree",
        6,
        6.0,
        (
            DebugNode((0, 5), "accepted", "model", -1.0, -1.1),
            DebugNode((1, 6), "missed", target_score=-1.3),
            DebugNode((0, 7), "rejected", "cooccurrence", -2.0, -2.5),
            DebugNode((0, 5, 8), "unreached", "model", -3.0),
            DebugNode((0, 5, 2), "unreached", "model", -3.5),
        ),
    )
    run = DebugRound(
        2,
        4,
        "run",
        2,
        4.0,
        (
            DebugNode((0, 5, 8), "accepted", "target", target_score=-2.0),
            DebugNode((1, 6, 9), "accepted", "target", target_score=-2.1),
        ),
    )
    return answer([prompt_round(), tree, run], [item(0, (0, 5, 8, 3)), item(1, (1, 6, 9, 4))])


def large(width: int, drafted: int, seed: int = 0) -> Recommendation:
    """Many beams, many more drafted prefixes."""
    rng = np.random.default_rng(seed)
    nodes = [
        DebugNode((n % width, n), "accepted", "model", -1.0 - n / 9, -1.0 - n / 9)
        for n in range(width)
    ]
    nodes += [
        DebugNode(
            (n % width, n), "rejected", "popularity", -9.0 - float(rng.random()), -9.0 - n / 99
        )
        for n in range(width, width + drafted)
    ]
    tree = DebugRound(1, 3, "tree", width + drafted, 9.0, tuple(nodes))
    items = [item(n, (n, n, 1)) for n in range(width)]
    return answer([prompt_round(width), tree], items)


def renamed(made: Recommendation, name: str) -> Recommendation:
    """The same answer with a name in every place where names are shown."""
    items = [
        replace(one, item_id=name, metadata=ItemMetadata(name, (), 1, None)) for one in made.items
    ]
    assert made.debug is not None
    rounds = [
        replace(one, nodes=tuple(replace(n, source=name if n.source else "") for n in one.nodes))
        for one in made.debug.rounds
    ]
    return replace(
        made,
        items=tuple(items),
        bundle=name,
        request_id=name,
        mode=name,
        degraded=(name,),
        debug=replace(made.debug, rounds=tuple(rounds)),
    )
