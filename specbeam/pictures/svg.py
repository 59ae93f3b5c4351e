"""The parts that SVG pictures are made of."""

from collections.abc import Sequence

from specbeam.pictures.markup import Markup, element, join
from specbeam.pictures.style import NUM_COLOURS, stylesheet

RADIUS = 5.0


def drawing(
    width: float, height: float, *content: object, label: str, standalone: bool = False
) -> Markup:
    """Return a picture.

    Args:
        width: Pixels.
        height: Pixels.
        content: What is drawn.
        label: What the picture shows, for those who cannot see it.
        standalone: Whether it is a file of its own: with a style sheet and a background.
    """
    inside = list(content)
    if standalone:
        paper = element("rect", width="100%", height="100%", fill="var(--bg)")
        inside = [element("style", stylesheet()), paper, *inside]
    return element(
        "svg",
        element("title", label),
        *inside,
        xmlns="http://www.w3.org/2000/svg",
        _class="pic",
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=round(width),
        height=round(height),
        role="img",
    )


def text(x: float, y: float, content: object, _class: str = "", **more: object) -> Markup:
    """Return text."""
    return element("text", content, x=x, y=y, _class=_class or None, **more)


def rect(x: float, y: float, width: float, height: float, _class: str, *content: object) -> Markup:
    """Return a rectangle with rounded corners."""
    return element(
        "rect",
        *content,
        x=x,
        y=y,
        width=width,
        height=height,
        rx=min(4.0, height / 2),
        _class=_class,
    )


def line(x1: float, y1: float, x2: float, y2: float, _class: str) -> Markup:
    """Return a line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, _class=_class)


def mark(kind: str, x: float, y: float, radius: float = RADIUS) -> Markup:
    """Return the shape of what became of a node.

    Args:
        kind: accepted (disc), own (square), missed (ringed diamond), rejected (cross) or unreached
            (dashed ring).
        x: Centre.
        y: Centre.
        radius: Half its size.
    """
    _class, r = f"m-{kind}", radius
    if kind == "own":
        return element(
            "rect", x=x - 0.85 * r, y=y - 0.85 * r, width=1.7 * r, height=1.7 * r, _class=_class
        )
    if kind == "missed":
        return join([_diamond(x, y, 0.85 * r, _class), _ring(x, y, 1.55 * r)])
    if kind == "rejected":
        s = 0.68 * r
        path = f"M{x - s:.2f} {y - s:.2f}L{x + s:.2f} {y + s:.2f}"
        return element(
            "path", d=f"{path}M{x - s:.2f} {y + s:.2f}L{x + s:.2f} {y - s:.2f}", _class=_class
        )
    return element("circle", cx=x, cy=y, r=0.9 * r, _class=_class)


def series_mark(number: int, x: float, y: float, *content: object) -> Markup:
    """Return the mark of one line of a plot: disc, square, diamond or triangle, by its number."""
    _class, r = f"k{number % NUM_COLOURS}", 4.2
    shape = number % 4
    if shape == 0:
        return element("circle", *content, cx=x, cy=y, r=r, _class=_class)
    points = {
        1: [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
        2: [(0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)],
        3: [(0, -1.1), (1.1, 0.9), (-1.1, 0.9)],
    }[shape]
    return element("polygon", *content, points=_points(points, x, y, r), _class=_class)


def curve(x1: float, y1: float, x2: float, y2: float, _class: str) -> Markup:
    """Return an edge from left to right."""
    middle = (x1 + x2) / 2
    path = f"M{x1:.1f} {y1:.1f}C{middle:.1f} {y1:.1f} {middle:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    return element("path", d=path, _class=_class)


def _diamond(x: float, y: float, r: float, _class: str) -> Markup:
    return element(
        "polygon",
        points=_points([(0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)], x, y, r),
        _class=_class,
    )


def _ring(x: float, y: float, r: float) -> Markup:
    return element("circle", cx=x, cy=y, r=r, _class="m-missed", fill_opacity="0")


def _points(corners: Sequence[tuple[float, float]], x: float, y: float, r: float) -> str:
    return " ".join(f"{x + r * dx:.1f},{y + r * dy:.1f}" for dx, dy in corners)
