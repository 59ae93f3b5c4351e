"""The cost table: measured, kept, reloaded; a damaged file is measured again."""

import pytest

from specbeam.engine import ModelRunner, RunnerConfig
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
    assert [(p.prefix_tokens, p.rows) for p in points] == [
        (30, 1), (30, 8), (30, 32), (60, 1), (60, 8), (60, 32)
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


def test_no_time_means_no_measurement(runner, tmp_path):
    assert find(runner, tmp_path, budget_s=0.0) == ((), None)
    assert not list(tmp_path.iterdir())


def test_the_key_names_threads_and_model(runner):
    keys = {cost_key(runner, 1, "a"), cost_key(runner, 2, "a"), cost_key(runner, 1, "b")}
    assert len(keys) == 3
