"""The hand-written forward is the engine's forward, and the benchmark reports both."""

from __future__ import annotations

import pytest

from specbeam.benchmark.forward_bench import ForwardBench, ForwardBenchSpec


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-5), ("bf16", 0.05)])
def test_hand_written_forward_gives_the_engines_logits(dtype: str, tolerance: float) -> None:
    spec = ForwardBenchSpec("toy", dtype, (1, 5, 9), 12, (1,), repeats=1, vocab_size=40)
    result = ForwardBench(spec).run(lambda line: None)
    assert [cell["rows"] for cell in result["cells"]] == [1, 5, 9]
    for cell in result["cells"]:
        assert cell["largest_difference"] <= tolerance * max(1.0, cell["largest_logit"])
        assert cell["ratio"] > 0
        assert cell["ratio_to_packed"] > 0
        assert set(cell["median_ms"]) == {"engine", "minimal", "minimal_packed"}
