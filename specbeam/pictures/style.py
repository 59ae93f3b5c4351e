"""Colours and shapes of all pictures, light, dark and printed.

The colours are Okabe and Ito's, told apart by readers with any colour vision; shapes say the same.
"""

from specbeam.pictures.markup import Markup

_LIGHT = {
    "bg": "#ffffff",
    "panel": "#f6f7f9",
    "fg": "#1c1f24",
    "muted": "#5b6470",
    "line": "#d5dae0",
    "accepted": "#00795a",
    "own": "#0068a3",
    "missed": "#c24e00",
    "rejected": "#8b6f9c",
    "unreached": "#7c8591",
    "winner": "#1c1f24",
    "c0": "#0068a3",
    "c1": "#c24e00",
    "c2": "#00795a",
    "c3": "#a8538a",
    "c4": "#8a6d00",
    "c5": "#78828e",
    "c6": "#1c1f24",
}
_DARK = {
    "bg": "#14171b",
    "panel": "#1d2127",
    "fg": "#e8ebef",
    "muted": "#a0a9b4",
    "line": "#363d46",
    "accepted": "#2bc49a",
    "own": "#5ab4ec",
    "missed": "#ff8a3d",
    "rejected": "#bfa0d1",
    "unreached": "#8b95a1",
    "winner": "#ffffff",
    "c0": "#5ab4ec",
    "c1": "#ff8a3d",
    "c2": "#2bc49a",
    "c3": "#e08fc4",
    "c4": "#e6c229",
    "c5": "#98a3af",
    "c6": "#e8ebef",
}
NUM_COLOURS = 7

_RULES = """
.pic{background:var(--bg);color:var(--fg);font:13px/1.45 system-ui,-apple-system,"Segoe UI",
"DejaVu Sans",sans-serif}
svg.pic text{fill:var(--fg);stroke:none}
svg.pic .small{font-size:11px} svg.pic .tiny{font-size:10px}
svg.pic .head{font-size:14px;font-weight:600} svg.pic .title{font-size:17px;font-weight:650}
svg.pic .muted{fill:var(--muted)} svg.pic .strong{font-weight:650}
svg.pic .num{font-variant-numeric:tabular-nums}
svg.pic .end{text-anchor:end} svg.pic .mid{text-anchor:middle}
.m-accepted{fill:var(--accepted);stroke:var(--accepted)}
.m-own{fill:var(--own);stroke:var(--own)}
.m-missed{fill:var(--missed);stroke:var(--missed)}
.m-rejected{fill:none;stroke:var(--rejected);stroke-width:1.8}
.m-unreached{fill:none;stroke:var(--unreached);stroke-width:1.3;stroke-dasharray:2 1.6}
.edge{fill:none;stroke:var(--line);stroke-width:1}
.edge.exact{stroke:var(--muted);stroke-opacity:.55;stroke-width:1.2}
.edge.winner{stroke:var(--winner);stroke-opacity:.9;stroke-width:1.8}
.edge.dashed{stroke-dasharray:2 3}
.band{fill:var(--panel);stroke:var(--line)} .track{fill:var(--line)}
.way{fill:none;stroke-width:1.6;stroke-opacity:.8}
.front{fill:none;stroke:var(--muted);stroke-width:5;stroke-opacity:.25}
.quiet{opacity:.4}
.plain{stroke:var(--fg);stroke-width:1.2;stroke-dasharray:6 4}
.axis{stroke:var(--muted);stroke-width:1;fill:none} .grid{stroke:var(--line);stroke-width:1}
.s-target{fill:var(--c0)} .s-draft{fill:var(--c1)} .s-tree{fill:var(--c2)}
.s-history{fill:var(--c3)} .s-prompt{fill:var(--c4)} .s-rank{fill:var(--c5)}
.s-wait{fill:var(--panel);stroke:var(--muted);stroke-width:1}
"""


def stylesheet() -> Markup:
    """Return the style sheet of every picture."""
    colours = "".join(f".k{n}{{stroke:var(--c{n});fill:var(--c{n})}}" for n in range(NUM_COLOURS))
    return Markup(
        f".pic{{{_variables(_LIGHT)}}}\n"
        f"@media (prefers-color-scheme:dark){{.pic{{{_variables(_DARK)}}}}}\n"
        f"@media print{{.pic{{{_variables(_LIGHT)}}}"
        "*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}\n"
        f"{colours}{_RULES}"
    )


def _variables(colours: dict[str, str]) -> str:
    return ";".join(f"--{name}:{value}" for name, value in colours.items())
