"""`specbeam bundle`: make, show and verify what is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from specbeam.cli import exit_codes
from specbeam.cli.bundle_drafter import add_drafter, remove_drafter
from specbeam.cli.bundle_pack import pack
from specbeam.cli.output import print_json, print_table, progress_console

SHOWN_TAGS = 12
DTYPES = ("fp32", "bf16", "fp64")
BUNDLE = click.Path(path_type=Path)


@click.group(help="Pack an existing checkpoint as a bundle; show, verify or extend one.")
def bundle() -> None:
    """Group of the bundle commands."""


for command in (pack, add_drafter, remove_drafter):
    bundle.add_command(command)


@bundle.command(epilog="Example: specbeam bundle show beauty.bundle --json")
@click.argument("bundle_dir", metavar="BUNDLE", type=BUNDLE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(bundle_dir: Path, as_json: bool) -> int:
    """Print what BUNDLE holds; no weight is loaded and no digest checked."""
    from specbeam.bundle import load_bundle
    from specbeam.bundle.summary import summarise

    summary = summarise(load_bundle(bundle_dir, verify=False))
    if as_json:
        print_json(summary)
    else:
        _print_summary(summary, bundle_dir)
    return exit_codes.OK


@bundle.command(
    epilog="""\b
Examples:
  specbeam bundle verify beauty.bundle
  specbeam bundle verify beauty.bundle --deep --dtype fp64

The exit code is 3 if there is a problem."""
)
@click.argument("bundle_dir", metavar="BUNDLE", type=BUNDLE)
@click.option("--deep", is_flag=True, help="Also load the models and run the services' self-tests.")
@click.option("--dtype", type=click.Choice(DTYPES), default="fp32", show_default=True)
@click.option("--device", default="cpu", show_default=True, help="As torch names it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(bundle_dir: Path, deep: bool, dtype: str, device: str, as_json: bool) -> int:
    """Check every file of BUNDLE and whether its parts fit together; name every problem."""
    from specbeam.cli.bundle_tests import deep_problems
    from specbeam.packing.verify import find_problems
    from specbeam.training.progress import ConsoleReporter

    with ConsoleReporter(progress_console()) as reporter:
        problems = find_problems(
            bundle_dir,
            lambda what, done, total: reporter.update("verifying", done / max(1, total), what),
        )
        if deep and not problems:
            problems = deep_problems(bundle_dir, dtype=dtype, device=device, note=reporter.note)
    if as_json:
        print_json({"bundle": str(bundle_dir), "deep": deep, "problems": problems})
    else:
        for problem in problems:
            click.echo(problem)
        click.echo(f"{bundle_dir}: {f'{len(problems)} problems' if problems else 'sound'}")
    return exit_codes.BAD_INPUT if problems else exit_codes.OK


def _print_summary(summary: dict[str, Any], directory: Path) -> None:
    """Print a summary as tables."""
    from specbeam.bundle.drafters import MODEL

    catalogue, prompt = summary["catalogue"], summary["prompt"]
    drafters = summary["drafters"].items()
    models = [_model_row(name, one) for name, one in drafters if one["kind"] == MODEL]
    others = [
        (name, one["kind"], _size(one["bytes"])) for name, one in drafters if one["kind"] != MODEL
    ]
    print_table(
        f"{summary['name']}: {directory} ({_size(summary['bytes'])}, {summary['created_at']})",
        ("model", "family", "parameters", "stored as", "layers", "width", "vocabulary", "size"),
        [_model_row("target", summary["target"]), *models],
    )
    if others:
        print_table("other drafters", ("drafter", "kind", "size"), others)
    print_table(
        f"{catalogue['items']:,} items, {catalogue['paths']:,} paths of "
        f"{'at most ' * catalogue['lengths_differ']}{catalogue['item_length']} tokens",
        ("level", "codes", "used", "mean children above"),
        [_level_row(level) for level in catalogue["levels"]],
    )
    lines = {
        "prompt": prompt["text"],
        "prompt tokens": f"{prompt['fixed_tokens']} fixed, {prompt['max_tokens']:,} at most",
        "scores": f"{summary['score_kind']}, {summary['default_beam_width']} beams by default, "
        f"history {'excluded' if summary['exclude_history'] else 'allowed'} by default",
        "parts": ", ".join(name for name in ("adapter", "tokenizer") if summary[name]) or "-",
        "creation times": f"{catalogue['with_creation_time']:,} items",
        "tags": _tags(catalogue["tags"]),
        **{f"{name} fingerprint": value for name, value in summary["fingerprints"].items()},
    }
    for name, text in lines.items():
        click.echo(f"{name + ':':<21}{text}")


def _model_row(name: str, model: dict[str, Any]) -> tuple[str, ...]:
    return (
        name,
        model["model_type"],
        f"{model['parameters']:,}",
        ", ".join(model["stored_as"]),
        str(model["layers"] or "-"),
        str(model["hidden_size"] or "-"),
        f"{model['vocab_size']:,}",
        _size(model["bytes"]),
    )


def _level_row(level: dict[str, Any]) -> tuple[str, ...]:
    codes = "-" if level["codes"] is None else f"{level['codes']:,}"
    return level["name"], codes, f"{level['used']:,}", f"{level['mean_children_above']:.2f}"


def _tags(tags: dict[str, int]) -> str:
    largest = sorted(tags.items(), key=lambda entry: (-entry[1], entry[0]))
    shown = [f"{name} ({count:,})" for name, count in largest[:SHOWN_TAGS]]
    more = [f"{len(tags) - SHOWN_TAGS:,} more"] if len(tags) > SHOWN_TAGS else []
    return ", ".join([*shown, *more]) or "-"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
