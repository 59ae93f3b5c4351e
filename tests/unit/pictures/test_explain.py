"""The page and the picture of one answer: what is in them, not every byte."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from specbeam.client import ForwardInterval, Recommendation, TreeEstimate
from specbeam.pictures.columns import SHOWN
from specbeam.pictures.page import explain_page, explain_svg
from specbeam.pictures.timeline import busy_ns, timeline_picture
from tests import pictures

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "\"'><script>alert(1)</script><!-- &amp; ]]> \x00\x1b\ud800 \u202e</style></svg>"
VOID = ("meta", "rect", "circle", "line", "path", "polygon")


class Checked(HTMLParser):
    """Fails where end tags do not fit, and remembers tags, attributes and texts."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.handle_startendtag(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def _page(made: Recommendation, title: str = "Ann") -> Checked:
    parser = Checked()
    text = explain_page(made, title)
    text.encode("utf-8")
    parser.feed(text)
    parser.close()
    assert not parser.open
    return parser


def _svg(made: Recommendation, title: str = "Ann") -> ElementTree.Element:
    text = explain_svg(made, title)
    return ElementTree.fromstring(text.encode("utf-8"))


def _marks(root: ElementTree.Element, kind: str) -> int:
    """Nodes of a kind; those of the legend and the bars are not counted."""
    groups = [g for g in root.iter(f"{SVG}g") if g.find(f"{SVG}title") is not None]
    return sum(any(e.get("class") == f"m-{kind}" for e in group) for group in groups)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (pictures.lucky(), {"accepted": 2, "own": 2, "missed": 0, "rejected": 1, "unreached": 0}),
        (pictures.unlucky(), {"accepted": 1, "own": 4, "missed": 1, "rejected": 1, "unreached": 1}),
    ],
    ids=["lucky", "unlucky"],
)
def test_every_prefix_has_its_shape(made: Recommendation, expected: dict[str, int]) -> None:
    root = _svg(made)
    assert {kind: _marks(root, kind) for kind in expected} == expected
    words = " ".join(root.itertext())
    assert "level 1" in words and "level 2" in words and "items" in words
    assert "round 2: tree" in words or "2: tree" in words


def test_shapes_differ_without_colour() -> None:
    root = _svg(pictures.unlucky())
    groups = [group for group in root.iter(f"{SVG}g") if group.find(f"{SVG}title") is not None]
    shapes = {
        kind: tuple(e.tag for e in group if e.get("class") == f"m-{kind}")
        for kind in ("accepted", "own", "missed", "rejected")
        for group in groups
        if any(e.get("class") == f"m-{kind}" for e in group)
    }
    # An unreached one is a disc like an accepted one, but hollow and dashed.
    assert len(set(shapes.values())) == len(shapes) == 4


def test_hover_tells_tokens_source_and_both_scores() -> None:
    root = _svg(pictures.unlucky())
    told = [title.text or "" for title in root.iter(f"{SVG}title")]
    (node,) = [text for text in told if text.startswith("0-7\n")]
    assert "cooccurrence" in node and "\u22122.0000" in node and "\u22122.5000" in node
    (missed,) = [text for text in told if text.startswith("1-6\n")]
    assert "draft score not known" in missed and "repaired" in missed


def test_coverage_is_told_per_level() -> None:
    words = " ".join(_svg(pictures.unlucky()).itertext())
    assert "1 of 2 had rows" in words
    assert "2 of 2 had rows" in " ".join(_svg(pictures.lucky()).itertext())


def test_page_has_every_part() -> None:
    page = _page(replace(pictures.unlucky(), degraded=("no_draft",)))
    text = " ".join(page.texts)
    for part in (
        "The search",
        "Drafters and target",
        "Where the time went",
        "Who drafted",
        "Items",
    ):
        assert part in text
    assert "no draft" in text and "20.0" in text and "i0" in text
    assert page.tags.count("svg") == 3


def test_page_needs_nothing_else() -> None:
    page = _page(pictures.lucky())
    assert not {"script", "link", "img", "iframe", "object", "use", "image"} & set(page.tags)
    names = [name for name, _ in page.attributes]
    assert not {"src", "href", "xlink:href", "onload", "onclick"} & set(names)
    text = explain_page(pictures.lucky(), "Ann").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|url\(|@import|//", text)


def test_light_dark_and_print() -> None:
    for text in (explain_page(pictures.lucky(), "Ann"), explain_svg(pictures.lucky(), "Ann")):
        dark, printed = text.index("prefers-color-scheme:dark"), text.index("@media print")
        assert dark < printed
        assert text.index(".pic{--bg:#ffffff") < dark < text.index("--bg:#14171b")


def test_hostile_names_stay_text() -> None:
    made = pictures.renamed(pictures.unlucky(), HOSTILE)
    page = _page(made, HOSTILE)
    assert "script" not in page.tags
    shown = "".join(page.texts)
    assert shown.count("<script>alert(1)</script>") >= 2 * len(made.items)
    assert "\x00" not in shown and "\x1b" not in shown
    root = _svg(made, HOSTILE)
    assert root.find(f".//{SVG}script") is None
    # Controls and lone surrogates that XML has not are replaced, the rest is there.
    assert "<script>alert(1)" in " ".join(root.itertext())


@pytest.mark.parametrize(("width", "drafted"), [(20, 236), (256, 1024)])
def test_large_trees_are_collapsed_and_counted(width: int, drafted: int) -> None:
    made = pictures.large(width, drafted)
    root = _svg(made)
    # Beams above returned items are shown whatever their number, here at most 50 items.
    assert _marks(root, "accepted") == min(width, max(SHOWN["exact"], 50))
    assert _marks(root, "rejected") == SHOWN["rejected"]
    words = " ".join(root.itertext())
    assert f"+{drafted - SHOWN['rejected']} more rejected" in words
    assert float(root.get("height", "0")) < 1600
    assert len(explain_page(made, "x")) < 2_000_000


def test_prefixes_the_server_left_out_are_told() -> None:
    made = pictures.lucky()
    cut = replace(made, work=replace(made.work, drafted_nodes=2003))
    assert "2,000 drafted prefixes are not shown" in " ".join(_svg(cut).itertext())
    assert "not shown" not in " ".join(_svg(made).itertext())


def test_plain_search_and_an_empty_answer_can_be_drawn() -> None:
    plain = pictures.answer([pictures.prompt_round()], [pictures.item(0, (0, 1))])
    assert "Drafters and target" not in " ".join(_page(plain).texts)
    nothing = pictures.answer([replace(pictures.prompt_round(0), level=1)], [])
    assert _page(nothing).tags.count("table") == 1


def test_same_answer_same_page() -> None:
    assert explain_page(pictures.unlucky(), "x") == explain_page(pictures.unlucky(), "x")


def test_passes_by_another_clock_are_told_not_drawn() -> None:
    debug = pictures.lucky().debug
    assert debug is not None
    picture = timeline_picture(debug)
    assert picture is not None and "another machine" not in picture
    assert "11.0 of them" in picture
    elsewhere = ForwardInterval("target", 10**15, 10**15 + 5)
    told = timeline_picture(replace(debug, forwards=(*debug.forwards, elsewhere)))
    assert told is not None and "1 passes ran by another machine" in told
    assert told.count("pass of the target") == picture.count("pass of the target") == 2
    assert timeline_picture(replace(debug, spans=())) is None


def test_busy_time_is_the_union_of_intervals() -> None:
    assert busy_ns([(5, 9), (0, 4), (3, 6), (20, 21), (5, 6)]) == 10
    assert busy_ns([]) == 0


def test_what_was_expected_stands_beside_what_came() -> None:
    made = pictures.unlucky()
    assert made.debug is not None
    assert "What was expected" not in " ".join(_page(made).texts)
    rounds = tuple(
        replace(one, estimate=TreeEstimate(21.0, 34.5, (0.912, 0.5))) if one.step == "tree" else one
        for one in made.debug.rounds
    )
    told = " ".join(_page(replace(made, debug=replace(made.debug, rounds=rounds))).texts)
    first = next(one for one in rounds if one.step == "tree")
    assert "What was expected" in told and "34.5" in told
    assert f"level {first.base_level + 1}: 91 %" in told
    assert ("no" if first.level == first.base_level + 1 else "yes") in told
