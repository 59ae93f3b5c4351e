"""Requests and answers in the domain's words."""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from orchestrator.flags import Flag
from orchestrator.items import ItemEntry
from orchestrator.search import SearchOutcome
from specbeam.catalog import RankedItems
from specbeam.storage import Event

TENANT = "default"


class Mode(Enum):
    """What an answer promises; names equal those of the API without their prefix."""

    EXACT_TOPK = "EXACT_TOPK"
    EXACT_SAMPLING = "EXACT_SAMPLING"
    RELAXED_SAMPLING = "RELAXED_SAMPLING"


@dataclass(frozen=True, slots=True)
class Drawing:
    """How items are drawn in sampling modes.

    Attributes:
        seed: Source of all noise; None = one is to be drawn.
        temperature: Logits are divided by it.
        top_k: Tokens of a step that may be drawn; 0 = all.
        draft_width: Prefixes drafted per level by the relaxed mode; 0 = twice W.
    """

    seed: int | None = None
    temperature: float = 1.0
    top_k: int = 0
    draft_width: int = 0


class Speculation(Enum):
    """Whether to draft."""

    OFF = "OFF"
    ON = "ON"
    AUTO = "AUTO"


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest values a request may carry.

    Attributes:
        max_num_items: Of K.
        max_beam_width: Of W.
        max_rows: Of the row budget of a pass.
        max_events: Of events in one request.
        max_excluded_items: Of excluded ids in one request.
        max_allowed_items: Of allowed ids in one request.
    """

    max_num_items: int = 256
    max_beam_width: int = 256
    max_rows: int = 1024
    max_events: int = 1000
    max_excluded_items: int = 10_000
    max_allowed_items: int = 10_000


@dataclass(frozen=True, slots=True)
class Query:
    """What a client asks for; the fields keep every rule of the API.

    Attributes:
        bundle: Name of the bundle; empty = the default one.
        user_id: Whose stored history is used; empty = nobody's.
        events: History to use instead of the stored one, oldest first; empty = the stored one.
        num_items: K.
        beam_width: W; 0 = the larger of K and the bundle's default.
        speculation: Whether to draft.
        max_rows: Row budget of a pass; 0 = the server's choice.
        exclude_history: Leave out what the user has seen; None = the bundle's default.
        exclude_item_ids: Items to leave out; unknown ones are ignored.
        allow_item_ids: The only items to return, unknown ones are ignored; None = every item.
        required_tags: Clauses of tags; an item needs one of each.
        created_after_ms: Only items made then or later, milliseconds since 1970-01-01 UTC; None =
            any time.
        allow_no_history: Answer from an empty history when the stored one cannot be read.
        include_metadata: Look up titles.
        mode: What the answer must promise.
        drawing: How items are drawn in sampling modes.
    """

    bundle: str = ""
    user_id: str = ""
    events: tuple[Event, ...] = ()
    num_items: int = 10
    beam_width: int = 0
    speculation: Speculation = Speculation.AUTO
    max_rows: int = 0
    exclude_history: bool | None = None
    exclude_item_ids: tuple[str, ...] = ()
    allow_item_ids: tuple[str, ...] | None = None
    required_tags: tuple[tuple[str, ...], ...] = ()
    created_after_ms: int | None = None
    allow_no_history: bool = False
    include_metadata: bool = False
    mode: Mode = Mode.EXACT_TOPK
    drawing: Drawing = Drawing()


@dataclass(frozen=True, slots=True)
class Answer:
    """The best items, and what it took.

    Attributes:
        ranked: Items in the total order.
        item_ids: Their ids. Length n.
        paths: Their token paths, padded. Shape (n, L).
        entries: Their catalogue entries, if asked for; else empty.
        prompt: The prompt. Shape (T,).
        outcome: The search.
        flags: What was not as usual.
        history_ms: Time reading the history, milliseconds.
        mode: What the answer promises.
        score_kind: What scores are sums of: VOCAB, LEVEL or TRIE.
        seed: Seed of the draw; None = nothing was drawn.
    """

    ranked: RankedItems
    item_ids: tuple[str, ...]
    paths: np.ndarray
    entries: tuple[ItemEntry, ...]
    prompt: np.ndarray
    outcome: SearchOutcome
    flags: tuple[Flag, ...]
    history_ms: float
    mode: Mode
    score_kind: str
    seed: int | None = None
