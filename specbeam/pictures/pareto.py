"""What searches cost: milliseconds or passes against rows, a panel per K, a line per way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from specbeam.pictures.cells import METRICS, Cell, UnknownCellsError, front_of, read_cells
from specbeam.pictures.markup import Markup, element, join, number, short
from specbeam.pictures.style import NUM_COLOURS
from specbeam.pictures.svg import drawing, line, series_mark, text
from specbeam.pictures.ticks import nice_ticks

WIDTH = 300.0
HEIGHT = 240.0
PITCH_X = 376.0
PITCH_Y = 326.0
LEFT = 70.0
TOP = 112.0
_TOLD = ("bundle", "score_kind", "dtype", "processor", "cores", "threads", "measured_at")

_LONGEST = 60
# With so many ways those that never reach the front step back.
_FEW = 6


@dataclass(frozen=True, slots=True)
class _Scale:
    low_x: float
    high_x: float
    low_y: float
    high_y: float

    def x(self, rows: float) -> float:
        return WIDTH * (rows - self.low_x) / (self.high_x - self.low_x)

    def y(self, value: float) -> float:
        return HEIGHT * (1 - (value - self.low_y) / (self.high_y - self.low_y))


def pareto_picture(
    result: Any, *, metric: str = "ms", ways: Sequence[str] = (), name: str = ""
) -> str:
    """Return the picture as an SVG file.

    Args:
        result: A result file as JSON.
        metric: One of `METRICS`.
        ways: The only ways to draw; empty = all.
        name: Of the file.

    Raises:
        UnknownCellsError: It holds no such cells, or not these ways.
    """
    cells = read_cells(result, metric)
    known = list(dict.fromkeys(cell.way for cell in cells))
    unknown = [way for way in ways if way not in known]
    if unknown:
        raise UnknownCellsError(f"no way {unknown[0]!r}; there are: {'; '.join(known)}")
    cells = [cell for cell in cells if not ways or cell.way in ways]
    numbers = {way: at for at, way in enumerate(way for way in known if not ways or way in ways)}
    widths = sorted({cell.k for cell in cells})
    prefixes = list(dict.fromkeys(cell.prefix for cell in cells))
    panels = [
        element(
            "g",
            _panel(
                [c for c in cells if (c.k, c.prefix) == (k, prefix)], numbers, metric, k, prefix
            ),
            transform=f"translate({LEFT + PITCH_X * column:.0f} {TOP + PITCH_Y * row:.0f})",
        )
        for row, prefix in enumerate(prefixes)
        for column, k in enumerate(widths)
    ]
    width = max(LEFT + PITCH_X * len(widths) - 30, 640.0)
    legend, bottom = _legend(numbers, metric, TOP + PITCH_Y * len(prefixes) - 12, width)
    picture = drawing(
        width,
        bottom + 20,
        _heading(result, metric, name),
        *panels,
        legend,
        label=f"{METRICS[metric]} against tree rows, by K and way",
        standalone=True,
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{picture}\n'


def _heading(result: Mapping[str, Any], metric: str, name: str) -> Markup:
    conditions = result.get("conditions")
    told = conditions if isinstance(conditions, Mapping) else {}
    what = str(result.get("what") or name)
    how = " · ".join(f"{key.replace('_', ' ')} {told[key]}" for key in _TOLD if key in told)
    title = f"{METRICS[metric].capitalize()} against tree rows"
    return join(
        [
            text(20, 32, title, "title"),
            text(20, 52, short(f"{what}{f' · {name}' if name and name != what else ''}", 130)),
            text(20, 70, short(how, 150), "small muted"),
        ]
    )


def _panel(
    cells: list[Cell], numbers: Mapping[str, int], metric: str, k: int, prefix: str
) -> Markup:
    head = f"K = {k}" + (f", {prefix}" if prefix else "")
    parts = [text(0, -10, head, "head")]
    if not cells:
        return join([*parts, text(0, 20, "no cells", "small muted")])
    scale = _scale(cells)
    front = front_of(cells)
    parts += [_axes(scale, metric), _front(front, scale), _plain(cells, scale)]
    best = {cell.way for cell in front}
    # Ways that reach the front lie on top.
    for way in sorted(numbers, key=lambda way: way in best):
        own = sorted((c for c in cells if c.way == way), key=lambda one: (one.rows, one.value))
        look = None if way in best or len(numbers) < _FEW else "quiet"
        parts.append(element("g", _line(own, numbers[way], scale), _class=look))
    return join(parts)


def _scale(cells: list[Cell]) -> _Scale:
    rows, values = [cell.rows for cell in cells], [cell.value for cell in cells]
    values += [cell.plain for cell in cells if cell.plain is not None]
    pad_x = 0.07 * (max(rows) - min(rows)) or 1.0
    pad_y = 0.09 * (max(values) - min(values)) or 0.1 * max(values) or 1.0
    return _Scale(min(rows) - pad_x, max(rows) + pad_x, min(values) - pad_y, max(values) + pad_y)


def _axes(scale: _Scale, metric: str) -> Markup:
    parts = []
    for tick in nice_ticks(scale.low_x, scale.high_x, 6):
        x = scale.x(tick)
        parts += [
            line(x, 0, x, HEIGHT, "grid"),
            text(x, HEIGHT + 17, number(tick, 0), "tiny mid num"),
        ]
    ticks = nice_ticks(scale.low_y, scale.high_y, 6)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    decimals = 0 if step >= 1 else 1 if step >= 0.1 else 2
    for tick in ticks:
        y = scale.y(tick)
        told = number(tick, decimals)
        parts += [line(0, y, WIDTH, y, "grid"), text(-8, y + 4, told, "tiny end num")]
    axis = element("path", d=f"M0 0V{HEIGHT:.0f}H{WIDTH:.0f}", _class="axis")
    return join(
        [
            *parts,
            axis,
            text(WIDTH / 2, HEIGHT + 36, "tree rows of a request", "small mid muted"),
            element(
                "text",
                METRICS[metric],
                _class="small mid muted",
                transform=f"translate(-46 {HEIGHT / 2:.0f}) rotate(-90)",
            ),
        ]
    )


def _plain(cells: list[Cell], scale: _Scale) -> Markup:
    """Return what plain search took on the same requests."""
    told = [cell.plain for cell in cells if cell.plain is not None]
    if not told:
        return Markup()
    y = scale.y(median(told))
    return join(
        [line(0, y, WIDTH, y, "plain"), text(WIDTH - 2, y - 5, "plain search", "tiny end muted")]
    )


def _front(front: list[Cell], scale: _Scale) -> Markup:
    """Return the steps below which no way comes."""
    path = f"M{scale.x(front[0].rows):.1f} 0"
    for cell in front:
        path += f"H{scale.x(cell.rows):.1f}V{scale.y(cell.value):.1f}"
    return element("path", d=f"{path}H{WIDTH:.0f}", _class="front")


def _line(cells: list[Cell], at: int, scale: _Scale) -> Markup:
    if not cells:
        return Markup()
    points = [(scale.x(cell.rows), scale.y(cell.value)) for cell in cells]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dashes = "4 3" if at >= NUM_COLOURS else None
    parts = [element("path", d=path, _class=f"way k{at % NUM_COLOURS}", stroke_dasharray=dashes)]
    for cell, (x, y) in zip(cells, points, strict=True):
        parts.append(element("g", element("title", cell.told), series_mark(at, x, y)))
    return join(parts)


def _legend(
    numbers: Mapping[str, int], metric: str, y: float, width: float
) -> tuple[Markup, float]:
    column = 34 + 6.6 * min(_LONGEST, max(map(len, numbers)))
    columns = max(1, int((width - 20) // column))
    parts = []
    for place, (way, at) in enumerate(numbers.items()):
        x, here = 26 + column * (place % columns), y + 20 * (place // columns)
        parts += [series_mark(at, x, here - 4), text(x + 12, here, short(way, _LONGEST), "small")]
    bottom = y + 20 * -(-len(numbers) // columns)
    note = f"Grey steps: nothing measured takes both fewer rows and fewer {METRICS[metric]}."
    parts.append(text(20, bottom + 8, note, "small muted"))
    return join(parts), bottom + 8
