"""What the programs `python -m orchestrator|draft_service|target_service` have in common."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from specbeam.bundle import BundleError
from specbeam.cli import exit_codes
from specbeam.runtime.lifecycle import ServiceApp
from specbeam.runtime.logging import configure_logging
from specbeam.runtime.server import PortInUse
from specbeam.runtime.settings import ServiceSettings, load_settings

S = TypeVar("S", bound=ServiceSettings)


def service_main(
    module: str,
    settings_class: type[S],
    build: Callable[[S], Awaitable[ServiceApp]],
    *,
    examples: Sequence[str],
    argv: Sequence[str] | None = None,
    bad_input: type[Exception] = BundleError,
) -> int:
    """Run a service until a signal ends it and return the exit code of the process.

    Args:
        module: Package of the service.
        settings_class: Its settings.
        build: Binds the port and loads what the service needs. Libraries that read the
            environment when they start are to be imported by it, not before.
        examples: Arguments that users may start from, shown by ``--help``; ``{prog}`` stands
            for the program.
        argv: Arguments; None = those of the process.
        bad_input: What `build` raises when the settings name something that cannot be served.
    """
    prog = f"python -m {module}"
    arguments = sys.argv[1:] if argv is None else argv
    try:
        settings = load_settings(settings_class, arguments, prog=prog)
    except SystemExit:
        if {"-h", "--help"} & set(arguments):
            lines = "".join(f"  {line.format(prog=prog)}\n" for line in examples)
            sys.stdout.write(f"\nexamples:\n{lines}")
        raise
    name = module.removesuffix("_service")
    configure_logging(name, level=settings.log_level, log_format=settings.log_format)
    prepare_process()
    try:
        asyncio.run(_run(build, settings))
    except bad_input as error:
        return _fail(module, f"cannot serve: {error}", exit_codes.BAD_INPUT)
    except PortInUse as error:
        return _fail(module, str(error), exit_codes.UNAVAILABLE)
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    return exit_codes.OK


def prepare_process() -> None:
    """Set what must be set before torch is loaded and gRPC starts.

    Idle threads must not burn the cores, and what gRPC has to say reaches us as errors.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


async def _run(build: Callable[[S], Awaitable[ServiceApp]], settings: S) -> None:
    await (await build(settings)).run()


def _fail(module: str, message: str, code: int) -> int:
    sys.stderr.write(f"{module}: {message}\n")
    return code
