"""The cost table: measured, kept, reloaded; a damaged file is measured again."""

import numpy as np
import pytest

from specbeam.decoding.costs import CostTable
from specbeam.engine import ModelRunner, RunnerConfig, cost
from specbeam.engine.cost import CostPoint, cost_key, find_costs, load_costs, save_costs
from tests.bundles import tiny_bundle


@pytest.fixture(scope="module")
def runner():
    config = RunnerConfig(slots=1, max_prompt_tokens=60, max_rows=40)
    return ModelRunner.load(tiny_bundle().target_dir, config)


def find(runner, directory, **changes):
    arguments = {"threads": 1, "max_rows": 32, "cache_dir": directory, "budget_s": 5.0, **changes}
    return find_costs(runner, "fingerprint", **arguments)


def test_costs_are_measured_once(runner, tmp_path):
    points, problem = find(runner, tmp_path)
    assert problem is None
    rows = [1, 4, 8, 16, 24, 32]
    prompts = [(0, 30), (0, 60)]
    assert [(p.prefix_tokens, p.rows) for p in points] == [
        *prompts, *((30, r) for r in rows), *((60, r) for r in rows)
    ]  # fmt: skip
    assert all(p.ms > 0 for p in points)
    assert find(runner, tmp_path) == (points, None)
    assert find(runner, tmp_path, budget_s=0.0) == (points, None)
    assert runner.pool.free == 1
    assert runner.meter.take() == ()


@pytest.mark.parametrize("text", ["", "{}", '{"points": [{"rows": 1}]}', '{"points": 3}', "\x00"])
def test_a_damaged_file_counts_as_none(runner, tmp_path, text):
    save_costs(tmp_path, "key", [CostPoint(1, 30, 0.5)])
    assert load_costs(tmp_path, "key") == (CostPoint(1, 30, 0.5),)
    (tmp_path / "costs-key.json").write_text(text)
    assert load_costs(tmp_path, "key") == ()


def test_a_directory_that_cannot_be_written_is_only_reported(runner, tmp_path):
    (tmp_path / "file").write_text("")
    points, problem = find(runner, tmp_path / "file")
    assert points
    assert isinstance(problem, OSError)


def test_small_shapes_come_first_when_time_is_short(runner, monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(cost.time, "monotonic", lambda: float(next(now)))
    points = cost.measure_costs(runner, max_rows=32, budget_s=6.0)
    assert [(p.rows, p.prefix_tokens) for p in points] == [
        (1, 30),
        (4, 30),
        (8, 30),
        (1, 60),
        (4, 60),
    ]
    table = CostTable.from_points(points)
    assert table is not None
    assert table.prompt_ms(30) is None


def test_a_prompt_is_a_whole_pass_and_tree_rows_lie_behind_one(runner, monkeypatch):
    seen = []

    def watch(name):
        real = getattr(runner, name)

        def run(*arguments):
            seen.append((name, *(len(a) if hasattr(a, "__len__") else a for a in arguments[1:])))
            return real(*arguments)

        monkeypatch.setattr(runner, name, run)

    watch("prefill")
    watch("forward_rows")
    points = cost.measure_costs(
        runner, max_rows=9, budget_s=5.0, prefixes=[20], rows=[3, 99], prompts=[7]
    )
    assert {(p.rows, p.prefix_tokens) for p in points} == {(7, 0), (3, 20), (9, 20)}
    assert set(seen) == {
        ("prefill", 7),
        ("forward_rows", 20, 3, 3, 3),
        ("forward_rows", 20, 9, 9, 9),
    }


def test_the_table_reads_what_was_measured(runner):
    points = cost.measure_costs(runner, max_rows=32, budget_s=5.0)
    table = CostTable.from_points(points)
    assert table is not None
    assert (np.diff(table.ms(np.arange(1, 100), 45)) >= 0).all()
    assert table.prompt_ms(60) is not None


def test_no_time_means_no_measurement(runner, tmp_path):
    assert find(runner, tmp_path, budget_s=0.0) == ((), None)
    assert not list(tmp_path.iterdir())


def test_the_key_names_threads_and_model(runner):
    keys = {cost_key(runner, 1, "a"), cost_key(runner, 2, "a"), cost_key(runner, 1, "b")}
    assert len(keys) == 3
