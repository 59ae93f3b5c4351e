"""`specbeam bench catalog`: what a large catalogue costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from specbeam.cli.output import print_table, progress_console, report

EXAMPLES = """
\b
Examples:
  specbeam bench catalog
  specbeam bench catalog --items 1000000 --levels 3 --codes 8192
  specbeam bench catalog --items 10000000 --out benchmarks/results/catalog-10m.json
"""


@click.command("catalog", epilog=EXAMPLES)
@click.option("--items", default=1_000_000, show_default=True, type=click.IntRange(1))
@click.option("--levels", default=4, show_default=True, type=click.IntRange(1, 64))
@click.option("--codes", default=256, show_default=True, type=click.IntRange(2))
@click.option("--beams", default=50, show_default=True, type=click.IntRange(1))
@click.option("--exclusions", default=200, show_default=True, type=click.IntRange(0))
@click.option("--repeats", default=200, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the result here.")
def catalog(
    items: int,
    levels: int,
    codes: int,
    beams: int,
    exclusions: int,
    repeats: int,
    seed: int,
    as_json: bool,
    out: Path | None,
) -> None:
    """Random items: build time, bytes per item, and one decoding step under filters, one core."""
    from specbeam.benchmark.catalog_bench import CatalogBenchSpec, run_catalog_bench

    spec = CatalogBenchSpec(items, levels, codes, beams, exclusions, repeats, seed)
    result = run_catalog_bench(spec, progress_console().print)
    report(result, as_json, out, _print_catalog)


def _print_catalog(result: dict[str, Any]) -> None:
    building = result["building"]
    facts = [
        ["build", f"{building['build_s']:.2f} s"],
        ["load and verify", f"{building['load_and_verify_s']:.2f} s"],
        ["prepare look-ups", f"{building['prepare_s']:.2f} s"],
        ["file", f"{building['bytes_per_item']:.1f} B/item"],
        [
            "of it the trie",
            f"{building['bytes_per_item_without_ids_and_popularity']:.1f} B/item",
        ],
        ["peak memory", f"{building['peak_memory_mib']:.0f} MiB"],
    ]
    print_table("Catalogue", ["what", "value"], facts)
    rows = [
        [
            step["filter"],
            step["score_kind"],
            f"{step['compile_ms']:.2f}",
            " ".join(f"{ms:.3f}" for ms in step["ms_per_level"]),
        ]
        for step in result["steps"]
    ]
    print_table(
        "Expand + filter + select (medians)",
        ["filter", "scores", "compile ms", "ms by level"],
        rows,
    )
