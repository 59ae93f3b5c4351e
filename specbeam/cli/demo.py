"""`specbeam demo`: from nothing to exact recommendations, on one machine."""

from __future__ import annotations

import asyncio
import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from specbeam.cli import exit_codes
from specbeam.cli.local_services import LocalServices, ServePlan
from specbeam.cli.output import print_json, print_table, progress_console
from specbeam.cli.recommend import print_items
from specbeam.cli.service_main import prepare_process

if TYPE_CHECKING:
    from specbeam.bundle import Bundle
    from specbeam.client import Recommendation, RecommendClient

NUM_ITEMS = 2000
NUM_USERS = 1500
SHOWN_USERS = 3
MEASURED_USERS = 20
WIDTHS = (5, 10, 20)
WARM_UP_S = 2.0
DEFAULT_WORK_DIR = Path(".cache/demo")

Flow = Literal["off", "on"]
FLOWS: tuple[Flow, ...] = ("off", "on")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Plain against speculative search for one K; medians over the same requests.

    Attributes:
        num_items: K, also the beam width.
        passes: Forward passes of the target, by flow.
        rows: Tree rows of the target, by flow.
        ms: Time on the server, milliseconds, by flow.
        identical: Whether every answer was the same, scores compared within 1e-4.
    """

    num_items: int
    passes: dict[str, float]
    rows: dict[str, float]
    ms: dict[str, float]
    identical: bool


@click.command(epilog="Example: specbeam demo --work-dir /tmp/specbeam-demo")
@click.option(
    "--work-dir", type=click.Path(path_type=Path), default=DEFAULT_WORK_DIR, show_default=True
)
@click.option("--threads", default=0, help="CPU threads; 0 = all cores.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def demo(work_dir: Path, threads: int, as_json: bool) -> int:
    """Generate data, train a small bundle, serve it and ask it; trained once per directory."""
    prepare_process()
    from specbeam.bundle import load_bundle
    from specbeam.runtime.logging import configure_logging

    configure_logging("specbeam", level="warning", log_format="console")
    bundle = load_bundle(_ensure_bundle(work_dir, threads or len(os.sched_getaffinity(0))))
    comparisons = asyncio.run(_show(work_dir, bundle, threads, quiet=as_json))
    if as_json:
        print_json({"comparisons": [_as_dict(c) for c in comparisons]})
    else:
        _print_comparisons(comparisons)
    return exit_codes.OK if all(c.identical for c in comparisons) else exit_codes.FAILURE


def _is_usable(bundle_dir: Path, note: Callable[..., None]) -> bool:
    """Whether the demo's own earlier bundle can still be served; it is made again if not."""
    from specbeam.bundle import BundleError, load_bundle

    try:
        load_bundle(bundle_dir)
    except BundleError as error:
        note(f"training again, the bundle trained before cannot be used: {error}")
        return False
    return True


def _ensure_bundle(work_dir: Path, threads: int) -> Path:
    """Return the bundle, generated and trained where it is missing."""
    bundle_dir = work_dir / "bundle"
    note = progress_console().print
    if (bundle_dir / "manifest.json").is_file() and _is_usable(bundle_dir, note):
        note(f"using the bundle trained before: {bundle_dir}")
        return bundle_dir
    from specbeam.training.data.dataset_files import write_dataset
    from specbeam.training.data.synthetic import SyntheticConfig, synthesize
    from specbeam.training.loop import StopRequested
    from specbeam.training.pipeline import TrainingRun, train_bundle
    from specbeam.training.presets import get_preset
    from specbeam.training.progress import ConsoleReporter
    from specbeam.training.work_dir import RUN_FILE

    dataset_dir = work_dir / "dataset"
    if not _is_readable(dataset_dir):
        note(f"generating {NUM_ITEMS:,} items and {NUM_USERS:,} users")
        generated = synthesize(SyntheticConfig(NUM_ITEMS, NUM_USERS))
        write_dataset(generated, dataset_dir, overwrite=True)
    resume = (work_dir / "bundle.work" / RUN_FILE).is_file()
    run = TrainingRun(
        dataset_dir, bundle_dir, get_preset("tiny"), resume=resume, threads=threads, name="demo"
    )
    note("training a target and a draft model, once: about a minute and a half")
    with ConsoleReporter(progress_console()) as reporter:
        try:
            train_bundle(run, reporter)
        except StopRequested:
            raise click.exceptions.Abort from None
    return bundle_dir


def _is_readable(dataset_dir: Path) -> bool:
    """Whether the dataset is there, and of this version."""
    from specbeam.training.data.dataset_files import read_dataset
    from specbeam.training.errors import DatasetError

    try:
        read_dataset(dataset_dir)
    except DatasetError:
        return False
    return True


async def _show(work_dir: Path, bundle: Bundle, threads: int, *, quiet: bool) -> list[Comparison]:
    from specbeam.client import RecommendClient

    note = progress_console().print
    store = f"sqlite:{work_dir / 'histories.sqlite'}"
    plan = ServePlan(bundle, store=store, threads=threads, warm_up_s=WARM_UP_S)
    services = LocalServices()
    try:
        await services.start(plan, note, {})
        async with RecommendClient(services.address) as client:
            users = await _record_histories(client, work_dir / "dataset")
            if not quiet:
                for user, liked in users[:SHOWN_USERS]:
                    await _show_user(client, user, liked)
            note("comparing plain and speculative search ...")
            names = [user for user, _ in users]
            return [await _compare(client, names, width) for width in WIDTHS]
    finally:
        await services.stop()


async def _record_histories(
    client: RecommendClient, dataset_dir: Path
) -> list[tuple[str, list[str]]]:
    """Record what some users did; return them with the titles of what they did last."""
    from specbeam.client import Interaction
    from specbeam.training.data.dataset_files import read_dataset

    dataset = read_dataset(dataset_dir)
    items = dataset.items
    known = []
    histories = dataset.histories("train")
    for number in range(min(MEASURED_USERS, len(histories))):
        user = dataset.interactions.user_ids[number]
        # The same event ids in every run: recording them again changes nothing.
        events = [
            Interaction(items.item_ids[item], event_id=f"demo-{at}", type="view")
            for at, item in enumerate(histories[number].tolist())
        ]
        await client.record_interactions(user, events)
        known.append((user, [items.titles[item] for item in histories[number][-4:].tolist()]))
    progress_console().print(f"recorded the histories of {len(known)} users")
    return known


async def _show_user(client: RecommendClient, user: str, liked: Sequence[str]) -> None:
    answer = await client.recommend(user, num_items=5, include_metadata=True)
    click.echo(f"{user} looked at: {'; '.join(liked)}")
    print_items(answer, f"recommended to {user}")


async def _compare(client: RecommendClient, users: Sequence[str], width: int) -> Comparison:
    answers: dict[Flow, list[Recommendation]] = {flow: [] for flow in FLOWS}
    for flow in FLOWS:
        # The first request of a shape pays for allocations.
        await client.recommend(users[0], num_items=width, beam_width=width, speculation=flow)
    for user in users:
        for flow in FLOWS:
            answer = await client.recommend(
                user, num_items=width, beam_width=width, speculation=flow
            )
            answers[flow].append(answer)
    return Comparison(
        num_items=width,
        passes={flow: _median(a.work.passes for a in answers[flow]) for flow in FLOWS},
        rows={flow: _median(a.work.rows for a in answers[flow]) for flow in FLOWS},
        ms={flow: _median(a.timings.total_ms for a in answers[flow]) for flow in FLOWS},
        identical=all(map(_same, answers["off"], answers["on"])),
    )


def _median(values: Iterable[float]) -> float:
    return float(statistics.median(values))


def _same(one: Recommendation, other: Recommendation) -> bool:
    """Whether two answers agree, up to the rounding of fp32 in other batch shapes."""
    return len(one.items) == len(other.items) and all(
        a.item_id == b.item_id and abs(a.score - b.score) < 1e-4
        for a, b in zip(one.items, other.items, strict=True)
    )


def _as_dict(comparison: Comparison) -> dict[str, object]:
    return {name: getattr(comparison, name) for name in Comparison.__slots__}


def _print_comparisons(comparisons: Sequence[Comparison]) -> None:
    rows = []
    for c in comparisons:
        for flow, name in zip(FLOWS, ("plain", "speculative"), strict=True):
            cells = (f"{c.passes[flow]:.0f}", f"{c.rows[flow]:.0f}", f"{c.ms[flow]:.1f}")
            identical = "" if flow == "off" else "yes" if c.identical else "no"
            rows.append((f"K = {c.num_items}, {name}", *cells, identical))
    print_table(
        "plain and speculative search, medians per request",
        ("", "passes", "rows", "ms", "identical"),
        rows,
    )
    click.echo(_verdict(comparisons))


def _verdict(comparisons: Sequence[Comparison]) -> str:
    """Return what the measurements say, also when it is not flattering."""
    faster = [c.num_items for c in comparisons if c.ms["on"] < c.ms["off"]]
    if len(faster) == len(comparisons):
        return "The answers are the same; speculation was faster here for every K."
    small = (
        "these models are so small that a pass costs less than asking for a draft, so the fewer "
        "passes do not pay. They do with larger models; --speculation auto picks what is faster."
    )
    if not faster:
        return f"The answers are the same; speculation was slower here: {small}"
    widths = ", ".join(map(str, faster))
    return f"The answers are the same; speculation was faster for K = {widths} only: {small}"
