"""From what watches of a search were told to the messages of the API."""

from collections.abc import Sequence

import numpy as np

from orchestrator.debug import Details, Node, Round, Span
from orchestrator.items import ItemEntry
from orchestrator.preview import best_first, items_below
from orchestrator.streaming import LevelNews
from specbeam.catalog import PAD, ItemTrie
from specbeam.drafting.choosing import TreeEstimate
from specbeam.recommend.v1 import recommend_service_pb2 as pb
from specbeam.recommend.v1 import types_pb2 as types


def from_preview(
    news: LevelNews, guesses: np.ndarray, entries: Sequence[ItemEntry]
) -> pb.RootPreview:
    """Return the preview of level 1.

    Args:
        news: The exact beams of level 1.
        guesses: Item indices, best first. Shape (n,).
        entries: Their catalogue entries, if asked for; else empty.
    """
    trie = news.serving.trie
    items = [pb.PreviewItem(item_id=trie.item_id(item)) for item in guesses.tolist()]
    for item, entry in zip(items, entries, strict=False):
        item.metadata.CopyFrom(from_entry(entry))
    return pb.RootPreview(beams=_prefixes(news, trie), guesses=items, elapsed_ms=news.elapsed_ms)


def from_level(news: LevelNews) -> pb.VerifiedLevel:
    """Return the news of a deeper level."""
    return pb.VerifiedLevel(
        level=news.beams.level,
        beams=_prefixes(news, news.serving.trie),
        elapsed_ms=news.elapsed_ms,
    )


def from_entry(entry: ItemEntry) -> types.ItemMetadata:
    """Return the catalogue entry of an item."""
    return types.ItemMetadata(
        title=entry.title,
        topics=entry.topics,
        popularity=max(0, entry.popularity),
        created_at_ms=entry.created_at_ms,
    )


def add_details(message: types.DebugInfo, details: Details) -> None:
    """Add the rounds and the spans of a request to what is told about it."""
    message.rounds.extend(_round(one) for one in details.rounds)
    message.spans.extend(_span(one) for one in details.spans)


def _prefixes(news: LevelNews, trie: ItemTrie) -> list[pb.Prefix]:
    beams = news.beams
    _, sizes = items_below(trie, beams)
    return [
        pb.Prefix(
            tokens=[token for token in beams.tokens[place].tolist() if token != PAD],
            score=beams.scores[place],
            rank_value=beams.scores[place],
            num_items=int(sizes[place]),
        )
        for place in best_first(beams).tolist()
    ]


def _round(one: Round) -> types.DebugRound:
    return types.DebugRound(
        base_level=one.base_level,
        level=one.level,
        step=one.step,
        rows=one.rows,
        forward_ms=one.forward_ms,
        nodes=map(_node, one.nodes),
        estimate=None if one.estimate is None else _estimate(one.estimate),
    )


def _node(node: Node) -> types.DebugNode:
    return types.DebugNode(
        tokens=node.tokens,
        fate=types.NodeFate.Value(f"NODE_FATE_{node.fate.value}"),
        source=node.source,
        draft_score=node.draft_score,
        target_score=node.target_score,
    )


def _estimate(estimate: TreeEstimate) -> types.TreeEstimate:
    return types.TreeEstimate(
        ms=estimate.ms, plain_ms=estimate.plain_ms, coverage=estimate.coverage
    )


def _span(span: Span) -> types.DebugSpan:
    return types.DebugSpan(
        name=span.name, start_ns=span.start_ns, end_ns=span.end_ns, round=span.round
    )
