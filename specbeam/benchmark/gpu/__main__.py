"""`python -m specbeam.benchmark.gpu`: cost tables and searches of large targets on a GPU."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from specbeam.benchmark.conditions import conditions
from specbeam.benchmark.gpu.costs import measure_cost_table
from specbeam.benchmark.gpu.models import load_baseline, load_shape, record_graphs
from specbeam.benchmark.gpu.searches import SearchBench
from specbeam.benchmark.gpu.spec import TOY, GpuBenchSpec
from specbeam.benchmark.gpu.worlds import (
    TOY_WORLD,
    USUAL_WORLD,
    World,
    carried_world,
    random_world,
)
from specbeam.benchmark.shapes import SHAPES
from specbeam.benchmark.widening import WideningError
from specbeam.benchmark.widening.bundle import WideBundleSpec, describe
from specbeam.benchmark.widening.checks import compare
from specbeam.benchmark.widening.target import WideTarget
from specbeam.benchmark.workload import items_for_tokens, prompt_of
from specbeam.bundle import BundleError
from specbeam.engine.devices import device_problem
from specbeam.engine.runner import DTYPES

DEFAULT_SHAPES = "0.5b,1.5b,7b"


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark.

    Args:
        arguments: without the program name; None = those of the process.

    Returns:
        0, or 3 where the device or the bundle is not what it should be.
    """
    options = _parser().parse_args(arguments)
    spec = _spec(options)
    if (problem := device_problem(spec.device)) is not None:
        print(f"Error: {problem}; --toy runs on a CPU", file=sys.stderr)
        return 3
    shapes = ["toy"] if options.toy else options.shapes.split(",")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            world = _world(options, spec, Path(scratch))
            for shape in shapes:
                result = measure_shape(world, shape, spec, with_a0=not options.no_a0)
                _save(result, options.out / f"gpu-{shape}.json")
        except (BundleError, WideningError) as error:
            print(f"Error: {error}", file=sys.stderr)
            return 3
    return 0


def measure_shape(
    world: World, shape: str, spec: GpuBenchSpec, *, with_a0: bool = True
) -> dict[str, Any]:
    """Measure everything at one shape.

    Args:
        world: what is searched.
        shape: name of the target's shape.
        spec: what is measured.
        with_a0: measure transformers' generate too.

    Raises:
        WideningError: the small target does not fit the shape, or the wide one is another function.
    """
    bundle = world.bundle
    wide_spec = WideBundleSpec(shape, DTYPES[spec.dtype], seed=spec.seed)
    target = WideTarget.of(bundle.target_dir, SHAPES[shape], seed=spec.seed)
    label = describe(bundle, target, wide_spec)
    _say(f"{label}; {world.label}")
    checked = _check(world, target, spec)
    models = load_shape(world, shape, spec)
    recording = record_graphs(models, spec)
    costs = measure_cost_table(models.target, spec, _say)
    baseline = load_baseline(models, spec) if with_a0 else None
    cells = SearchBench(world, models, baseline, spec).run(_say)
    return {
        "what": "cost table, and A0 / A1 / speculative searches, at a large target's cost",
        "label": label,
        "acceptance": world.label,
        "graphs": "CUDA graphs"
        if models.target.device.type == "cuda"
        else "none: static shapes, kernel by kernel, on a CPU",
        "conditions": conditions(
            bundle=bundle.manifest.name,
            score_kind=bundle.manifest.score_kind,
            gpu=_gpu(models.target.device),
            threads=torch.get_num_threads(),
            shape={"name": shape, **asdict(target.plan.large)},
            fit=target.plan.fit.as_dict(),
            **asdict(spec),
        ),
        "fp32_check": checked,
        "recording": recording,
        "costs": costs,
        "cells": cells,
    }


def _check(world: World, target: WideTarget, spec: GpuBenchSpec) -> dict[str, Any] | None:
    if not spec.checks:
        return None
    each = items_for_tokens(spec.prompt_tokens[0], world.bundle.trie.depth)
    prompts = [
        prompt_of(world.bundle, items)
        for items in world.histories(each, spec.checks, spec.seed + 1)
    ]
    found = compare(world.bundle, target, prompts, device=spec.device)
    found.require()
    return found.as_dict()


def _gpu(device: torch.device) -> dict[str, Any] | None:
    if device.type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "cuda": torch.version.cuda,
    }


def _world(options: argparse.Namespace, spec: GpuBenchSpec, scratch: Path) -> World:
    if options.bundle is not None:
        return carried_world(options.bundle, options.histories)
    return random_world(scratch, TOY_WORLD if options.toy else USUAL_WORLD, spec.seed)


def _spec(options: argparse.Namespace) -> GpuBenchSpec:
    spec = TOY if options.toy else GpuBenchSpec()
    changes: dict[str, Any] = {
        name: tuple(int(part) for part in value.split(","))
        for name, value in (
            ("widths", options.k),
            ("prompt_tokens", options.prompts),
            ("rows", options.rows),
            ("prefix_tokens", options.prefixes),
        )
        if value is not None
    }
    changes |= {
        name: value
        for name in ("device", "dtype", "requests", "checks", "seed")
        if (value := getattr(options, name)) is not None
    }
    return replace(spec, **changes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m specbeam.benchmark.gpu", description=__doc__)
    parser.add_argument("--bundle", type=Path, help="its target is widened; default: a random one")
    parser.add_argument("--histories", type=Path, help="users' histories, from save_histories")
    parser.add_argument("--shapes", default=DEFAULT_SHAPES, help="%(default)s")
    parser.add_argument("--toy", action="store_true", help="toy sizes on a CPU, under 2 minutes")
    parser.add_argument("--device", help="cuda")
    parser.add_argument("--dtype", choices=sorted(DTYPES), help="bf16")
    parser.add_argument("--k", help="values of K, such as 5,10,20")
    parser.add_argument("--prompts", help="prompt tokens, such as 30,200")
    parser.add_argument("--rows", help="rows of a pass in the cost table, such as 1,8,64")
    parser.add_argument("--prefixes", help="prompt tokens before them, such as 30,400")
    parser.add_argument("--requests", type=int, help="requests per cell")
    parser.add_argument("--checks", type=int, help="prompts compared in fp32; 0 = none")
    parser.add_argument("--no-a0", action="store_true", help="leave transformers' generate out")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    return parser


def _save(result: dict[str, Any], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    _say(f"written to {file}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
