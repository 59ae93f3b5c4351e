"""One HTML page about one answer: what was asked, how it was found, and the items."""

from __future__ import annotations

from specbeam.client_types import Recommendation
from specbeam.pictures.expected import HEADS, expected_rows
from specbeam.pictures.markup import Markup, element, number
from specbeam.pictures.scatter import scatter_picture
from specbeam.pictures.search import Search, headline, provenance, search_of, sources_of
from specbeam.pictures.style import stylesheet
from specbeam.pictures.timeline import timeline_picture
from specbeam.pictures.tree import KIND_WORDS, tree_picture

_RULES = """
*{box-sizing:border-box} html{background:var(--bg)}
body{margin:0 auto;padding:28px 28px 48px;max-width:1180px}
h1{font-size:24px;margin:0 0 6px;overflow-wrap:anywhere} h2{font-size:17px;margin:34px 0 4px}
p{margin:0 0 12px;max-width:78ch} .lead{font-size:16px} .note{color:var(--muted)}
.cards{display:flex;flex-wrap:wrap;gap:8px;margin:16px 0 0;padding:0;list-style:none}
.cards li{background:var(--panel);border:1px solid var(--line);border-radius:7px;padding:7px 13px}
.cards b{display:block;font-size:17px;font-variant-numeric:tabular-nums}
.cards span{color:var(--muted);font-size:12px}
.cards .flag{border-color:var(--missed);border-width:2px}
.wide{overflow-x:auto;padding:4px 0} .wide svg{display:block;max-width:none}
table{border-collapse:collapse;margin:6px 0} th{text-align:left;font-weight:600}
th,td{padding:4px 14px 4px 0;border-bottom:1px solid var(--line);vertical-align:top}
td.num,th.num{text-align:right;font-variant-numeric:tabular-nums}
td.path{color:var(--muted);overflow-wrap:anywhere} tr{break-inside:avoid}
footer{margin-top:36px;color:var(--muted);font-size:12px;overflow-wrap:anywhere}
@media print{body{padding:0;max-width:none}.wide{overflow:visible}
.wide svg{max-width:100%;height:auto}}
@page{size:landscape;margin:12mm}
"""
_MODE_WORDS = {"exact_topk": "exact top-K"}


def explain_page(answer: Recommendation, title: str) -> str:
    """Return the page; it needs no other file and no script.

    Args:
        answer: An answer with details of its rounds.
        title: Whom it is for.

    Raises:
        ValueError: The answer carries no such details.
    """
    search = search_of(answer)
    head = element(
        "head",
        Markup('<meta charset="utf-8"/>'),
        Markup('<meta name="viewport" content="width=device-width,initial-scale=1"/>'),
        Markup('<meta name="color-scheme" content="light dark"/>'),
        element("title", f"specbeam: {title}"),
        # A style sheet is not escaped by browsers; nothing foreign is in it.
        element("style", Markup(stylesheet() + _RULES)),
    )
    body = element(
        "body",
        element("h1", title),
        element("p", headline(answer, search), _class="lead"),
        _cards(answer, search),
        *_tree(answer, search, title),
        *_scores(search),
        *_expected(answer),
        *_times(answer),
        *_sources(search),
        *_items(answer, search),
        _footer(answer),
        _class="pic",
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def explain_svg(answer: Recommendation, title: str) -> str:
    """Return the picture of the tree as a file of its own.

    Raises:
        ValueError: The answer carries no details of its rounds.
    """
    picture = tree_picture(answer, search_of(answer), title, standalone=True)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{picture}\n'


def _cards(answer: Recommendation, search: Search) -> Markup:
    work = answer.work
    width = max((level.num_exact for level in search.levels), default=len(answer.items))
    told = [
        ("K", str(len(answer.items))),
        ("beams", str(width)),
        ("mode", _MODE_WORDS.get(answer.mode, answer.mode.replace("_", " "))),
        ("flow", work.flow.replace("_", " ")),
        ("passes of the target", str(work.passes)),
        ("tree rows", f"{work.rows:,}"),
        ("prompt tokens", f"{work.prompt_tokens:,}"),
        ("drafted prefixes", f"{work.drafted_nodes:,}"),
        ("ms on the server", number(answer.timings.total_ms, 1)),
    ]
    cards = [element("li", element("b", value), element("span", name)) for name, value in told]
    for flag in answer.degraded:
        words = element("b", flag.replace("_", " ")), element("span", "degraded")
        cards.append(element("li", *words, _class="flag"))
    return element("ul", *cards, _class="cards")


def _tree(answer: Recommendation, search: Search, title: str) -> list[Markup]:
    picture = tree_picture(answer, search, title, standalone=False)
    told = (
        "From left to right one token after the other; in a column the exact beams of the level, "
        "the target's best first, then what was drafted in vain. Filled shapes are exact beams, "
        "dark lines lead to the items. A bar at the top is one turn of the target and the levels "
        "it settled. Who drafted a prefix stands behind its score: the target's, or in grey the "
        "drafters' where the target told none."
    )
    return [element("h2", "The search"), element("p", told, _class="note"), _wide(picture)]


def _scores(search: Search) -> list[Markup]:
    picture = scatter_picture(search)
    if picture is None:
        return []
    told = (
        "Log-probabilities of whole prefixes, of every drafted prefix the target scored. On the "
        "line both agree; what lies above it the drafters thought too little of."
    )
    return [element("h2", "Drafters and target"), element("p", told, _class="note"), _wide(picture)]


def _expected(answer: Recommendation) -> list[Markup]:
    rows = expected_rows(answer)
    if not rows:
        return []
    told = "Milliseconds to the end of the search when the tree was chosen, by what passes cost."
    return [
        element("h2", "What was expected"),
        element("p", told, _class="note"),
        _table(HEADS, rows, left=0),
    ]


def _times(answer: Recommendation) -> list[Markup]:
    picture = timeline_picture(answer.debug) if answer.debug is not None else None
    return [] if picture is None else [element("h2", "Where the time went"), _wide(picture)]


def _sources(search: Search) -> list[Markup]:
    found = sources_of(search)
    if not found:
        return []
    rows = [
        element(
            "tr",
            element("td", name),
            element("td", f"{drafted:,}", _class="num"),
            element("td", f"{exact:,}", _class="num"),
            element("td", f"{100 * exact / drafted:.0f} %", _class="num"),
        )
        for name, drafted, exact in found
    ]
    heads = ("drafter", "spoke most for", "of them exact beams", "share")
    return [element("h2", "Who drafted"), _table(heads, rows, left=1)]


def _items(answer: Recommendation, search: Search) -> list[Markup]:
    rows = []
    for rank, item in enumerate(answer.items, start=1):
        known = item.metadata.title if item.metadata is not None else ""
        told = " · ".join(KIND_SHORT.get(one, one) for one in provenance(item, search))
        rows.append(
            element(
                "tr",
                element("td", str(rank), _class="num"),
                element("td", known or "-"),
                element("td", item.item_id),
                element("td", number(item.score, 4), _class="num"),
                element("td", "-".join(map(str, item.tokens)), _class="path"),
                element("td", told, _class="path"),
            )
        )
    heads = ("", "title", "item", "score", "tokens", "who brought each level")
    return [element("h2", "Items"), _table(heads, rows, left=len(heads))]


KIND_SHORT = {
    "own": "target",
    "missed": "repaired",
    "rejected": KIND_WORDS["rejected"],
    "unreached": KIND_WORDS["unreached"],
}


def _footer(answer: Recommendation) -> Markup:
    prints = answer.fingerprints
    return element(
        "footer",
        f"Bundle {answer.bundle} · request {answer.request_id} · model {prints.model[:12]} · "
        f"catalogue {prints.catalog[:12]}",
    )


def _table(heads: tuple[str, ...], rows: list[Markup], *, left: int) -> Markup:
    told = [
        element("th", head, _class=None if place < left else "num")
        for place, head in enumerate(heads)
    ]
    return element("table", element("thead", element("tr", *told)), element("tbody", *rows))


def _wide(picture: Markup) -> Markup:
    return element("div", picture, _class="wide")
