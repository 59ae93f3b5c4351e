"""Pictures of result files."""

import json
import random
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from specbeam.cli import exit_codes
from specbeam.cli.main import run
from specbeam.pictures.cells import Cell, UnknownCellsError, front_of, read_cells
from specbeam.pictures.pareto import pareto_picture
from specbeam.pictures.ticks import nice_ticks

RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results"
SVG = "{http://www.w3.org/2000/svg}"
PARETO = {
    "what": "trees chosen by cost",
    "conditions": {"bundle": "<b>", "cores": 2},
    "cells": [
        {
            "k": k,
            "max_rows": rows,
            "way": way,
            "prefix": 200,
            "ms": ms + k,
            "passes": 2.0,
            "rows": float(rows),
            "speedup": 1.2,
        }
        for k in (5, 10)
        for way, rows, ms in (("plain", 15, 9), ("chosen", 40, 7), ("chosen", 80, 8))
    ],
}


def _draw(result: Any, **options: Any) -> ElementTree.Element:
    return ElementTree.fromstring(pareto_picture(result, **options).encode())


def _points(root: ElementTree.Element) -> list[str]:
    titles = (title.text or "" for title in root.iter(f"{SVG}title"))
    return [title for title in titles if "K = " in title]


@pytest.mark.parametrize("name", ["drafters-beauty", "drafters-1m", "search-small", "served-small"])
@pytest.mark.parametrize("metric", ["ms", "passes"])
def test_our_result_files_can_be_drawn(name: str, metric: str) -> None:
    result = json.loads((RESULTS / f"{name}.json").read_text())
    cells = read_cells(result, metric)
    root = _draw(result, metric=metric, name=f"{name}.json")
    assert len(_points(root)) == len(cells)
    heads = [text for text in root.itertext() if text.startswith("K = ") and "\n" not in text]
    assert {int(head.split(",")[0][4:]) for head in heads} == {cell.k for cell in cells}
    legend = " ".join(root.itertext())
    assert all(cell.way in legend for cell in cells)


def test_one_panel_per_k_and_every_cell_in_it() -> None:
    root = _draw(PARETO)
    points = _points(root)
    assert len(points) == 6 and sum("K = 5" in point for point in points) == 3
    assert "speed-up 1.20" in points[0] and "<b>" in " ".join(root.itertext())
    assert len(_points(_draw(PARETO, ways=["plain"]))) == 2


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        ({}, "no cells"),
        ([1], "no cells"),
        ({"cells": [3]}, r"cells\[0\] is not an object"),
        ({"cells": [{"k": 1, "rows": 3, "ms": 2}]}, r"cells\[0\] has no way or line"),
        ({"cells": [{"way": "x", "k": 1, "ms": 2}]}, r"cells\[0\] has no rows"),
        ({"cells": [{"way": "x", "k": 1, "rows": 1, "ms": float("nan")}]}, "no cell has ms"),
    ],
)
def test_other_files_are_refused(result: Any, problem: str) -> None:
    with pytest.raises(UnknownCellsError, match=problem):
        pareto_picture(result)


def test_unknown_way_lists_those_there_are() -> None:
    with pytest.raises(UnknownCellsError, match="plain; chosen"):
        pareto_picture(PARETO, ways=["other"])


@pytest.mark.parametrize("seed", range(30))
def test_front_holds_what_nothing_beats(seed: int) -> None:
    rng = random.Random(seed)
    cells = [
        Cell(1, None, str(n), float(rng.randint(0, 9)), float(rng.randint(0, 9)), "")
        for n in range(rng.randint(1, 25))
    ]
    front = front_of(cells)
    points = {(cell.rows, cell.value) for cell in cells}
    want = {
        (rows, value)
        for rows, value in points
        if not any((r <= rows and v <= value and (r, v) != (rows, value)) for r, v in points)
    }
    assert {(cell.rows, cell.value) for cell in front} == want
    assert len(front) == len(want)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 7.9), (95, 105), (0.001, 0.0012), (2, 2)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    ticks = nice_ticks(low, high, 6)
    assert 1 <= len(ticks) <= 7
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
    assert ticks == sorted(ticks)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "pareto.json"
    file.write_text(json.dumps(PARETO))
    assert run(["bench", "plot", str(file)]) == exit_codes.OK
    assert ElementTree.parse(tmp_path / "pareto.svg").getroot().tag == f"{SVG}svg"
    other = tmp_path / "other.svg"
    assert run(["bench", "plot", str(file), "--metric", "passes", "--out", str(other)]) == 0
    assert "passes of the target" in other.read_text()
    assert run(["bench", "plot", str(file), "--out", "x.png"]) == exit_codes.USAGE
    file.write_text("no")
    assert run(["bench", "plot", str(file)]) == exit_codes.BAD_INPUT
    file.write_text(json.dumps({"cells": []}))
    assert run(["bench", "plot", str(file)]) == exit_codes.BAD_INPUT
    assert "no cells" in capsys.readouterr().err
