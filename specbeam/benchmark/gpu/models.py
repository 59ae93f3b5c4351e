"""The models of one shape on the device: the widened target, its drafters, transformers' own."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from specbeam.benchmark.drafters.models import DraftModels
from specbeam.benchmark.gpu.recorded import RecordedRunner
from specbeam.benchmark.gpu.spec import GpuBenchSpec
from specbeam.benchmark.gpu.worlds import World
from specbeam.benchmark.shapes import SHAPES
from specbeam.benchmark.widening.root_head import widen_root_head
from specbeam.benchmark.widening.target import WideTarget
from specbeam.drafting.registry import HEAD, MODEL, load_drafters, local_drafters
from specbeam.engine import RunnerConfig
from specbeam.engine.root_head import RootHead
from specbeam.engine.runner import DTYPES
from specbeam.engine.search_model import SearchModel
from specbeam.engine.transformers_adapter import load_causal_lm
from specbeam.model_service.loading import open_search


@dataclass(frozen=True, slots=True)
class ShapeModels:
    """Everything that is run at one shape.

    Attributes:
        wide: how the target was made.
        target: its runner, with graphs.
        drafts: of model drafters, with graphs, by name.
        models: the same with the catalogue and the other drafters, as searches take them.
    """

    wide: WideTarget
    target: RecordedRunner
    drafts: dict[str, RecordedRunner]
    models: DraftModels

    def runners(self) -> list[RecordedRunner]:
        """Return every runner."""
        return [self.target, *self.drafts.values()]


def load_shape(world: World, shape: str, spec: GpuBenchSpec) -> ShapeModels:
    """Widen the target of a bundle on the device and load its drafters there.

    Raises:
        WideningError: the target does not fit the shape.
    """
    bundle = world.bundle
    wide = WideTarget.of(bundle.target_dir, SHAPES[shape], seed=spec.seed)
    config = _config(world, spec)
    target = RecordedRunner(wide.build(DTYPES[spec.dtype], spec.device), config)
    search = open_search(bundle, target)
    models = DraftModels(bundle, search, local=load_drafters(bundle, local_drafters()))
    drafts = {}
    for name in bundle.model_drafters()[:1]:
        model = load_causal_lm(bundle.drafter_dir(name), DTYPES[spec.dtype])
        drafts[MODEL] = RecordedRunner(model, config)
        models.models[MODEL] = open_search(bundle, drafts[MODEL])
    for name in bundle.drafters_of(HEAD)[:1]:
        models.head = _widened_head(bundle.drafter_dir(name), wide, search)
    return ShapeModels(wide, target, drafts, models)


def record_graphs(models: ShapeModels, spec: GpuBenchSpec) -> dict[str, Any]:
    """Record the graphs that searches and the cost table need; what that took."""
    longest = spec.longest_prompt + max(*spec.rows, *map(spec.budget, spec.widths))
    start = time.perf_counter()
    # The bucket above holds what is longer than the one below.
    passes = sum(runner.record(2 * longest) for runner in models.runners())
    took = {"passes": passes, "seconds": time.perf_counter() - start}
    if models.target.device.type == "cuda":
        took["gpu_memory_gib"] = torch.cuda.max_memory_allocated(models.target.device) / 2**30
    return took


def load_baseline(models: ShapeModels, spec: GpuBenchSpec) -> PreTrainedModel:
    """Build the widened target once more, with transformers' own attention."""
    model: Any = models.wide.build(DTYPES[spec.dtype], spec.device)
    model.set_attn_implementation("sdpa")
    return model


def _config(world: World, spec: GpuBenchSpec) -> RunnerConfig:
    depth = world.bundle.trie.depth
    # Rows of a pass and those kept from the ones before.
    rows = max(max(spec.rows), *(2 * depth * spec.budget(width) for width in spec.widths))
    return RunnerConfig(
        device=spec.device,
        dtype=spec.dtype,
        slots=1,
        max_prompt_tokens=max(world.bundle.max_prompt_tokens, spec.longest_prompt + depth),
        max_rows=rows,
        max_item_tokens=depth,
        graphs=True,
    )


def _widened_head(directory: Path, wide: WideTarget, search: SearchModel) -> RootHead:
    with tempfile.TemporaryDirectory() as scratch:
        widen_root_head(
            directory, Path(scratch), wide.plan, tied=wide.tied, target="widened in memory"
        )
        return RootHead.load(Path(scratch), search)
