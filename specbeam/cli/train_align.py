"""`specbeam train --align`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from specbeam.cli import exit_codes
from specbeam.cli.output import print_json, print_table, progress_console
from specbeam.cli.processes import is_main_process
from specbeam.training.alignment.config import BASES, LOSSES

# What an alignment does not have; --preset is the shape of a draft from scratch.
_TARGET_OPTIONS = (
    "score_kind",
    "teacher",
    "teacher_dir",
    "target_minutes",
    "target_epochs",
    "dropout",
    "target_steps",
    "name",
)
_OWN_OPTIONS = (
    "from_dir",
    "loss",
    "base",
    "alpha",
    "temperature",
    "plain",
    "top_k",
    "on_policy",
    "start",
    "drafter_name",
    "align_epochs",
    "teacher_data",
    "prompts",
)

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--align", is_flag=True, help="Align a draft with the target of --from."),
    click.option(
        "--from",
        "from_dir",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Bundle with the target, and with the draft to start from.",
    ),
    click.option(
        "--loss",
        type=click.Choice(LOSSES),
        default="distillation",
        show_default=True,
        help="What aligns the draft; see docs/alignment.md.",
    ),
    click.option(
        "--base",
        type=click.Choice(BASES),
        help="What the loss is mixed with; distillation, for word-kd, tvd-kd and seq-kd ce.",
    ),
    click.option("--alpha", type=float, help="Share of the loss beside the base; .5 by default."),
    click.option("--temperature", type=float, help="Of the loss, where it has one."),
    click.option("--plain", is_flag=True, help="atspeed-s without a temperature."),
    click.option("--top-k", type=int, help="The draft's candidates that count in atspeed-s; 20."),
    click.option(
        "--on-policy",
        type=float,
        default=0.0,
        show_default=True,
        help="Share of prompts whose beams below level 1 are the draft's own.",
    ),
    click.option(
        "--start", help="Drafter to start from, or scratch; default if there is one of this name."
    ),
    click.option(
        "--drafter-name",
        default="default",
        show_default=True,
        help="Drafter that is replaced or added.",
    ),
    click.option("--align-epochs", type=float, help="Passes over the loss's data."),
    click.option(
        "--teacher-data",
        type=click.Path(file_okay=False, path_type=Path),
        help="Read the target's beams here, and keep here what is made; for several runs.",
    ),
    click.option(
        "--prompts",
        type=click.IntRange(1),
        default=4096,
        show_default=True,
        help="Prompts that the target searches, rounded up to shards of 256.",
    ),
)


def alignment_options(command: Command) -> Command:
    """Add the options of an alignment to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def check_options(ctx: click.Context, *, align: bool) -> None:
    """Check that what was given belongs to what is asked for.

    Raises:
        UsageError: it does not.
    """
    refused = _TARGET_OPTIONS if align else _OWN_OPTIONS
    given = [name for name in refused if _is_given(ctx, name)]
    if given:
        flags = ", ".join(_flag(ctx, name) for name in given)
        raise click.UsageError(
            f"{flags} {'cannot be used' if align else 'is used only'} with --align"
        )
    if align and ctx.params["from_dir"] is None:
        raise click.UsageError("--align needs the bundle to start from: --from BUNDLE")


def run_alignment(given: Mapping[str, Any]) -> int:
    """Align a draft and print the report.

    Args:
        given: values of the command's parameters.

    Returns:
        The exit code.
    """
    from specbeam.training.alignment.config import make_config
    from specbeam.training.alignment.context import TeacherSettings
    from specbeam.training.alignment.run import AlignmentRun, align_bundle
    from specbeam.training.loop import StopRequested
    from specbeam.training.presets import get_preset
    from specbeam.training.progress import ConsoleReporter

    config = make_config(
        given["loss"],
        base=given["base"],
        alpha=given["alpha"],
        temperature=given["temperature"],
        plain=given["plain"],
        top_k=given["top_k"],
        on_policy=given["on_policy"],
    )
    run = AlignmentRun(
        given["dataset_dir"],
        given["bundle_dir"],
        given["from_dir"],
        config,
        get_preset(given["preset"]),
        minutes=given["draft_minutes"],
        steps=given["draft_steps"],
        epochs=given["align_epochs"],
        start=given["start"],
        drafter=given["drafter_name"],
        teacher=TeacherSettings(prompts=given["prompts"]),
        teacher_dir=given["teacher_data"],
        seed=given["seed"],
        resume=given["resume"],
        threads=given["threads"],
        keep_work=given["keep_work"],
        checkpoint_every_s=given["checkpoint_seconds"],
    )
    with ConsoleReporter(progress_console()) as reporter:
        try:
            entry = align_bundle(run, reporter)
        except StopRequested:
            reporter.note(f"stopped; continue with --resume (state in {run.work_dir})")
            return exit_codes.INTERRUPTED
    if not is_main_process():
        return exit_codes.OK
    if given["as_json"]:
        print_json(entry)
    else:
        _print_entry(entry, run.bundle_dir)
    return exit_codes.OK


def _is_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _flag(ctx: click.Context, name: str) -> str:
    return next(p.opts[0] for p in ctx.command.params if p.name == name)


def _print_entry(entry: Mapping[str, Any], bundle_dir: Path) -> None:
    training = entry["training"]
    before, after = training["before"], training["validation"]
    cells = [name for name in before if name != "score"]
    rows = [(name, f"{before[name]:.3f}", f"{after[name]:.3f}") for name in cells]
    best = f"best of {training['steps']:,} steps is {training['best_step']:,}"
    title = f"bundle written: {bundle_dir} ({best})"
    print_table(
        title, (f"validation, {entry['loss']}", f"before ({entry['start']})", "after"), rows
    )
