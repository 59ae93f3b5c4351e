"""`specbeam bench`: measure a bundle."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from specbeam.cli.bench_catalog import catalog
from specbeam.cli.bench_drafters import drafters, pool
from specbeam.cli.bench_histories import histories
from specbeam.cli.bench_pareto import pareto
from specbeam.cli.bench_plot import plot
from specbeam.cli.bench_widen import widen
from specbeam.cli.output import print_table, progress_console, report

EXAMPLES = """
\b
Examples:
  specbeam bench search BUNDLE --dataset DATASET --threads 2
  specbeam bench search BUNDLE --target-shape 86m --dtype bf16 --k 20 --prompts 200
"""

SERVED_EXAMPLES = """
\b
Examples:
  specbeam bench served BUNDLE --dataset DATASET
  specbeam bench served BUNDLE --k 10 --prompts 30 --requests 100 --store redis://localhost:6379/0
  specbeam bench served BUNDLE --address 127.0.0.1:50051 --json
"""

FORWARD_EXAMPLES = """
\b
Examples:
  specbeam bench forward
  specbeam bench forward --dtype fp32 --rows 1,8,64 --threads 1 --out forward.json
"""


def numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a list such as 1,5,10."""
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a list of numbers such as 1,5,10") from error
    if min(found) < 1:
        raise click.BadParameter("numbers must be positive")
    return found


@click.group()
def bench() -> None:
    """Measure searches in one process, whole requests through the services, or a catalogue."""


bench.add_command(catalog)
bench.add_command(drafters)
bench.add_command(pool)
bench.add_command(pareto)
bench.add_command(widen)
bench.add_command(plot)
bench.add_command(histories)


@bench.command(epilog=EXAMPLES)
@click.argument("bundle_dir", type=click.Path(path_type=Path))
@click.option("--dataset", type=click.Path(path_type=Path), help="Take users' histories from it.")
@click.option("--k", "widths", default="1,5,10,20", show_default=True, help="Values of K.")
@click.option("--prompts", default="30,80,200", show_default=True, help="Prompt tokens.")
@click.option("--requests", default=20, show_default=True, help="Requests per cell.")
@click.option("--threads", default=2, show_default=True, help="torch threads, for all alike.")
@click.option("--dtype", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--max-rows", default=128, show_default=True, help="Row budget of a verify pass.")
@click.option("--target-shape", type=click.Choice(["86m", "toy"]), help="Random target instead.")
@click.option("--no-a0", is_flag=True, help="Leave transformers' generate out.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the result here.")
def search(
    bundle_dir: Path,
    dataset: Path | None,
    widths: str,
    prompts: str,
    requests: int,
    threads: int,
    dtype: str,
    max_rows: int,
    target_shape: str | None,
    no_a0: bool,
    seed: int,
    as_json: bool,
    out: Path | None,
) -> None:
    """A0 (transformers generate), A1 (plain, shared KV) and speculative, in one process."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from specbeam.benchmark.search_bench import SearchBench, SearchBenchSpec
    from specbeam.benchmark.shapes import bundle_with_random_target
    from specbeam.bundle import load_bundle
    from specbeam.engine.runner import DTYPES

    spec = SearchBenchSpec(
        numbers(widths), numbers(prompts), requests, threads, dtype, max_rows, seed, not no_a0
    )
    console = progress_console()
    loaded = load_bundle(bundle_dir)
    users = load_users(loaded, dataset)
    with tempfile.TemporaryDirectory() as scratch:
        if target_shape:
            loaded = bundle_with_random_target(loaded, target_shape, DTYPES[dtype], Path(scratch))
        result = SearchBench(loaded, spec, users).run(console.print)
    report(result, as_json, out, _print_search)


@bench.command(epilog=SERVED_EXAMPLES)
@click.argument("bundle_dir", type=click.Path(path_type=Path))
@click.option("--dataset", type=click.Path(path_type=Path), help="Take users' histories from it.")
@click.option("--address", help="A running orchestrator; default: start three processes.")
@click.option("--k", "widths", default="1,5,10,20", show_default=True, help="Values of K.")
@click.option("--prompts", default="30,80,200", show_default=True, help="Prompt tokens.")
@click.option("--requests", default=20, show_default=True, help="Requests per cell and way.")
@click.option("--threads", default=0, help="CPU threads of all models; 0 = all cores.")
@click.option("--dtype", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--max-rows", default=0, help="Row budget of a pass; 0 = the server's default.")
@click.option("--store", default="memory:", show_default=True, help="History store to start with.")
@click.option("--target-shape", type=click.Choice(["86m", "toy"]), help="Random target instead.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the result here.")
def served(
    bundle_dir: Path,
    dataset: Path | None,
    address: str | None,
    widths: str,
    prompts: str,
    requests: int,
    threads: int,
    dtype: str,
    max_rows: int,
    store: str,
    target_shape: str | None,
    seed: int,
    as_json: bool,
    out: Path | None,
) -> None:
    """Whole requests through the services: forced off, forced on, auto; and the overhead.

    Overhead is wall time minus the union of the intervals in which any forward runs.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from specbeam.benchmark.served_bench import ServedBenchSpec, run_served_bench
    from specbeam.benchmark.shapes import bundle_with_random_target
    from specbeam.bundle import load_bundle
    from specbeam.cli.child_services import ChildServices
    from specbeam.cli.local_services import ServePlan
    from specbeam.engine.runner import DTYPES

    spec = ServedBenchSpec(numbers(widths), numbers(prompts), requests, max_rows, seed)
    console = progress_console()
    loaded = load_bundle(bundle_dir)
    users = load_users(loaded, dataset)
    with tempfile.TemporaryDirectory() as scratch:
        if target_shape and address:
            raise click.UsageError("--target-shape starts its own services: leave --address out")
        if target_shape:
            loaded = bundle_with_random_target(loaded, target_shape, DTYPES[dtype], Path(scratch))
        children = ChildServices()
        try:
            if address is None:
                plan = ServePlan(loaded, store=store, dtype=dtype, threads=threads)
                children.start(plan, console.print, {}, "error")
                address = children.addresses["orchestrator"]
            result = asyncio.run(run_served_bench(address, loaded, spec, users, console.print))
        finally:
            children.stop()
    result["conditions"] |= {"dtype": dtype, "threads": threads, "store": store.split("@")[-1]}
    report(result, as_json, out, _print_served)


@bench.command(epilog=FORWARD_EXAMPLES)
@click.option("--shape", type=click.Choice(["86m", "toy"]), default="86m", show_default=True)
@click.option("--dtype", type=click.Choice(["fp32", "bf16"]), default="bf16", show_default=True)
@click.option("--rows", default="1,20,80", show_default=True, help="Rows per pass.")
@click.option("--prompt", default=200, show_default=True, help="Prompt tokens in place.")
@click.option("--threads", default="1,2", show_default=True, help="torch threads.")
@click.option("--repeats", default=60, show_default=True, help="Passes per cell and way.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the result here.")
def forward(
    shape: str,
    dtype: str,
    rows: str,
    prompt: int,
    threads: str,
    repeats: int,
    seed: int,
    as_json: bool,
    out: Path | None,
) -> None:
    """One forward of the engine against the same forward written by hand, on random weights."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from specbeam.benchmark.forward_bench import ForwardBench, ForwardBenchSpec

    spec = ForwardBenchSpec(
        shape, dtype, numbers(rows), prompt, numbers(threads), repeats, seed=seed
    )
    result = ForwardBench(spec).run(progress_console().print)
    report(result, as_json, out, _print_forward)


def load_users(bundle: Any, dataset: Path | None) -> list[np.ndarray]:
    """Return the histories (item indices) of the dataset's test users, train and valid parts."""
    if dataset is None:
        return []
    from specbeam.training.data.dataset_files import read_dataset

    data = read_dataset(dataset)
    index = bundle.trie.index_of(data.items.item_ids)
    parts = zip(
        data.histories("train"), data.histories("valid"), data.histories("test"), strict=True
    )
    users = [index[np.concatenate([train, valid])] for train, valid, test in parts if len(test)]
    return [user[user >= 0] for user in users]


def _print_search(result: dict[str, Any]) -> None:
    columns = [
        "K x prompt",
        "A0 ms",
        "A1 ms",
        "spec ms",
        "A0/A1",
        "A1/spec",
        "passes",
        "rows",
        "same",
    ]
    rows = []
    for cell in result["cells"]:
        ms = cell["median_ms"]
        rows.append(
            [
                f"{cell['k']} x {cell['prompt_tokens']}",
                f"{ms['a0']:.1f}" if "a0" in ms else "-",
                f"{ms['a1']:.1f}",
                f"{ms['speculative']:.1f}",
                f"{cell['a0_over_a1']:.2f}" if "a0" in ms else "-",
                f"{cell['a1_over_speculative']:.2f}",
                f"{cell['mean_passes']['a1']:.0f} / {cell['mean_passes']['speculative']:.2f}",
                f"{cell['mean_rows']['a1']:.0f} / {cell['mean_rows']['speculative']:.0f}",
                f"{cell['identical']}/{cell['requests']}",
            ]
        )
    print_table("Searches in one process (medians; ratios above 1 are gains)", columns, rows)


def _print_served(result: dict[str, Any]) -> None:
    columns = [
        "K x prompt",
        "off ms",
        "on ms",
        "auto ms",
        "auto/best",
        "passes",
        "rows",
        "over",
        "same",
    ]
    rows = []
    for cell in result["cells"]:
        ms, over = cell["median_ms"], cell["overhead_p50_ms"]
        passes, tree = cell["mean_passes"], cell["mean_rows"]
        rows.append(
            [
                f"{cell['k']} x {cell['prompt_tokens']}",
                f"{ms['off']:.1f}",
                f"{ms['on']:.1f}",
                f"{ms['auto']:.1f}",
                f"{cell['auto_over_faster']:.2f}",
                f"{passes['off']:.0f} / {passes['on']:.2f}",
                f"{tree['off']:.0f} / {tree['on']:.0f}",
                f"{over['off']:.1f} / {over['on']:.1f}" if over else "-",
                f"{cell['identical']}/{cell['requests']}",
            ]
        )
    print_table("Requests through the services (medians; pairs are off / on)", columns, rows)
    within = result["cells_with_auto_within_5_percent"]
    click.echo(f"auto within 5 % of the faster way in {within} of {len(rows)} cells")


def _print_forward(result: dict[str, Any]) -> None:
    ways = list(result["cells"][0]["median_ms"])
    rows = [
        [
            f"{cell['threads']} x {cell['rows']}",
            *(f"{cell['median_ms'][way]:.2f}" for way in ways),
            f"{cell['ratio']:.3f}",
            f"{cell['ratio_to_packed']:.3f}",
            f"{cell['largest_difference']:.1e}",
        ]
        for cell in result["cells"]
    ]
    columns = ["threads x rows", *(f"{way} ms" for way in ways), "ratio", "to packed", "difference"]
    print_table("One forward (medians; ratios are engine / minimal)", columns, rows)
