"""What the Python client takes and returns."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypedDict

from specbeam.client_debug import DebugInfo

Speculation = Literal["auto", "on", "off"]
AllowedDegradation = Literal["no_history"]
Mode = Literal["exact_topk", "exact_sampling", "relaxed_sampling"]


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
        allow_item_ids: The only items to return, at least one; None = every item.
        required_tags: Tags an item must have. Each entry is one tag, or a sequence of
            alternatives of which one is enough.
        created_after: Only items made at this time or later: an aware datetime, or
            milliseconds since 1970-01-01 UTC. Rounded up to whole buckets of the
            catalogue; items of unknown age are left out. None = any time.
        include_metadata: Send each item's catalogue entry.
        debug: Send details, if the server allows it.
        mode: What the answer must promise.
        seed: Source of all noise of a sampling mode; None = the server draws one and
            tells it.
        temperature: Logits are divided by it before items are drawn.
        top_k: Only so many of the likeliest tokens of a step may be drawn; 0 = all.
        draft_width: Prefixes drafted per level by ``relaxed_sampling``; 0 = the
            server's choice.
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
    allow_item_ids: Sequence[str] | None
    required_tags: Sequence[str | Sequence[str]]
    created_after: datetime | int | None
    include_metadata: bool
    debug: bool
    mode: Mode
    seed: int | None
    temperature: float | None
    top_k: int
    draft_width: int


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
class Recommendation:
    """The best items, and what it took.

    Attributes:
        items: Best first.
        mode: What the answer promises: ``exact_topk``, ``exact_sampling`` or
            ``relaxed_sampling``.
        degraded: What was not as usual, such as ``no_draft``; empty = nothing.
        exhausted: Whether there were fewer allowed items than asked for.
        fingerprints: What produced the answer.
        work: What it cost.
        timings: Where the time went.
        debug: Details, if asked for and allowed by the server.
        bundle: Name of the bundle that answered.
        request_id: Id of the request in the server's logs.
        seed: Seed of the draw; None = nothing was drawn.
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
    seed: int | None = None


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
class TagInfo:
    """A tag that requests may require, and the number of items that have it."""

    name: str
    num_items: int


@dataclass(frozen=True, slots=True)
class BundleInfo:
    """One bundle that can be asked for.

    Attributes:
        name: Its name.
        fingerprints: Its content hashes.
        score_kind: What its scores are sums of: ``vocab``, ``level`` or ``trie``.
        item_length: Tokens of the longest item.
        num_items: Number of items.
        default_beam_width: Smallest default beam width.
        exclude_history: Whether items of the history are left out by default.
        tags: Tags that requests may require.
        freshness_bucket_ms: What `created_after` is rounded up to, milliseconds; 0 = the
            catalogue does not know when its items were made.
    """

    name: str
    fingerprints: Fingerprints
    score_kind: str
    item_length: int
    num_items: int
    default_beam_width: int
    exclude_history: bool
    tags: tuple[TagInfo, ...]
    freshness_bucket_ms: int


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What is served, and the largest values a request may carry."""

    bundles: tuple[BundleInfo, ...]
    default_bundle: str
    max_num_items: int
    max_beam_width: int
    max_events: int
    max_excluded_items: int
    max_allowed_items: int
    max_tag_clauses: int
    max_tags_per_clause: int
    target_available: bool
    draft_available: bool
    version: str
