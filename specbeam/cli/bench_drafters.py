"""`specbeam bench drafters`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from specbeam.cli.output import print_table, progress_console, report

if TYPE_CHECKING:
    from specbeam.benchmark.drafters.lines import Line

EXAMPLES = """
\b
Examples:
  specbeam bench drafters BUNDLE --dataset DATASET --users 100
  specbeam bench drafters BUNDLE --dataset DATASET --k 10 --rows 128 --line model+popularity
  specbeam bench drafters BUNDLE --dataset DATASET --out drafters.json

A line names drafters joined by "+": model (or model:NAME), head, pool, cooccurrence, popularity;
"@one-pass" behind it sends the tree with the prompt.  "published" is the plain draft beam of 40
from the root on.
"""


@click.command(epilog=EXAMPLES)
@click.argument("bundle_dir", type=click.Path(path_type=Path))
@click.option("--dataset", required=True, type=click.Path(path_type=Path), help="Held-out users.")
@click.option("--users", default=500, show_default=True, help="Users of the test split.")
@click.option("--k", "widths", default="5,10,20", show_default=True, help="Values of K.")
@click.option("--rows", default="64,128,256", show_default=True, help="Row budgets of a pass.")
@click.option("--line", "named", multiple=True, help="Only these lines; may be repeated.")
@click.option("--threads", default=1, show_default=True, help="torch threads.")
@click.option("--dtype", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the result here, K by K.")
def drafters(
    bundle_dir: Path,
    dataset: Path,
    users: int,
    widths: str,
    rows: str,
    named: tuple[str, ...],
    threads: int,
    dtype: str,
    seed: int,
    as_json: bool,
    out: Path | None,
) -> None:
    """Coverage, passes, rows and time of each drafter and of unions, in both flows."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import numpy as np

    from specbeam.benchmark.drafters.bench import (
        DraftersBenchSpec,
        default_lines,
        run_drafters_bench,
    )
    from specbeam.benchmark.drafters.cases import make_cases
    from specbeam.benchmark.drafters.models import DraftModels
    from specbeam.bundle import load_bundle
    from specbeam.cli.bench import load_users, numbers

    spec = DraftersBenchSpec(numbers(widths), numbers(rows), threads, dtype, seed)
    console = progress_console()
    bundle = load_bundle(bundle_dir)
    histories = [user for user in load_users(bundle, dataset) if len(user)]
    models = DraftModels.load(bundle, threads=threads, dtype=dtype, max_rows=max(spec.max_rows))
    lines = _lines(named, models.names()) if named else default_lines(models.names())
    chosen = np.random.default_rng(seed).permutation(len(histories))[:users].tolist()
    with_pool = any("pool" in line.sources for line in lines)
    cases = make_cases(models.target, bundle, histories, chosen, console.print, with_pool=with_pool)

    def save(result: dict[str, Any]) -> None:
        if out is not None:
            out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")

    result = run_drafters_bench(models, cases, lines, spec, console.print, save)
    report(result, as_json, out, _print)


def _lines(named: tuple[str, ...], names: tuple[str, ...]) -> list[Line]:
    from specbeam.benchmark.drafters.lines import Line

    lines = []
    for text in named:
        if text == "published":
            lines.append(Line(text, ("model",), one_pass=True, published=True))
            continue
        sources, _, flow = text.partition("@")
        parts = tuple(sources.split("+"))
        unknown = [part for part in parts if part not in names]
        if unknown or flow not in ("", "root-first", "one-pass"):
            wrong = f"{', '.join(unknown)}: there are {', '.join(names)}" if unknown else flow
            raise click.BadParameter(f"{text!r}: {wrong}")
        lines.append(Line(sources, parts, one_pass=flow == "one-pass"))
    return lines


def _print(result: dict[str, Any]) -> None:
    columns = [
        "line",
        "flow",
        "K x rows",
        "covered",
        "all",
        "AS",
        "passes",
        "rows",
        "ms",
        "A1/line",
        "draft ms",
        "union ms",
        "same",
    ]
    table = [
        [
            cell["line"],
            cell["flow"],
            f"{cell['k']} x {cell['max_rows']}",
            " ".join(f"{share:.2f}" for share in cell["covered"].values()),
            f"{cell['all_covered']:.3f}",
            f"{cell['accepted']:.2f}",
            f"{cell['passes']:.2f}",
            f"{cell['rows']:.0f}",
            f"{cell['ms']:.1f}",
            f"{cell['plain_over_line']:.2f}",
            f"{cell['draft_ms']:.1f}",
            f"{cell['union_ms']:.2f}",
            f"{cell['identical']}/{cell['requests']}",
        ]
        for cell in result["cells"]
    ]
    print_table("Drafters (covered: by tree level, levels above included)", columns, table)


POOL_EXAMPLES = """
\b
Examples:
  specbeam bench pool BUNDLE --dataset DATASET --requests 5000
  specbeam bench pool BUNDLE --dataset DATASET --store redis://localhost:6379/0 --out pool.json
"""


@click.command(epilog=POOL_EXAMPLES)
@click.argument("bundle_dir", type=click.Path(path_type=Path))
@click.option("--dataset", required=True, type=click.Path(path_type=Path), help="The log.")
@click.option("--requests", default=20_000, show_default=True, help="Events replayed.")
@click.option("--k", default=10, show_default=True, help="K.")
@click.option("--rows", default=128, show_default=True, help="Row budget of a pass.")
@click.option("--store", default="memory:", show_default=True, help="Where the pool is kept.")
@click.option("--threads", default=1, show_default=True, help="torch threads.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the result here.")
def pool(
    bundle_dir: Path,
    dataset: Path,
    requests: int,
    k: int,
    rows: int,
    store: str,
    threads: int,
    as_json: bool,
    out: Path | None,
) -> None:
    """The tree pool from cold to warm: the log's requests replayed in the order of time."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import asyncio

    from specbeam.benchmark.drafters.models import DraftModels
    from specbeam.benchmark.drafters.pool_replay import PoolReplaySpec, replay_pool
    from specbeam.bundle import load_bundle
    from specbeam.storage import PoolLimits, open_state_store
    from specbeam.training.data.dataset_files import read_dataset

    spec = PoolReplaySpec(requests=requests, width=k, max_rows=rows)
    console = progress_console()
    models = DraftModels.load(load_bundle(bundle_dir), threads=threads, dtype="fp32", max_rows=rows)
    log = read_dataset(dataset)

    async def run() -> dict[str, Any]:
        held = open_state_store(store, pool_limits=PoolLimits(max_keys=10 * requests))
        try:
            return await replay_pool(models, log, held, spec, console.print)
        finally:
            await held.close()

    report(asyncio.run(run()), as_json, out, _print_pool)


def _print_pool(result: dict[str, Any]) -> None:
    columns = [
        "after",
        "own",
        "others",
        "hit",
        "all covered",
        "hit / missed",
        "passes",
        "rows",
        "MB",
    ]
    table = [
        [
            f"{part['after']:,}",
            f"{part['own_hits']:.2f}",
            f"{part['other_hits']:.2f}",
            f"{part['any_hits']:.2f}",
            f"{part['all_covered']:.3f}",
            f"{part['all_covered_when_hit']:.2f} / {part['all_covered_when_missed']:.2f}",
            f"{part['passes']:.2f}",
            f"{part['rows']:.0f}",
            f"{part['bytes'] / 1e6:.1f}",
        ]
        for part in result["parts"]
    ]
    print_table("Tree pool over a replayed log", columns, table)
