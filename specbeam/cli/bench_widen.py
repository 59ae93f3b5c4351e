"""`specbeam bench widen`: a small trained target at the compute cost of a large one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from specbeam.cli.output import print_table, progress_console, report

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from specbeam.benchmark.widening.bundle import WideBundleSpec
    from specbeam.benchmark.widening.target import WideTarget
    from specbeam.bundle import Bundle

SHAPE_NAMES = ("86m", "155m", "310m", "0.5b", "1.5b", "7b", "toy")
EXAMPLES = """
\b
Examples:
  specbeam bench widen beauty.bundle --shape 86m --dtype bf16 --out beauty-86m.bundle
  specbeam bench widen beauty.bundle --shape 310m --out beauty-310m.bundle --control
  specbeam bench widen beauty.bundle --shape 7b --dtype bf16 --device cuda --control

Every logit of the result is the small target's.  The drafters go along: models and counts as they
are, a head with its weights moved to the wide hidden states.  Without --out the large target is
built in memory, checked, and timed with --control.
"""


@click.command("widen", epilog=EXAMPLES)
@click.argument("bundle_dir", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--shape", required=True, type=click.Choice(SHAPE_NAMES), help="The large shape.")
@click.option("--out", type=click.Path(path_type=Path), help="The bundle to write.")
@click.option("--gate", type=click.Choice(["tiny", "zero"]), default="tiny", show_default=True)
@click.option("--dtype", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="Where tensors are made.")
@click.option("--dataset", type=click.Path(path_type=Path), help="Take prompts from its users.")
@click.option(
    "--prompts",
    default=24,
    show_default=True,
    type=click.IntRange(0),
    help="Prompts compared in fp32, which needs the large target in memory; 0 = none.",
)
@click.option("--control", is_flag=True, help="Time it against random weights of its shape.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def widen(
    bundle_dir: Path,
    shape: str,
    out: Path | None,
    gate: str,
    dtype: str,
    seed: int,
    device: str,
    dataset: Path | None,
    prompts: int,
    control: bool,
    as_json: bool,
) -> None:
    """Write a bundle whose target has a large shape and every logit of BUNDLE's small target."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from specbeam.benchmark.widening.bundle import (
        WideBundleSpec,
        describe,
        plan_widening,
        write_wide_bundle,
    )
    from specbeam.bundle import load_bundle
    from specbeam.bundle.writing import check_destination
    from specbeam.engine.runner import DTYPES

    console = progress_console()
    if out is not None:
        check_destination(out)  # before minutes of work
    bundle = load_bundle(bundle_dir)
    spec = WideBundleSpec(shape, DTYPES[dtype], gate, seed, device)
    target = plan_widening(bundle, spec)
    if prompts:
        chosen = _prompts(bundle, dataset, prompts, seed)
        spec.figures["fp32_check"] = _check(bundle, target, spec, chosen, console)
    if control:
        spec.figures["timing_control"] = _control(target, dtype, device, console)
    if out is not None:
        console.print(f"writing {out}")
        write_wide_bundle(bundle, target, out, spec)
    figures = {
        "label": describe(bundle, target, spec),
        "out": str(out) if out else None,
        "fit": target.plan.fit.as_dict(),
        **spec.figures,
    }
    report(figures, as_json, None, _print_widened)


def _prompts(bundle: Bundle, dataset: Path | None, count: int, seed: int) -> list[np.ndarray]:
    """Prompts of test users of different history lengths, or of popular items."""
    import numpy as np

    from specbeam.benchmark.workload import histories, prompt_of
    from specbeam.cli.bench import load_users

    users = load_users(bundle, dataset)
    longest = bundle.template.window.max_items
    lengths = np.random.default_rng(seed).integers(1, longest + 1, count)
    return [
        prompt_of(bundle, histories(bundle, users, int(items), 1, seed + number)[0])
        for number, items in enumerate(lengths)
    ]


def _check(
    bundle: Bundle,
    target: WideTarget,
    spec: WideBundleSpec,
    prompts: list[np.ndarray],
    console: Console,
) -> dict[str, Any]:
    from specbeam.benchmark.widening.checks import compare

    console.print(f"comparing {len(prompts)} prompts in fp32")
    found = compare(bundle, target, prompts, device=spec.device)
    found.require()
    return found.as_dict()


def _control(target: WideTarget, dtype: str, device: str, console: Console) -> dict[str, Any]:
    from specbeam.benchmark.widening.timing import timing_control

    console.print("timing it against random weights")
    return timing_control(target, dtype, device)


def _print_widened(result: dict[str, Any]) -> None:
    click.echo(result["label"])
    fit = result["fit"]
    facts = [
        ["copies of a residual dim, n", str(fit["copies"])],
        ["unused residual dims", str(fit["unused"])],
        ["head dim factor, r", str(fit["head_factor"])],
        ["key/value heads needed", str(fit["kv_heads_needed"])],
    ]
    if check := result.get("fp32_check"):
        same = f"{check['same_beams']} of {check['prompts']}"
        facts += [
            ["largest logit difference, fp32", f"{check['logit_difference']:.1e}"],
            [f"same {check['beam_width']} beams, same order", same],
        ]
    print_table("Widened", ["what", "value"], facts)
    if control := result.get("timing_control"):
        rows = [
            [
                cell["pass"],
                f"{cell['median_ms']['widened']:.2f}",
                f"{cell['median_ms']['random']:.2f}",
                f"{cell['ratio']:.3f}",
            ]
            for cell in control["cells"]
        ]
        columns = ["pass", "widened ms", "random ms", "ratio"]
        print_table("Timing control (medians)", columns, rows)
    if result["out"]:
        click.echo(f"written to {result['out']}")
