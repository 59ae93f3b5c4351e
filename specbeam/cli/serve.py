"""`specbeam serve`: everything a bundle needs, on one machine."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import click

from specbeam.bundle import Bundle, load_bundle
from specbeam.cli import exit_codes
from specbeam.cli.child_services import ChildServices
from specbeam.cli.local_services import (
    ALL,
    DTYPES,
    LocalServices,
    ServePlan,
    default_data_dir,
)
from specbeam.cli.output import print_json, progress_console
from specbeam.cli.service_main import prepare_process

PORTS = {"orchestrator": 50051, "draft": 50052, "target": 50053}
PORT = click.IntRange(0, 65535)
HISTORY_FILE = "histories.sqlite"

EXAMPLES = """\b
Examples:
  specbeam serve demo.bundle
  specbeam serve demo.bundle --store redis://localhost:6379/0 --processes
  specbeam serve demo.bundle --services target --target-port 50053 --host 0.0.0.0
  specbeam serve demo.bundle --services orchestrator --target-address target:50053"""


@click.command(epilog=EXAMPLES)
@click.argument("bundle_dir", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--services", default=",".join(ALL), show_default=True, help="Which to start.")
@click.option("--processes", is_flag=True, help="One child process per service.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=PORT,
    default=PORTS["orchestrator"],
    show_default=True,
    help="0 = any free one.",
)
@click.option("--draft-port", type=PORT, default=PORTS["draft"], show_default=True)
@click.option("--target-port", type=PORT, default=PORTS["target"], show_default=True)
@click.option("--target-address", help="Target elsewhere, when it is not among the services.")
@click.option("--draft-address", help="Draft elsewhere, when it is not among the services.")
@click.option("--store", help="redis://HOST:PORT/DB, sqlite:PATH or memory:.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Holds the default store, a sqlite file.  [default: ~/.local/share/specbeam]",
)
@click.option("--dtype", type=click.Choice(DTYPES), default="fp32", show_default=True)
@click.option("--device", default="cpu", show_default=True, help="As torch names it.")
@click.option(
    "--threads",
    type=click.IntRange(0),
    default=0,
    help="CPU threads of all models together; 0 = all cores.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
)
@click.option("--json", "as_json", is_flag=True, help="Print the addresses as JSON once ready.")
def serve(
    bundle_dir: Path,
    services: str,
    processes: bool,
    host: str,
    port: int,
    draft_port: int,
    target_port: int,
    target_address: str | None,
    draft_address: str | None,
    store: str | None,
    data_dir: Path | None,
    dtype: str,
    device: str,
    threads: int,
    log_level: str,
    as_json: bool,
) -> int:
    """Serve BUNDLE until Ctrl-C: target, draft and orchestrator in one process."""
    prepare_process()
    from specbeam.runtime.logging import configure_logging

    configure_logging("specbeam", level=log_level, log_format="console")  # type: ignore[arg-type]
    from specbeam.storage import open_state_store

    store = store or _default_store(data_dir or default_data_dir())
    open_state_store(store)  # for its checks: nothing is connected yet
    bundle = load_bundle(bundle_dir, verify=False)
    plan = ServePlan(
        bundle=bundle,
        services=_chosen(services, bundle),
        host=host,
        ports={"orchestrator": port, "draft": draft_port, "target": target_port},
        store=store,
        dtype=dtype,
        device=device,
        threads=threads,
    )
    others = {"target": target_address, "draft": draft_address}
    elsewhere = {name: address for name, address in others.items() if address}
    if "orchestrator" in plan.services and not {*plan.services, *elsewhere} & {"target"}:
        raise click.UsageError("the orchestrator needs a target: add it, or --target-address")
    # SIGINT too: a shell that starts a job in the background has it ignored, and Python then leaves
    # it so.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    progress_console().print(f"serving bundle {bundle.manifest.name!r}: {bundle.path}")
    if processes:
        return _serve_children(plan, elsewhere, log_level, as_json)
    return asyncio.run(_serve_here(plan, elsewhere, as_json))


def _chosen(services: str, bundle: Bundle) -> tuple[str, ...]:
    names = tuple(name.strip() for name in services.split(",") if name.strip())
    unknown = sorted(set(names) - set(ALL))
    if unknown or not names:
        raise click.UsageError(f"--services takes {', '.join(ALL)}, not {', '.join(unknown)!r}")
    if "draft" in names and not bundle.model_drafters():
        progress_console().print("the bundle has no model among its drafters: no draft service")
        names = tuple(name for name in names if name != "draft")
    return names


def _default_store(data_dir: Path) -> str:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{data_dir} cannot hold histories: {error.strerror}") from error
    return f"sqlite:{data_dir / HISTORY_FILE}"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _announce(plan: ServePlan, addresses: dict[str, str], as_json: bool) -> None:
    if as_json:
        print_json({"bundle": plan.bundle.manifest.name, "addresses": addresses})
    console = progress_console()
    if "orchestrator" in addresses:
        kept = plan.store.split("@")[-1]
        console.print(f"histories in {kept}", soft_wrap=True)
    console.print("ready; Ctrl-C stops")


def _serve_children(plan: ServePlan, others: dict[str, str], log_level: str, as_json: bool) -> int:
    children = ChildServices()
    try:
        children.start(plan, progress_console().print, others, log_level)
        _announce(plan, children.addresses, as_json)
        children.wait()
    except KeyboardInterrupt:
        progress_console().print("stopping")
    finally:
        children.stop()
    return exit_codes.OK


async def _serve_here(plan: ServePlan, others: dict[str, str], as_json: bool) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    services = LocalServices()
    try:
        starting = asyncio.ensure_future(services.start(plan, progress_console().print, others))
        await _first(starting, stop)
        if starting.done():
            starting.result()
            _announce(plan, services.addresses, as_json)
            await stop.wait()
        progress_console().print("stopping")
    finally:
        await services.stop()
    return exit_codes.OK


async def _first(starting: asyncio.Future[None], stop: asyncio.Event) -> None:
    """Wait until the services are up or a signal came."""
    stopping = asyncio.ensure_future(stop.wait())
    waiting: Sequence[asyncio.Future[object]] = (starting, stopping)  # type: ignore[assignment]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for future in waiting:
        if not future.done():
            future.cancel()
    await asyncio.gather(*(f for f in waiting if f.cancelled()), return_exceptions=True)
