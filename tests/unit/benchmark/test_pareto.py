"""The pareto benchmark at toy size: every way answers alike, from every state of the prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from specbeam.benchmark.drafters.cases import DraftCase, make_cases
from specbeam.benchmark.drafters.models import DraftModels
from specbeam.benchmark.pareto.bench import ParetoSpec, run_pareto
from specbeam.benchmark.settings import (
    CACHED,
    PREFIXES,
    ROOT_READY,
    Knowledge,
    Setting,
    sources_of,
)
from specbeam.benchmark.speculation import Speculation, hold_prompt
from specbeam.decoding.costs import CostPoint, CostTable
from specbeam.decoding.selection import Selection
from specbeam.drafting.prices import Prices
from specbeam.drafting.ways import PLAIN, Flow, Way
from specbeam.pictures.pareto import pareto_picture
from tests.bundles import tiny_bundle

BUNDLE = tiny_bundle()


@pytest.fixture(scope="module")
def models() -> DraftModels:
    return DraftModels.load(BUNDLE, threads=1, dtype="fp64", max_rows=128)


@pytest.fixture(scope="module")
def cases(models: DraftModels) -> list[DraftCase]:
    rng = np.random.default_rng(3)
    histories = [rng.integers(0, BUNDLE.trie.num_items, 5) for _ in range(12)]
    return make_cases(models.target, BUNDLE, histories, range(6), lambda _: None, with_pool=True)


@pytest.fixture(scope="module")
def table() -> CostTable:
    found = CostTable.from_points(
        CostPoint(rows, prefix, 1 + 0.02 * rows) for rows in (1, 32, 128) for prefix in (0, 10)
    )
    assert found is not None
    return found


@pytest.fixture(scope="module")
def result(
    models: DraftModels, cases: list[DraftCase], table: CostTable
) -> tuple[dict[str, Any], list[str]]:
    lines: list[str] = []
    spec = ParetoSpec(widths=(1, 4), rows=(16, 48), ablation=4, threads=1, dtype="fp64")
    return run_pareto(models, cases[3:], cases[:3], table, spec, lines.append), lines


def test_every_cell_is_there_and_every_answer_is_the_plain_one(
    result: tuple[dict[str, Any], list[str]],
) -> None:
    found, lines = result
    names = {("A1", 48), ("fixed", 16), ("fixed", 48), ("chosen", 48), ("auto", 48)}
    want = {(p, k, *way) for p in PREFIXES for k in (1, 4) for way in names}
    assert {(c["prefix"], c["k"], c["way"], c["max_rows"]) for c in found["cells"]} == want
    for cell in [*found["cells"], *found["ablation"]]:
        assert cell["identical"] == cell["requests"] == 3, cell
        low, high = cell["speedup_95"]
        assert low <= cell["speedup"] <= high
    assert len(lines) == len(found["cells"]) + len(found["ablation"])


def test_a_ready_root_saves_a_pass_and_a_held_prompt_none(
    result: tuple[dict[str, Any], list[str]],
) -> None:
    passes = {(c["prefix"], c["k"], c["way"]): c["passes"] for c in result[0]["cells"]}
    for width in (1, 4):
        assert passes["cold", width, "A1"] == passes["cached", width, "A1"] == BUNDLE.trie.depth
        assert passes["root ready", width, "A1"] == BUNDLE.trie.depth - 1


def test_each_ingredient_is_left_out_once(
    result: tuple[dict[str, Any], list[str]], models: DraftModels
) -> None:
    names = [cell["way"] for cell in result[0]["ablation"]]
    assert names[:2] == ["A1", "everything"]
    left_out = {f"without {source}" for source in sources_of(models.names())}
    assert left_out < set(names) and len(names) == len(set(names))


def test_it_can_be_drawn(result: tuple[dict[str, Any], list[str]], tmp_path: Path) -> None:
    again = json.loads(json.dumps(result[0]))
    assert pareto_picture(again, metric="ms", ways=(), name="x").startswith("<")


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("rule", ["GUMBEL", "RELAXED"])
def test_draws_are_searched_in_every_way(
    models: DraftModels, cases: list[DraftCase], table: CostTable, prefix: str, rule: str
) -> None:
    flows = [Flow.ROOT_FIRST] if prefix == ROOT_READY else [Flow.ROOT_FIRST, Flow.ONE_PASS]
    for seed, case in enumerate(cases):
        setting = Setting(
            3, prefix, 40, sources_of(models.names()), Selection(rule, seed), draft_width=6
        )
        if prefix != "cold":
            hold_prompt(models, case)
        plain = Speculation(models, case, setting).run(PLAIN)
        for flow in flows:
            known = Knowledge(Prices(table)) if rule == "GUMBEL" else None
            found = Speculation(models, case, setting, known).run(Way(flow, use_model=True))
            assert len(set(found.leaves.tolist())) == len(found.leaves) == len(plain.leaves)
            if rule == "GUMBEL":
                np.testing.assert_array_equal(found.leaves, plain.leaves)


def test_a_search_that_was_told_nothing_uses_its_rows(
    models: DraftModels, cases: list[DraftCase]
) -> None:
    setting = Setting(3, CACHED, 30, sources_of(models.names()))
    hold_prompt(models, cases[0])
    found = Speculation(models, cases[0], setting).run(Way(Flow.ROOT_FIRST, use_model=True))
    assert found.passes < BUNDLE.trie.depth and found.reached > 1
