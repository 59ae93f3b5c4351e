"""Scores of the drafters against scores of the target, one panel per level."""

from specbeam.pictures.markup import Markup, element, join, number
from specbeam.pictures.search import Level, Prefix, Search
from specbeam.pictures.svg import drawing, line, mark, text
from specbeam.pictures.ticks import nice_ticks

PANEL = 230.0
PITCH = 310.0
PANELS_PER_ROW = 3
_LEFT = 56.0
_TOP = 34.0
_BELOW = 62.0


def scatter_picture(search: Search) -> Markup | None:
    """Return the picture; None where no prefix has both scores."""
    panels = [(level, points) for level in search.levels if len(points := _points(level)) > 1]
    if not panels:
        return None
    columns = min(len(panels), PANELS_PER_ROW)
    rows = -(-len(panels) // PANELS_PER_ROW)
    drawn = [
        element(
            "g",
            _panel(level, points),
            transform=(
                f"translate({_LEFT + PITCH * (place % PANELS_PER_ROW):.0f} "
                f"{_TOP + (PANEL + _TOP + _BELOW) * (place // PANELS_PER_ROW):.0f})"
            ),
        )
        for place, (level, points) in enumerate(panels)
    ]
    return drawing(
        _LEFT + PITCH * (columns - 1) + PANEL + 24,
        (PANEL + _TOP + _BELOW) * rows,
        *drawn,
        label="Draft score against target score of every drafted prefix, by level",
    )


def _points(level: Level) -> list[Prefix]:
    return [
        prefix
        for prefix in level.prefixes
        if prefix.draft_score is not None and prefix.target_score is not None
    ]


def _panel(level: Level, points: list[Prefix]) -> Markup:
    values = [
        score
        for prefix in points
        for score in (prefix.draft_score, prefix.target_score)
        if score is not None
    ]
    low, high = min(values), max(values)
    pad = 0.06 * (high - low) or 0.5
    low, high = low - pad, high + pad

    def at(score: float | None) -> float:
        return PANEL * ((score or 0.0) - low) / (high - low)

    parts = [text(0, -12, f"level {level.number}", "head")]
    for tick in nice_ticks(low, high, 6):
        place, told = at(tick), number(tick, 1)
        parts += [
            line(place, 0, place, PANEL, "grid"),
            line(0, PANEL - place, PANEL, PANEL - place, "grid"),
            text(place, PANEL + 15, told, "tiny mid muted num"),
            text(-7, PANEL - place + 4, told, "tiny end muted num"),
        ]
    parts.append(line(0, PANEL, PANEL, 0, "axis"))
    # Exact beams last: they lie on top.
    for prefix in sorted(points, key=lambda one: one.exact):
        path = "-".join(map(str, prefix.tokens))
        told = f"{path}\n{prefix.source}\ndraft {number(prefix.draft_score or 0.0, 3)}"
        told += f", target {number(prefix.target_score or 0.0, 3)}"
        x, y = at(prefix.draft_score), PANEL - at(prefix.target_score)
        parts.append(element("g", element("title", told), mark(prefix.kind, x, y, 4.0)))
    parts += [
        text(PANEL / 2, PANEL + 34, "draft score", "small mid muted"),
        element(
            "text",
            "target score",
            _class="small mid muted",
            transform=f"translate(-42 {PANEL / 2:.0f}) rotate(-90)",
        ),
    ]
    return join(parts)
