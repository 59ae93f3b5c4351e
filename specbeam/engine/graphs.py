"""CUDA graphs of the passes over tree rows.

Written without a GPU at hand.  What the tests on a CPU do show: the computation that is recorded is
the ordinary pass, for every shape of a bucket, slot and order of rows, and rows that fill up touch
nothing.  What only a GPU can show, with `tests/gpu/test_graphs.py` and `make bench-gpu`:

* that every kernel in it can be recorded (indexed writes, gathering a slot, masked attention);
* that a replay equals the pass kernel by kernel, and that graphs may share one memory pool;
* that the copy of a slot's keys and values per layer costs less than launching the kernels;
* how long recording takes, and how much memory the graphs hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from specbeam.engine.static_decoder import StaticPass

_WARM_UPS = 2


class GraphRecorder:
    """Records passes; all graphs share one memory pool, as only one runs at a time."""

    def __init__(self, device: torch.device) -> None:
        """Record nothing yet.

        Args:
            device: of the models whose passes are recorded.
        """
        self._device = device
        self._pool: Any = None  # a handle of torch's
        self.graphs = 0

    def __call__(self, static: StaticPass) -> Callable[[], torch.Tensor]:
        """Record a bucket's pass and return its replay.

        The buffers hold rows that touch nothing, so the runs before the recording do not either.
        """
        with torch.cuda.device(self._device):
            return self._record(static)

    def _record(self, static: StaticPass) -> Callable[[], torch.Tensor]:
        here = torch.cuda.current_stream()
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UPS):  # libraries allocate and choose kernels when first used
                static.compute()
        here.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            hidden = static.compute()
        self._pool = self._pool or graph.pool()
        self.graphs += 1

        def replay() -> torch.Tensor:
            graph.replay()
            return hidden

        return replay
