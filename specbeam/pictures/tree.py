"""The picture of one search: levels from left to right, prefixes stacked by the target's score."""

from __future__ import annotations

from specbeam.client_types import Recommendation, RecommendedItem
from specbeam.pictures.columns import (
    COLUMN_WIDTH,
    ROW_HEIGHT,
    Column,
    Row,
    columns_of,
    kinds_shown,
    shown_items,
    winners_of,
)
from specbeam.pictures.markup import Markup, element, join, number, short
from specbeam.pictures.search import KINDS, Level, Path, Prefix, Search, headline
from specbeam.pictures.svg import RADIUS, curve, drawing, mark, rect, text

KIND_WORDS = {
    "accepted": "exact beam, drafted",
    "own": "exact beam, the target by itself",
    "missed": "exact beam nobody drafted, repaired",
    "rejected": "drafted, not a beam",
    "unreached": "drafted, level not reached",
}
LEFT = 104.0
TOP = 96.0
HEADER = 74.0
ITEM_WIDTH = 300.0
MARGIN = 16.0
TITLE_CHARACTERS = 34
_DOT = 10.0
_ROOT_X = 36.0
_SHORT_SOURCES = {"cooccurrence": "co-occur", "popularity": "popular"}


def tree_picture(answer: Recommendation, search: Search, title: str, *, standalone: bool) -> Markup:
    """Return the picture.

    Args:
        answer: The answer; its items stand at the end.
        search: The search behind it.
        title: What it is an answer to.
        standalone: Whether it is a file of its own.
    """
    columns = columns_of(search, winners_of(answer))
    items = shown_items(answer)
    item_rows = _item_places(items)
    body = max([column.height for column in columns] + [len(items) * ROW_HEIGHT + 24], default=0.0)
    top = TOP + HEADER if standalone else HEADER
    width = LEFT + len(columns) * COLUMN_WIDTH + ITEM_WIDTH + MARGIN
    key, bottom = _legend(search, top + body + 40, width)
    parts = [
        _heading(answer, search, title) if standalone else Markup(),
        element("g", _bands(answer, search), transform=f"translate(0 {top - HEADER:.0f})"),
        element(
            "g",
            _edges(columns, items, item_rows, body),
            _root(body),
            join(_column(place, column) for place, column in enumerate(columns)),
            _items(items, item_rows, len(columns), len(answer.items)),
            transform=f"translate(0 {top + 8:.0f})",
        ),
        key,
    ]
    return drawing(
        width,
        bottom + MARGIN,
        *parts,
        label=f"{title}: {headline(answer, search)}",
        standalone=standalone,
    )


def _legend(search: Search, y: float, width: float) -> tuple[Markup, float]:
    """Return what the shapes mean, with how many there are of each, and where it ends."""
    counts, parts, x = kinds_shown(search), [], MARGIN
    for kind in KINDS:
        words = f"{KIND_WORDS[kind]} ({counts[kind]})"
        needed = 38 + 6.2 * len(words)
        if x + needed > width:
            x, y = MARGIN, y + 20
        if counts[kind]:
            parts += [mark(kind, x + 7, y - 4), text(x + 19, y, words, "small")]
            x += needed
    if search.left_out:
        told = f"{search.left_out:,} drafted prefixes are not shown: the server sent the best ones"
        y += 22
        parts.append(text(MARGIN, y, told, "small strong"))
    return element("g", *parts), y


def _heading(answer: Recommendation, search: Search, title: str) -> Markup:
    work = answer.work
    told = (
        f"K = {len(answer.items)} · {work.flow.replace('_', ' ')} · {work.passes} passes · "
        f"{work.rows} rows · {number(answer.timings.total_ms, 1)} ms"
    )
    return join(
        [
            text(MARGIN, 30, short(title, 90), "title"),
            text(MARGIN, 52, headline(answer, search)),
            text(MARGIN, 72, told, "small muted"),
        ]
    )


def _x(place: int) -> float:
    """Where the marks of a column stand."""
    return LEFT + place * COLUMN_WIDTH + _DOT


def _bands(answer: Recommendation, search: Search) -> Markup:
    """Return a bar over the levels each round settled, and the heads of the columns."""
    parts = [
        text(MARGIN, 46, "prompt", "head"),
        text(MARGIN, 63, f"{answer.work.prompt_tokens} tokens", "small muted"),
    ]
    rounds = answer.debug.rounds if answer.debug is not None else ()
    for at, one in enumerate(rounds, start=1):
        first, last = _x(one.base_level) - _DOT, _x(one.level - 1) - _DOT
        last += ITEM_WIDTH if one.level == search.item_length else COLUMN_WIDTH - 12
        rows = f", {one.rows} rows" if one.rows else ""
        full = f"round {at}: {one.step}{rows}, {number(one.forward_ms, 1)} ms in passes"
        brief = f"{at}: {one.step}{rows}, {number(one.forward_ms, 1)} ms"
        label = full if last - first > 250 else brief
        bar = rect(first, 2, last - first, 24, "band", element("title", full))
        parts += [bar, text(first + 10, 18, label, "small strong")]
    for place, level in enumerate(search.levels):
        parts += _head(_x(place) - _DOT, level)
    x = _x(len(search.levels)) - _DOT
    parts += [
        text(x, 46, "items", "head"),
        text(x, 63, "level " + str(search.item_length), "small muted"),
    ]
    return join(parts)


def _head(x: float, level: Level) -> list[Markup]:
    parts = [text(x, 46, f"level {level.number}", "head")]
    if level.step != "tree" or not level.num_exact:
        how = "told by the prompt" if level.step == "prompt" else "the target by itself"
        return [*parts, text(x, 63, f"{level.num_exact} beams, {how}", "small muted")]
    share, width = level.num_covered / level.num_exact, COLUMN_WIDTH - 30
    told = f"{level.num_covered} of {level.num_exact} had rows"
    return [
        *parts,
        text(x + width, 46, told, "tiny end"),
        rect(x, 55, width, 7, "track"),
        rect(x, 55, max(width * share, 1), 7, "m-accepted" if share == 1 else "m-missed"),
    ]


def _root(body: float) -> Markup:
    return element("circle", cx=_ROOT_X, cy=min(body, 240.0) / 2, r=7.0, _class="m-own")


def _edges(
    columns: tuple[Column, ...],
    items: tuple[RecommendedItem, ...],
    item_rows: dict[int, float],
    body: float,
) -> Markup:
    """Return the lines from parents to children, those of returned items last."""
    drawn: list[tuple[int, Markup]] = []
    winners = {item.tokens[: n + 1] for item in items for n in range(len(item.tokens) - 1)}
    root_y = min(body, 240.0) / 2
    above: dict[Path, tuple[float, float]] = {(): (_ROOT_X + 8, root_y)}
    for place, column in enumerate(columns):
        for row in column.rows:
            if row.prefix is None or row.prefix.tokens[:-1] not in above:
                continue
            rank, look = _edge_look(row.prefix, winners)
            start = above[row.prefix.tokens[:-1]]
            drawn.append((rank, curve(*start, _x(place) - RADIUS - 3, row.y, look)))
        above = _ends(place, column)
    for at, item in enumerate(items):
        start = above.get(item.tokens[: len(columns)], (0.0, 0.0))
        if start[0]:
            drawn.append((2, curve(*start, _x(len(columns)) - 4, item_rows[at], "edge winner")))
    return join(edge for _, edge in sorted(drawn, key=lambda one: one[0]))


def _ends(place: int, column: Column) -> dict[Path, tuple[float, float]]:
    """Return where the text of each prefix ends: there its edges begin."""
    return {
        row.prefix.tokens: (_x(place) + (88 + 6.1 * len(_short_source(row.prefix))), row.y)
        for row in column.rows
        if row.prefix is not None
    }


def _short_source(prefix: Prefix) -> str:
    return _SHORT_SOURCES.get(prefix.source, short(prefix.source, 10))


def _edge_look(prefix: Prefix, winners: set[Path]) -> tuple[int, str]:
    if prefix.tokens in winners:
        return 2, "edge winner"
    if prefix.exact:
        return 1, "edge exact"
    return 0, "edge dashed" if prefix.kind == "unreached" else "edge"


def _column(place: int, column: Column) -> Markup:
    return join(_row(_x(place), row) for row in column.rows)


def _row(x: float, row: Row) -> Markup:
    if row.prefix is None:
        words = {"exact": "exact beams"}.get(row.kind, row.kind)
        return text(x + 12, row.y + 4, f"+{row.more} more {words}", "small muted")
    prefix = row.prefix
    token = text(
        x + 12,
        row.y + 4,
        prefix.tokens[-1],
        "num small" + (" strong" if prefix.exact else " muted"),
    )
    score = number(prefix.score) if prefix.score > float("-inf") else ""
    told = "num tiny muted end" if prefix.target_score is None else "num tiny end"
    return element(
        "g",
        element("title", _hover(prefix)),
        mark(prefix.kind, x, row.y),
        token,
        text(x + 78, row.y + 4, score, told),
        text(x + 84, row.y + 4, _short_source(prefix), "tiny muted"),
    )


def _hover(prefix: Prefix) -> str:
    lines = ["-".join(map(str, prefix.tokens)), KIND_WORDS[prefix.kind]]
    if prefix.source:
        lines.append(f"drafted by {prefix.source}")
    for name, score in (("draft", prefix.draft_score), ("target", prefix.target_score)):
        lines.append(f"{name} score {'not known' if score is None else number(score, 4)}")
    lines.append(f"round {prefix.round + 1}")
    return "\n".join(lines)


def _item_places(items: tuple[RecommendedItem, ...]) -> dict[int, float]:
    return {at: ROW_HEIGHT / 2 + at * ROW_HEIGHT for at in range(len(items))}


def _items(
    items: tuple[RecommendedItem, ...], rows: dict[int, float], num_columns: int, total: int
) -> Markup:
    x, parts = _x(num_columns), []
    for at, item in enumerate(items):
        name = item.metadata.title if item.metadata and item.metadata.title else item.item_id
        path = "-".join(map(str, item.tokens))
        hover = f"{name}\n{item.item_id}\n{path}\nscore {number(item.score, 4)}"
        parts.append(
            element(
                "g",
                element("title", hover),
                text(x + 14, rows[at] + 4, f"{at + 1}", "num small strong end"),
                text(x + 22, rows[at] + 4, short(name, TITLE_CHARACTERS), "small"),
                text(x + ITEM_WIDTH - 14, rows[at] + 4, number(item.score), "num tiny end"),
            )
        )
    if total > len(items):
        y = ROW_HEIGHT / 2 + len(items) * ROW_HEIGHT + 4
        parts.append(text(x + 22, y, f"+{total - len(items)} more items", "small muted"))
    return join(parts)
