"""What happened when: spans of the orchestrator and forward passes on one clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specbeam.client_debug import DebugInfo
from specbeam.pictures.markup import Markup, element, join, number
from specbeam.pictures.svg import drawing, line, rect, text
from specbeam.pictures.ticks import nice_ticks

WIDTH = 1010.0
LEFT = 148.0
LANE = 30.0
TOP = 14.0
# A pass of a service on another machine has another clock: it may start this early or late.
SLACK_NS = 2_000_000
SPAN_WORDS = {
    "history": "reading the history",
    "prompt": "prompt and filter",
    "open": "opening the target's session, up to its first answer",
    "draft": "waiting for the draft service",
    "tree": "choosing a tree",
    "verify": "waiting for the target",
    "rank": "ranking and titles",
}
_LANES = (
    ("orchestrator", ("history", "prompt", "tree", "rank")),
    ("waits for the draft", ("draft",)),
    ("waits for the target", ("open", "verify")),
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a lane; times are nanoseconds."""

    start_ns: int
    end_ns: int
    name: str
    look: str
    told: str


def timeline_picture(debug: DebugInfo) -> Markup | None:
    """Return the picture; None without spans."""
    if not debug.spans:
        return None
    start = min(span.start_ns for span in debug.spans)
    end = max(span.end_ns for span in debug.spans)
    lanes = [
        (name, [_span_bar(debug, at) for at, s in enumerate(debug.spans) if s.name in names])
        for name, names in _LANES
    ]
    lanes += [(f"{name} model", _passes(debug, name, start, end)) for name in ("draft", "target")]
    lanes = [(name, bars) for name, bars in lanes if bars]
    bottom = TOP + LANE * len(lanes)
    scale = (WIDTH - LEFT - 20) / max(end - start, 1)
    parts = [_grid(start, end, scale, bottom)]
    for place, (name, bars) in enumerate(lanes):
        y = TOP + LANE * place
        parts.append(text(LEFT - 12, y + LANE / 2 + 4, name, "small end"))
        parts += [_bar(bar, LEFT + (bar.start_ns - start) * scale, y, scale) for bar in bars]
    parts.append(_key(debug, bottom + 42))
    parts.append(text(LEFT, bottom + 66, _summary(debug, start, end), "small muted"))
    return drawing(WIDTH, bottom + 78, *parts, label="What happened when, in milliseconds")


def busy_ns(intervals: Sequence[tuple[int, int]]) -> int:
    """Return how long at least one of some intervals lasts."""
    total, reached = 0, 0
    for start, end in sorted(intervals):
        begin = max(start, reached)
        total += max(0, end - begin)
        reached = max(reached, end)
    return total


def _span_bar(debug: DebugInfo, at: int) -> Bar:
    span = debug.spans[at]
    ms = number((span.end_ns - span.start_ns) / 1e6, 2)
    of = "" if span.round is None else f", round {span.round + 1}"
    look = "s-wait" if span.name in ("open", "draft", "verify") else f"s-{span.name}"
    told = f"{SPAN_WORDS.get(span.name, span.name)}{of}: {ms} ms"
    return Bar(span.start_ns, span.end_ns, span.name, look, told)


def _passes(debug: DebugInfo, service: str, start: int, end: int) -> list[Bar]:
    return [
        Bar(
            one.start_ns,
            one.end_ns,
            "pass",
            f"s-{service}",
            f"pass of the {service}: {number((one.end_ns - one.start_ns) / 1e6, 2)} ms",
        )
        for one in debug.forwards
        if one.service == service and _on_clock(one.start_ns, one.end_ns, start, end)
    ]


def _on_clock(begin: int, until: int, start: int, end: int) -> bool:
    return start - SLACK_NS <= begin and until <= end + SLACK_NS


def _grid(start: int, end: int, scale: float, bottom: float) -> Markup:
    ticks = nice_ticks(0.0, (end - start) / 1e6, 8)
    decimals = 0 if len(ticks) < 2 or ticks[1] >= 1 else 1
    parts = []
    for tick in ticks:
        x = LEFT + tick * 1e6 * scale
        parts.append(line(x, TOP - 6, x, bottom, "grid"))
        told = f"{number(tick, decimals)}{' ms' if tick == ticks[-1] else ''}"
        parts.append(text(x, bottom + 16, told, "tiny mid muted num"))
    return join(parts)


def _key(debug: DebugInfo, y: float) -> Markup:
    """Return the colours of what the orchestrator does by itself, with its milliseconds."""
    parts, x = [], LEFT
    for name in _LANES[0][1]:
        spent = [span.end_ns - span.start_ns for span in debug.spans if span.name == name]
        if spent:
            told = f"{SPAN_WORDS[name]} {number(sum(spent) / 1e6, 1)} ms"
            parts += [rect(x, y - 10, 12, 12, f"s-{name}"), text(x + 18, y, told, "small")]
            x += 42 + 6.2 * len(told)
    return join(parts)


def _bar(bar: Bar, x: float, y: float, scale: float) -> Markup:
    width = max((bar.end_ns - bar.start_ns) * scale, 1.5)
    shape = rect(x, y + 6, width, LANE - 12, bar.look)
    fits = width > 7.0 * len(bar.name) + 6 and bar.look == "s-wait"
    label = text(x + width / 2, y + LANE / 2 + 4, bar.name, "tiny mid") if fits else Markup()
    return element("g", element("title", bar.told), shape, label)


def _summary(debug: DebugInfo, start: int, end: int) -> str:
    inside = [
        (one.start_ns, one.end_ns)
        for one in debug.forwards
        if _on_clock(one.start_ns, one.end_ns, start, end)
    ]
    whole, passes = (end - start) / 1e6, busy_ns(inside) / 1e6
    told = (
        f"{number(whole, 1)} ms, some model at work in {number(passes, 1)} of them; "
        f"the rest is the orchestrator, the way between the services, and queues."
    )
    elsewhere = len(debug.forwards) - len(inside)
    if elsewhere:
        told += f" {elsewhere} passes ran by another machine's clock and are not drawn."
    return told
