"""Between the messages of the API and the domain. Every rule of the request is checked here."""

from collections.abc import Iterable, Sequence

from orchestrator.bundles import Serving
from orchestrator.flags import Flag
from orchestrator.query import Answer, Drawing, Limits, Mode, Query, Speculation
from orchestrator.search import SearchOutcome
from orchestrator.watch_converters import from_entry
from specbeam.catalog import FRESHNESS_BUCKET_MS, PAD
from specbeam.decoding.selection import MAX_TEMPERATURE
from specbeam.drafting.ways import Flow
from specbeam.recommend.v1 import recommend_service_pb2 as pb
from specbeam.recommend.v1 import types_pb2 as types
from specbeam.runtime.errors import InvalidRequest, Violation
from specbeam.runtime.filter_rules import (
    MAX_TAG_CLAUSES,
    MAX_TAGS_PER_CLAUSE,
    clause_violations,
    created_violations,
)
from specbeam.storage import AppendResult, Event, History

DEFAULT_NUM_ITEMS = 10
MAX_USER_BYTES = 256
MAX_ITEM_BYTES = 256
MAX_EVENT_BYTES = 64
MAX_TYPE_BYTES = 64
MAX_BUNDLE_BYTES = 128
DEFAULT_HISTORY_LIMIT = 100
MAX_HISTORY_LIMIT = 1000

_SPECULATIONS = {
    types.SPECULATION_OFF: Speculation.OFF,
    types.SPECULATION_ON: Speculation.ON,
    types.SPECULATION_AUTO: Speculation.AUTO,
}
_MODES = {
    types.MODE_UNSPECIFIED: Mode.EXACT_TOPK,
    **{types.Mode.Value(f"MODE_{mode.value}"): mode for mode in Mode},
}
_DEGRADATIONS = (types.DEGRADATION_NO_HISTORY,)
_FLAGS = {flag: types.DegradedFlag.Value(f"DEGRADED_FLAG_{flag.value}") for flag in Flag}


class _Violations:
    """Collects every broken rule of one request."""

    def __init__(self) -> None:
        self._found: list[Violation] = []

    def add(self, field: str, description: str) -> None:
        self._found.append(Violation(field, description))

    def extend(self, violations: Iterable[Violation]) -> None:
        self._found.extend(violations)

    def at_most(self, field: str, value: int, limit: int) -> None:
        if value > limit:
            self.add(field, f"{value} is more than {limit}")

    def text(self, field: str, value: str, limit: int, *, required: bool = True) -> None:
        if required and not value:
            self.add(field, "is required")
        elif len(value) * 4 > limit and len(value.encode()) > limit:
            self.add(field, f"has {len(value.encode())} bytes, {limit} are allowed")

    def raise_if_any(self) -> None:
        if self._found:
            raise InvalidRequest(self._found)


def to_query(message: pb.RecommendRequest, limits: Limits, default: Speculation) -> Query:
    """Return what a request asks for.

    Args:
        message: The request.
        limits: Largest values it may carry.
        default: Speculation when the request leaves it open.

    Raises:
        InvalidRequest: With every broken rule.
    """
    found = _Violations()
    found.text("bundle", message.bundle, MAX_BUNDLE_BYTES, required=False)
    found.text("user_id", message.user_id, MAX_USER_BYTES, required=False)
    found.at_most("num_items", message.num_items, limits.max_num_items)
    found.at_most("beam_width", message.beam_width, limits.max_beam_width)
    found.at_most("max_rows", message.max_rows, limits.max_rows)
    num_items = message.num_items or DEFAULT_NUM_ITEMS
    if 0 < message.beam_width < num_items:
        found.add("beam_width", f"{message.beam_width} is less than num_items, {num_items}")
    _check_choices(message, found)
    _check_events(message.events, found, limits, need_event_id=False)
    _check_filter(message.filter, found, limits)
    found.raise_if_any()
    chosen = message.filter
    return Query(
        bundle=message.bundle,
        user_id=message.user_id,
        events=tuple(map(_from_interaction, message.events)),
        num_items=num_items,
        beam_width=message.beam_width,
        speculation=_SPECULATIONS.get(message.speculation, default),
        max_rows=message.max_rows,
        exclude_history=chosen.exclude_history if chosen.HasField("exclude_history") else None,
        exclude_item_ids=tuple(chosen.exclude_item_ids),
        allow_item_ids=tuple(chosen.allow_item_ids) or None,
        required_tags=tuple(tuple(clause.any_of) for clause in chosen.required_tags),
        created_after_ms=(chosen.created_after_ms if chosen.HasField("created_after_ms") else None),
        allow_no_history=types.DEGRADATION_NO_HISTORY in message.allowed_degradations,
        include_metadata=message.include_metadata,
        mode=_MODES[message.mode],
        drawing=_to_drawing(message),
    )


def _check_filter(message: types.Filter, found: _Violations, limits: Limits) -> None:
    for name, limit in (
        ("exclude_item_ids", limits.max_excluded_items),
        ("allow_item_ids", limits.max_allowed_items),
    ):
        item_ids = getattr(message, name)
        found.at_most(f"filter.{name}", len(item_ids), limit)
        for at, item_id in enumerate(item_ids[:limit]):
            # There may be ten thousand: only those that look wrong are looked at closely.
            if not item_id or len(item_id) * 4 > MAX_ITEM_BYTES:
                found.text(f"filter.{name}[{at}]", item_id, MAX_ITEM_BYTES)
    clauses = [clause.any_of for clause in message.required_tags]
    found.extend(clause_violations(clauses, "filter.required_tags"))
    if message.HasField("created_after_ms"):
        found.extend(created_violations(message.created_after_ms, "filter.created_after_ms"))


def _check_choices(message: pb.RecommendRequest, found: _Violations) -> None:
    if message.mode not in _MODES:
        found.add("mode", f"{message.mode} is not supported")
    else:
        _check_drawing(message, found)
    if message.speculation and message.speculation not in _SPECULATIONS:
        found.add("speculation", f"{message.speculation} is not supported")
    for at, degradation in enumerate(message.allowed_degradations):
        if degradation not in _DEGRADATIONS:
            found.add(f"allowed_degradations[{at}]", f"{degradation} is not supported")


def _check_drawing(message: pb.RecommendRequest, found: _Violations) -> None:
    mode, sampling = _MODES[message.mode], message.sampling
    if mode is Mode.EXACT_TOPK:
        for field in ("sampling", "seed"):
            if message.HasField(field):
                found.add(field, "only in sampling modes")
        return
    if sampling.HasField("temperature") and not 0 < sampling.temperature <= MAX_TEMPERATURE:
        text = f"is {sampling.temperature:g}; above 0 to {MAX_TEMPERATURE:g} is allowed"
        found.add("sampling.temperature", text)
    if sampling.draft_width and mode is not Mode.RELAXED_SAMPLING:
        found.add("sampling.draft_width", "only in MODE_RELAXED_SAMPLING")
    width = max(message.beam_width, message.num_items or DEFAULT_NUM_ITEMS)
    if 0 < sampling.draft_width < width:
        text = f"{sampling.draft_width} is less than the beam width, {width}"
        found.add("sampling.draft_width", text)


def _to_drawing(message: pb.RecommendRequest) -> Drawing:
    sampling = message.sampling
    return Drawing(
        seed=message.seed if message.HasField("seed") else None,
        temperature=sampling.temperature if sampling.HasField("temperature") else 1.0,
        top_k=sampling.top_k,
        draft_width=sampling.draft_width,
    )


def _check_events(
    events: Sequence[types.Interaction], found: _Violations, limits: Limits, *, need_event_id: bool
) -> None:
    found.at_most("events", len(events), limits.max_events)
    for at, event in enumerate(events[: limits.max_events]):
        found.text(f"events[{at}].item_id", event.item_id, MAX_ITEM_BYTES)
        found.text(f"events[{at}].type", event.type, MAX_TYPE_BYTES, required=False)
        if need_event_id:
            found.text(f"events[{at}].event_id", event.event_id, MAX_EVENT_BYTES)
        if event.time_ms < 0:
            found.add(f"events[{at}].time_ms", f"{event.time_ms} is negative")


def check_user(user_id: str) -> str:
    """Return a required user id.

    Raises:
        InvalidRequest: It is empty or too long.
    """
    found = _Violations()
    found.text("user_id", user_id, MAX_USER_BYTES)
    found.raise_if_any()
    return user_id


def to_events(message: pb.RecordInteractionsRequest, limits: Limits) -> tuple[Event, ...]:
    """Return the events to record.

    Raises:
        InvalidRequest: With every broken rule.
    """
    found = _Violations()
    found.text("user_id", message.user_id, MAX_USER_BYTES)
    if not message.events:
        found.add("events", "at least one is required")
    _check_events(message.events, found, limits, need_event_id=True)
    found.raise_if_any()
    return tuple(map(_from_interaction, message.events))


def to_history_limit(message: pb.GetHistoryRequest) -> int:
    """Return how many events to read.

    Raises:
        InvalidRequest: With every broken rule.
    """
    found = _Violations()
    found.text("user_id", message.user_id, MAX_USER_BYTES)
    found.at_most("limit", message.limit, MAX_HISTORY_LIMIT)
    found.raise_if_any()
    return message.limit or DEFAULT_HISTORY_LIMIT


def _from_interaction(message: types.Interaction) -> Event:
    return Event(message.item_id, message.event_id, message.time_ms, message.type)


def from_append(result: AppendResult) -> pb.RecordInteractionsResponse:
    """Return the answer of RecordInteractions."""
    return pb.RecordInteractionsResponse(
        stored=result.stored, duplicates=result.duplicates, total=result.total
    )


def from_history(history: History) -> pb.GetHistoryResponse:
    """Return the answer of GetHistory."""
    events = [
        types.Interaction(
            item_id=event.item_id, event_id=event.event_id, time_ms=event.time_ms, type=event.type
        )
        for event in history.events
    ]
    return pb.GetHistoryResponse(events=events, total=history.total)


def from_answer(
    answer: Answer, serving: Serving, *, request_id: str, total_ms: float, debug: bool
) -> pb.RecommendResponse:
    """Return the answer of Recommend.

    Args:
        answer: What was found.
        serving: The bundle that answered.
        request_id: Id of the request.
        total_ms: Time since its arrival, milliseconds.
        debug: Whether to send details.
    """
    outcome = answer.outcome
    kind = types.ScoreKind.Value(f"SCORE_KIND_{answer.score_kind}")
    response = pb.RecommendResponse(
        items=_items(answer, kind),
        mode=types.Mode.Value(f"MODE_{answer.mode.value}"),
        degraded=[_FLAGS[flag] for flag in answer.flags],
        fingerprints=_fingerprints(serving),
        exhausted=answer.ranked.exhausted,
        work=_work(answer),
        timings=types.Timings(
            total_ms=total_ms,
            history_ms=answer.history_ms,
            draft_ms=outcome.draft_ms,
            target_ms=outcome.work.wait_ms,
            forward_ms=outcome.work.forward_ms,
        ),
        bundle=serving.name,
        request_id=request_id,
        seed=answer.seed,
    )
    if debug:
        response.debug.CopyFrom(_debug(answer))
    return response


def _items(answer: Answer, kind: "types.ScoreKind.ValueType") -> list[types.RecommendedItem]:
    scores, ranks = answer.ranked.scores.tolist(), answer.ranked.rank_values.tolist()
    lengths = (answer.paths != PAD).sum(axis=1).tolist()
    paths = answer.paths.tolist()
    items = [
        types.RecommendedItem(
            item_id=item_id,
            score=scores[rank],
            score_kind=kind,
            rank_value=ranks[rank],
            tokens=paths[rank][: lengths[rank]],
            verified_rank=rank,
        )
        for rank, item_id in enumerate(answer.item_ids)
    ]
    for item, entry in zip(items, answer.entries, strict=False):
        item.metadata.CopyFrom(from_entry(entry))
    return items


def _work(answer: Answer) -> types.Work:
    outcome = answer.outcome
    work = outcome.work
    return types.Work(
        passes=work.passes,
        rows=work.rows,
        prompt_rows=work.prompt_rows,
        prompt_tokens=len(answer.prompt),
        cached_tokens=work.cached_tokens,
        accepted_levels=work.accepted_levels,
        drafted_nodes=outcome.drafted_nodes,
        dropped_nodes=work.dropped_nodes + outcome.left_out,
        rounds=outcome.rounds,
        speculation_used=outcome.rounds > 0,
        flow=types.Flow.Value(f"FLOW_{(outcome.flow if outcome.rounds else Flow.PLAIN).value}"),
    )


def _debug(answer: Answer) -> types.DebugInfo:
    sources = sorted(answer.outcome.sources.items(), key=lambda source: -source[1])
    return types.DebugInfo(
        prompt_token_ids=answer.prompt.tolist(),
        forwards=_forwards(answer.outcome),
        draft_sources=[types.DraftSource(name=name, nodes=nodes) for name, nodes in sources],
    )


def _forwards(outcome: SearchOutcome) -> list[types.ForwardInterval]:
    both: Iterable[tuple[int, int, str]] = [
        *((start, end, "target") for start, end in outcome.work.forwards),
        *((start, end, "draft") for start, end in outcome.draft_forwards),
    ]
    return [
        types.ForwardInterval(service=service, start_ns=start, end_ns=end)
        for start, end, service in sorted(both)
    ]


def _fingerprints(serving: Serving) -> types.Fingerprints:
    own = serving.fingerprints
    return types.Fingerprints(model=own.model, prompt=own.prompt, catalog=own.catalog)


def from_bundle(serving: Serving) -> pb.BundleInfo:
    """Return what GetInfo says about a bundle."""
    manifest, trie = serving.bundle.manifest, serving.trie
    return pb.BundleInfo(
        name=serving.name,
        fingerprints=_fingerprints(serving),
        score_kind=types.ScoreKind.Value(f"SCORE_KIND_{manifest.score_kind}"),
        item_length=manifest.item_length,
        num_items=trie.num_items,
        default_beam_width=manifest.default_beam_width,
        exclude_history=manifest.exclude_history,
        tags=[pb.TagInfo(name=name, num_items=len(items)) for name, items in trie.tags.items()],
        freshness_bucket_ms=0 if trie.created_bucket is None else FRESHNESS_BUCKET_MS,
    )


def from_limits(limits: Limits) -> pb.Limits:
    """Return what GetInfo says about the limits."""
    return pb.Limits(
        max_num_items=limits.max_num_items,
        max_beam_width=limits.max_beam_width,
        max_events=limits.max_events,
        max_excluded_items=limits.max_excluded_items,
        max_allowed_items=limits.max_allowed_items,
        max_tag_clauses=MAX_TAG_CLAUSES,
        max_tags_per_clause=MAX_TAGS_PER_CLAUSE,
    )
