"""What the Python client takes and returns, and its conversion to and from messages."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from specbeam.recommend.v1 import recommend_service_pb2 as service_pb2
from specbeam.recommend.v1 import types_pb2

Speculation = Literal["auto", "on", "off"]
AllowedDegradation = Literal["no_history"]


def _new_event_id() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Interaction:
    """One thing a user did with an item.

    Attributes:
        item_id: The item.
        event_id: Unique per user, 1-64 bytes; recording it again changes nothing. A
            random one by default.
        time_ms: When, milliseconds since 1970-01-01 UTC; 0 = unknown.
        type: What, such as ``view``; may be empty.
    """

    item_id: str
    event_id: str = field(default_factory=_new_event_id)
    time_ms: int = 0
    type: str = ""


class RecommendOptions(TypedDict, total=False):
    """What `recommend` takes besides the user.

    Attributes:
        events: History to use instead of the stored one, oldest first.
        num_items: Items to return; 0 = the server's default.
        beam_width: Beams of the search, at least `num_items`; 0 = the server's choice.
        bundle: Bundle to answer from; empty = the server's default.
        speculation: Whether to draft; never changes the answer.
        allowed_degradations: What to accept rather than an error.
        max_rows: Most tree rows in one pass of the target; 0 = the server's choice.
        exclude_history: Leave out what the user has interacted with; None = the
            bundle's default.
        exclude_item_ids: Items to leave out.
        include_metadata: Send each item's catalogue entry.
        debug: Send details, if the server allows it.
    """

    events: Sequence[Interaction]
    num_items: int
    beam_width: int
    bundle: str
    speculation: Speculation
    allowed_degradations: Sequence[AllowedDegradation]
    max_rows: int
    exclude_history: bool | None
    exclude_item_ids: Sequence[str]
    include_metadata: bool
    debug: bool


@dataclass(frozen=True, slots=True)
class ItemMetadata:
    """Catalogue entry of an item."""

    title: str
    topics: tuple[str, ...]
    popularity: int
    created_at_ms: int | None


@dataclass(frozen=True, slots=True)
class RecommendedItem:
    """One recommended item.

    Attributes:
        item_id: The item.
        score: Log-probability of its token path.
        score_kind: What the score is a sum of: ``vocab``, ``level`` or ``trie``.
        rank_value: What items are ordered by, descending.
        tokens: Its token path.
        verified_rank: Position in the verified order, 0 = best.
        metadata: Its catalogue entry, if asked for.
    """

    item_id: str
    score: float
    score_kind: str
    rank_value: float
    tokens: tuple[int, ...]
    verified_rank: int
    metadata: ItemMetadata | None


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Content hashes of model, prompt template and catalogue, hexadecimal."""

    model: str
    prompt: str
    catalog: str


@dataclass(frozen=True, slots=True)
class Work:
    """What an answer cost; see ``Work`` in the protocol for each count."""

    passes: int
    rows: int
    prompt_rows: int
    prompt_tokens: int
    cached_tokens: int
    accepted_levels: int
    drafted_nodes: int
    dropped_nodes: int
    rounds: int
    speculation_used: bool
    flow: str


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time went on the server, milliseconds; parts overlap."""

    total_ms: float
    history_ms: float
    draft_ms: float
    target_ms: float
    forward_ms: float


@dataclass(frozen=True, slots=True)
class ForwardInterval:
    """One forward pass of ``target`` or ``draft``, nanoseconds of CLOCK_MONOTONIC."""

    service: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class DebugInfo:
    """The prompt as the models got it, and every forward pass behind an answer."""

    prompt_token_ids: tuple[int, ...]
    forwards: tuple[ForwardInterval, ...]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The best items, and what it took.

    Attributes:
        items: Best first.
        mode: What the answer promises: ``exact_topk``.
        degraded: What was not as usual, such as ``no_draft``; empty = nothing.
        exhausted: Whether there were fewer allowed items than asked for.
        fingerprints: What produced the answer.
        work: What it cost.
        timings: Where the time went.
        debug: Details, if asked for and allowed by the server.
        bundle: Name of the bundle that answered.
        request_id: Id of the request in the server's logs.
    """

    items: tuple[RecommendedItem, ...]
    mode: str
    degraded: tuple[str, ...]
    exhausted: bool
    fingerprints: Fingerprints
    work: Work
    timings: Timings
    debug: DebugInfo | None
    bundle: str
    request_id: str


@dataclass(frozen=True, slots=True)
class RecordResult:
    """Events stored now, events known already, events the history holds now."""

    stored: int
    duplicates: int
    total: int


@dataclass(frozen=True, slots=True)
class UserHistory:
    """The most recent events, oldest first, and how many the history holds."""

    events: tuple[Interaction, ...]
    total: int


@dataclass(frozen=True, slots=True)
class BundleInfo:
    """One bundle that can be asked for."""

    name: str
    fingerprints: Fingerprints
    score_kind: str
    item_length: int
    num_items: int
    default_beam_width: int
    exclude_history: bool


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What is served, and the largest values a request may carry."""

    bundles: tuple[BundleInfo, ...]
    default_bundle: str
    max_num_items: int
    max_beam_width: int
    max_events: int
    max_excluded_items: int
    target_available: bool
    draft_available: bool
    version: str


def encode_request(user_id: str, options: RecommendOptions) -> service_pb2.RecommendRequest:
    """Return the message that asks for recommendations.

    Raises:
        TypeError: There is no such option.
        ValueError: An option is not one of its names.
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
        filter=types_pb2.Filter(
            exclude_history=options.get("exclude_history"),
            exclude_item_ids=options.get("exclude_item_ids", ()),
        ),
        include_metadata=options.get("include_metadata", False),
        debug=options.get("debug", False),
    )


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
    metadata = _decode_metadata(item.metadata) if item.HasField("metadata") else None
    return RecommendedItem(
        item_id=item.item_id,
        score=item.score,
        score_kind=enum_name(types_pb2.ScoreKind, item.score_kind),
        rank_value=item.rank_value,
        tokens=tuple(item.tokens),
        verified_rank=item.verified_rank,
        metadata=metadata,
    )


def _decode_metadata(metadata: types_pb2.ItemMetadata) -> ItemMetadata:
    created_at_ms = metadata.created_at_ms if metadata.HasField("created_at_ms") else None
    topics = tuple(metadata.topics)
    return ItemMetadata(metadata.title, topics, metadata.popularity, created_at_ms)


def _decode_fingerprints(message: types_pb2.Fingerprints) -> Fingerprints:
    return Fingerprints(message.model, message.prompt, message.catalog)


def _decode_debug(message: types_pb2.DebugInfo) -> DebugInfo:
    forwards = (ForwardInterval(f.service, f.start_ns, f.end_ns) for f in message.forwards)
    return DebugInfo(tuple(message.prompt_token_ids), tuple(forwards))
