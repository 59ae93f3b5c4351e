"""Conversion of what the Python client takes and returns to and from messages."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from specbeam.client_debug import (
    DebugInfo,
    DebugNode,
    DebugRound,
    DebugSpan,
    ForwardInterval,
    TreeEstimate,
)
from specbeam.client_types import (
    BundleInfo,
    Fingerprints,
    Interaction,
    ItemMetadata,
    Recommendation,
    RecommendedItem,
    RecommendOptions,
    ServerInfo,
    TagInfo,
    Timings,
    UserHistory,
    Work,
)
from specbeam.recommend.v1 import recommend_service_pb2 as service_pb2
from specbeam.recommend.v1 import types_pb2

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def encode_request(user_id: str, options: RecommendOptions) -> service_pb2.RecommendRequest:
    """Return the message that asks for recommendations.

    Raises:
        TypeError: There is no such option, or one is of another type.
        ValueError: An option has no such value.
    """
    unknown = options.keys() - RecommendOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"recommend takes no option {', '.join(sorted(unknown))}")
    degradations = options.get("allowed_degradations", ())
    return service_pb2.RecommendRequest(
        bundle=options.get("bundle", ""),
        user_id=user_id,
        events=encode_interactions(options.get("events", ())),
        num_items=options.get("num_items", 0),
        beam_width=options.get("beam_width", 0),
        speculation=enum_value(types_pb2.Speculation, options.get("speculation", "auto")),
        allowed_degradations=[enum_value(types_pb2.Degradation, name) for name in degradations],
        max_rows=options.get("max_rows", 0),
        filter=encode_filter(options),
        include_metadata=options.get("include_metadata", False),
        debug=options.get("debug", False),
        mode=_mode(options),
        seed=options.get("seed"),
        sampling=_encode_sampling(options),
    )


def _mode(options: RecommendOptions) -> "types_pb2.Mode.ValueType":
    """Return the mode; the server's default where none is asked for."""
    if "mode" not in options:
        return types_pb2.MODE_UNSPECIFIED
    mode: types_pb2.Mode.ValueType = enum_value(types_pb2.Mode, options["mode"])
    return mode


def _encode_sampling(options: RecommendOptions) -> types_pb2.Sampling | None:
    """Return the message of the options that say how items are drawn; None without any."""
    temperature = options.get("temperature")
    top_k, draft_width = options.get("top_k", 0), options.get("draft_width", 0)
    if temperature is None and not top_k and not draft_width:
        return None
    return types_pb2.Sampling(temperature=temperature, top_k=top_k, draft_width=draft_width)


def encode_filter(options: RecommendOptions) -> types_pb2.Filter:
    """Return the message of the options that say which items may be returned.

    Raises:
        TypeError: A string stands where a sequence of them belongs.
        ValueError: The allow list is empty, or a datetime has no time zone.
    """
    excluded, allowed = options.get("exclude_item_ids", ()), options.get("allow_item_ids")
    clauses = options.get("required_tags", ())
    for name, value in (
        ("exclude_item_ids", excluded),
        ("allow_item_ids", allowed),
        ("required_tags", clauses),
    ):
        if isinstance(value, str):
            raise TypeError(f"{name} takes a sequence of strings, not a string")
    if allowed is not None and not len(allowed):
        raise ValueError("allow_item_ids is empty: no item could be returned; None = every item")
    created_after = options.get("created_after")
    return types_pb2.Filter(
        exclude_history=options.get("exclude_history"),
        exclude_item_ids=excluded,
        allow_item_ids=() if allowed is None else allowed,
        required_tags=[
            types_pb2.TagClause(any_of=[clause] if isinstance(clause, str) else clause)
            for clause in clauses
        ],
        created_after_ms=None if created_after is None else to_milliseconds(created_after),
    )


def to_milliseconds(moment: datetime | int) -> int:
    """Return a moment in milliseconds since 1970-01-01 UTC, never earlier than it is.

    Raises:
        ValueError: The datetime has no time zone.
    """
    if not isinstance(moment, datetime):
        return moment
    if moment.tzinfo is None:
        raise ValueError("created_after needs a datetime with a time zone")
    return -((_EPOCH - moment) // timedelta(milliseconds=1))


def encode_interactions(events: Sequence[Interaction]) -> list[types_pb2.Interaction]:
    """Return the messages of `events`."""
    return [
        types_pb2.Interaction(
            item_id=e.item_id, event_id=e.event_id, time_ms=e.time_ms, type=e.type
        )
        for e in events
    ]


def decode_recommendation(message: service_pb2.RecommendResponse) -> Recommendation:
    """Return what an answer says."""
    w, t = message.work, message.timings
    return Recommendation(
        items=tuple(_decode_item(item) for item in message.items),
        mode=enum_name(types_pb2.Mode, message.mode),
        degraded=tuple(enum_name(types_pb2.DegradedFlag, flag) for flag in message.degraded),
        exhausted=message.exhausted,
        fingerprints=_decode_fingerprints(message.fingerprints),
        work=Work(
            passes=w.passes,
            rows=w.rows,
            prompt_rows=w.prompt_rows,
            prompt_tokens=w.prompt_tokens,
            cached_tokens=w.cached_tokens,
            accepted_levels=w.accepted_levels,
            drafted_nodes=w.drafted_nodes,
            dropped_nodes=w.dropped_nodes,
            rounds=w.rounds,
            speculation_used=w.speculation_used,
            flow=enum_name(types_pb2.Flow, w.flow),
        ),
        timings=Timings(t.total_ms, t.history_ms, t.draft_ms, t.target_ms, t.forward_ms),
        debug=_decode_debug(message.debug) if message.HasField("debug") else None,
        bundle=message.bundle,
        request_id=message.request_id,
        seed=message.seed if message.HasField("seed") else None,
    )


def decode_history(message: service_pb2.GetHistoryResponse) -> UserHistory:
    """Return what an answer says."""
    events = (Interaction(e.item_id, e.event_id, e.time_ms, e.type) for e in message.events)
    return UserHistory(tuple(events), message.total)


def decode_info(message: service_pb2.GetInfoResponse) -> ServerInfo:
    """Return what an answer says."""
    bundles = (
        BundleInfo(
            name=b.name,
            fingerprints=_decode_fingerprints(b.fingerprints),
            score_kind=enum_name(types_pb2.ScoreKind, b.score_kind),
            item_length=b.item_length,
            num_items=b.num_items,
            default_beam_width=b.default_beam_width,
            exclude_history=b.exclude_history,
            tags=tuple(TagInfo(tag.name, tag.num_items) for tag in b.tags),
            freshness_bucket_ms=b.freshness_bucket_ms,
        )
        for b in message.bundles
    )
    return ServerInfo(
        bundles=tuple(bundles),
        default_bundle=message.default_bundle,
        max_num_items=message.limits.max_num_items,
        max_beam_width=message.limits.max_beam_width,
        max_events=message.limits.max_events,
        max_excluded_items=message.limits.max_excluded_items,
        max_allowed_items=message.limits.max_allowed_items,
        max_tag_clauses=message.limits.max_tag_clauses,
        max_tags_per_clause=message.limits.max_tags_per_clause,
        target_available=message.target_available,
        draft_available=message.draft_available,
        version=message.version,
    )


def enum_name(enum: Any, value: int) -> str:
    """Return the short lower-case name of an enum value, such as ``exact_topk``.

    A value that only a newer server knows is returned as its number.
    """
    names: dict[int, str] = {number: name for name, number in enum.items()}
    prefix = names[0].removesuffix("UNSPECIFIED")
    return names[value].removeprefix(prefix).lower() if value in names else str(value)


def enum_value(enum: Any, name: str) -> Any:
    """Return the enum value of a short lower-case name.

    Raises:
        ValueError: The enum has no such name.
    """
    names = {enum_name(enum, number): number for _, number in enum.items() if number}
    if name not in names:
        raise ValueError(f"{name!r} is not one of {sorted(names)}")
    return names[name]


def _decode_item(item: types_pb2.RecommendedItem) -> RecommendedItem:
    metadata = decode_metadata(item.metadata) if item.HasField("metadata") else None
    return RecommendedItem(
        item_id=item.item_id,
        score=item.score,
        score_kind=enum_name(types_pb2.ScoreKind, item.score_kind),
        rank_value=item.rank_value,
        tokens=tuple(item.tokens),
        verified_rank=item.verified_rank,
        metadata=metadata,
    )


def decode_metadata(metadata: types_pb2.ItemMetadata) -> ItemMetadata:
    """Return the catalogue entry of an item."""
    created_at_ms = metadata.created_at_ms if metadata.HasField("created_at_ms") else None
    topics = tuple(metadata.topics)
    return ItemMetadata(metadata.title, topics, metadata.popularity, created_at_ms)


def _decode_fingerprints(message: types_pb2.Fingerprints) -> Fingerprints:
    return Fingerprints(message.model, message.prompt, message.catalog)


def _decode_debug(message: types_pb2.DebugInfo) -> DebugInfo:
    forwards = (ForwardInterval(f.service, f.start_ns, f.end_ns) for f in message.forwards)
    sources = {source.name: source.nodes for source in message.draft_sources}
    spans = (
        DebugSpan(s.name, s.start_ns, s.end_ns, s.round if s.HasField("round") else None)
        for s in message.spans
    )
    return DebugInfo(
        tuple(message.prompt_token_ids),
        tuple(forwards),
        sources,
        tuple(map(_decode_round, message.rounds)),
        tuple(spans),
    )


def _decode_round(message: types_pb2.DebugRound) -> DebugRound:
    e = message.estimate
    return DebugRound(
        base_level=message.base_level,
        level=message.level,
        step=message.step,
        rows=message.rows,
        forward_ms=message.forward_ms,
        nodes=tuple(map(_decode_node, message.nodes)),
        estimate=(
            TreeEstimate(e.ms, e.plain_ms, tuple(e.coverage))
            if message.HasField("estimate")
            else None
        ),
    )


def _decode_node(message: types_pb2.DebugNode) -> DebugNode:
    return DebugNode(
        tokens=tuple(message.tokens),
        fate=enum_name(types_pb2.NodeFate, message.fate),
        source=message.source,
        draft_score=message.draft_score if message.HasField("draft_score") else None,
        target_score=message.target_score if message.HasField("target_score") else None,
    )
