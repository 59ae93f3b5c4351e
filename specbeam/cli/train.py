"""`specbeam train`."""

import os
from pathlib import Path
from typing import Any

import click

from specbeam.cli import exit_codes
from specbeam.cli.output import print_json, print_table, progress_console
from specbeam.cli.processes import is_main_process
from specbeam.cli.train_align import alignment_options, check_options, run_alignment

# Threads of a parallel region wait this many turns before they sleep.  The default spins for
# milliseconds; beside other busy processes that made some steps six times slower.
SPIN_COUNT = "10000"


@click.command(
    epilog="""\b
Examples:
  specbeam train demo.dataset demo.bundle --preset tiny
  specbeam train beauty.dataset beauty.bundle --preset small --threads 2
  specbeam train beauty.dataset beauty.bundle --preset small --resume
  specbeam train games.dataset games.bundle --target-epochs 5 --dropout 0.2
  specbeam train beauty.dataset aligned.bundle --align --from beauty.bundle --loss atspeed-s
  torchrun --nproc-per-node 4 -m specbeam train big.dataset big.bundle --preset base"""
)
@click.argument("dataset_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("bundle_dir", type=click.Path(path_type=Path))
@click.option(
    "--preset", default="small", show_default=True, help="Model sizes: tiny, small or base."
)
@click.option(
    "--score-kind",
    type=click.Choice(("TRIE", "VOCAB")),
    default="TRIE",
    show_default=True,
    help="Normalise scores over a node's children, or over all token ids.",
)
@click.option(
    "--teacher",
    type=click.Choice(("none", "co-occurrence", "sasrec")),
    help="Who shares in the target's labels; the preset's by default.",
)
@click.option(
    "--teacher-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Read the SASRec teacher here, or keep it here once trained.",
)
@click.option(
    "--target-minutes",
    type=float,
    help="Budget of the target, turned into steps by timing the first ones.",
)
@click.option("--draft-minutes", type=float, help="Budget of the draft, likewise.")
@click.option("--target-epochs", type=float, help="Passes of the target; the preset's by default.")
@click.option("--dropout", type=float, help="Of the target; the preset's by default.")
@click.option("--target-steps", type=int, help="Stop the target after this many steps at most.")
@click.option("--draft-steps", type=int, help="Stop the draft after this many steps at most.")
@click.option("--seed", default=0, show_default=True, help="Seed of weights and batches.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; all cores by default.")
@click.option("--name", help="Bundle name; the dataset's by default.")
@click.option("--resume", is_flag=True, help="Continue the run in BUNDLE_DIR.work.")
@click.option("--keep-work", is_flag=True, help="Keep BUNDLE_DIR.work when the bundle is written.")
@click.option(
    "--checkpoint-seconds",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    help="Time between checkpoints.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@alignment_options
@click.pass_context
def train(
    ctx: click.Context,
    /,
    dataset_dir: Path,
    bundle_dir: Path,
    preset: str,
    score_kind: str,
    teacher: str | None,
    teacher_dir: Path | None,
    target_minutes: float | None,
    target_epochs: float | None,
    dropout: float | None,
    draft_minutes: float | None,
    target_steps: int | None,
    draft_steps: int | None,
    seed: int,
    threads: int | None,
    name: str | None,
    resume: bool,
    keep_work: bool,
    checkpoint_seconds: float,
    as_json: bool,
    align: bool,
    **alignment: Any,
) -> int:
    """Train a target and a draft model on DATASET_DIR and write BUNDLE_DIR.

    With --align the target is that of another bundle, and a draft is trained to propose what its
    beam search keeps; BUNDLE_DIR is that bundle with this draft.

    The state is saved in BUNDLE_DIR.work. A run that was stopped or killed at any
    point goes on with --resume and the same options, and gives the same models as one that was not.

    Several devices or processes: start it with `accelerate launch` or `torchrun`.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    check_options(ctx, align=align)
    if align:
        return run_alignment(ctx.params)
    from specbeam.training.loop import StopRequested
    from specbeam.training.pipeline import TrainingRun, train_bundle
    from specbeam.training.presets import get_preset
    from specbeam.training.progress import ConsoleReporter

    chosen = get_preset(
        preset,
        target_minutes=target_minutes,
        target_epochs=target_epochs,
        dropout=dropout,
        draft_minutes=draft_minutes,
        target_steps=target_steps,
        draft_steps=draft_steps,
        teacher=teacher,
    )
    if teacher_dir is not None and chosen.teacher != "sasrec":
        raise click.UsageError(f"--teacher-dir is for a SASRec; the teacher is {chosen.teacher}")
    run = TrainingRun(
        dataset_dir,
        bundle_dir,
        chosen,
        score_kind="VOCAB" if score_kind == "VOCAB" else "TRIE",
        seed=seed,
        resume=resume,
        threads=threads,
        name=name,
        keep_work=keep_work,
        checkpoint_every_s=checkpoint_seconds,
        teacher_dir=teacher_dir,
    )
    with ConsoleReporter(progress_console()) as reporter:
        try:
            report = train_bundle(run, reporter)
        except StopRequested:
            reporter.note(f"stopped; continue with --resume (state in {run.work_dir})")
            return exit_codes.INTERRUPTED
    if not is_main_process():
        return exit_codes.OK
    if as_json:
        print_json(report)
        return exit_codes.OK
    _print_report(report, bundle_dir)
    return exit_codes.OK


def _print_report(report: dict[str, Any], bundle_dir: Path) -> None:
    rows = [
        (
            phase,
            f"{numbers['parameters']:,}",
            f"{numbers['minutes']:.1f}",
            f"{numbers['steps']:,}",
            f"{numbers['train_loss']:.3f}",
            f"{numbers['validation'].get('score', float('nan')):.4f}",
            f"{numbers['best_step']:,}",
        )
        for phase, numbers in report["training"].items()
    ]
    columns = (
        "model",
        "parameters",
        "minutes",
        "steps",
        "loss",
        "best validation score",
        "at step",
    )
    print_table(f"bundle written: {bundle_dir}", columns, rows)
