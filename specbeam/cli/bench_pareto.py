"""`specbeam bench pareto`: when do trees pay, and does auto know?"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from specbeam.cli.output import print_table, progress_console, report, write_whole

EXAMPLES = """
\b
Examples:
  specbeam bench pareto BUNDLE --dataset DATASET --k 1,5,10 --rows 64,128
  specbeam bench widen BUNDLE --shape 86m --dtype bf16 --out WIDE
  specbeam bench pareto WIDE --dataset DATASET --dtype bf16 --prefix cached --ablation 3
"""


@click.command(epilog=EXAMPLES)
@click.argument("bundle_dir", type=click.Path(path_type=Path))
@click.option("--dataset", required=True, type=click.Path(path_type=Path), help="Users' histories.")
@click.option("--k", "widths", default="1,3,5,10,20,50", show_default=True, help="Values of K.")
@click.option(
    "--rows",
    default="32,64,128,256,512",
    show_default=True,
    help="Rows of trees of fixed size; chosen trees have at most the largest.",
)
@click.option(
    "--prefix",
    "prefixes",
    multiple=True,
    type=click.Choice(["cold", "cached", "root ready"]),
    help="What is known of the prompt; repeat for several.  [default: all three]",
)
@click.option(
    "--ablation", default=0, help="K to leave ingredients out at, first prefix; 0 = none."
)
@click.option("--users", default=50, show_default=True, help="Users measured.")
@click.option("--warm", default=60, show_default=True, help="Other users to learn from first.")
@click.option("--pool-from", type=click.Path(path_type=Path), help="Bundle to fill pools with.")
@click.option("--threads", default=2, show_default=True, help="torch threads, for all alike.")
@click.option("--dtype", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--plot", type=click.Path(path_type=Path), help="Also draw the result here, .svg.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the result here.")
def pareto(
    bundle_dir: Path,
    dataset: Path,
    widths: str,
    rows: str,
    prefixes: tuple[str, ...],
    ablation: int,
    users: int,
    warm: int,
    pool_from: Path | None,
    threads: int,
    dtype: str,
    seed: int,
    plot: Path | None,
    as_json: bool,
    out: Path | None,
) -> None:
    """Milliseconds, passes and rows of plain search, fixed trees, chosen trees and auto.

    The users measured are test users; what is learned is learned from other users' earlier
    histories. A widened bundle has the trees of its small target: --pool-from saves the time to
    search them with the large one.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from specbeam.benchmark.pareto.bench import ParetoSpec, run_pareto
    from specbeam.benchmark.pareto.preparing import prepare
    from specbeam.benchmark.settings import PREFIXES
    from specbeam.bundle import load_bundle
    from specbeam.cli.bench import load_users, numbers
    from specbeam.pictures.pareto import pareto_picture

    if plot is not None and plot.suffix.lower() != ".svg":
        raise click.UsageError(f"--plot: {plot} does not end in .svg")
    spec = ParetoSpec(
        numbers(widths), numbers(rows), prefixes or PREFIXES, ablation, threads, dtype, seed
    )
    console = progress_console()
    bundle = load_bundle(bundle_dir)
    pools = load_bundle(pool_from) if pool_from is not None else bundle
    histories = [user for user in load_users(bundle, dataset) if len(user) > 1]
    ready = prepare(bundle, pools, histories, spec, users, warm, console.print)

    def save(result: dict[str, Any]) -> None:
        if out is not None:
            write_whole(json.dumps(result, indent=2) + "\n", out)

    result = run_pareto(
        ready.models, ready.learned, ready.cases, ready.table, spec, console.print, save
    )
    if plot is not None:
        write_whole(pareto_picture(result, metric="ms", ways=(), name=bundle_dir.name), plot)
    report(result, as_json, out, _print)


def _print(result: dict[str, Any]) -> None:
    columns = [
        "prefix",
        "K",
        "way",
        "budget",
        "ms",
        "A1 / way",
        "95 %",
        "passes",
        "rows",
        "draft",
        "choose",
    ]
    for title, key in (("Pareto", "cells"), ("Without one ingredient", "ablation")):
        table = [
            [
                cell["prefix"],
                str(cell["k"]),
                cell["way"],
                str(cell["max_rows"]),
                f"{cell['ms']:.1f}",
                f"{cell['speedup']:.3f}",
                "{:.2f}-{:.2f}".format(*cell["speedup_95"]),
                f"{cell['passes']:.2f}",
                f"{cell['rows']:.0f}",
                f"{cell['draft_ms']:.1f}",
                f"{cell['choose_ms']:.1f}",
            ]
            for cell in result.get(key, [])
        ]
        if table:
            print_table(title, columns, table)
