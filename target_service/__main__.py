"""`python -m target_service`: the target service in a process of its own."""

import asyncio
import os
import sys
from collections.abc import Sequence

from specbeam.bundle import BundleError
from specbeam.cli import exit_codes
from specbeam.runtime.logging import configure_logging
from specbeam.runtime.server import PortInUse
from specbeam.runtime.settings import load_settings
from target_service.settings import TargetSettings

_PROG = "python -m target_service"
_EXAMPLES = f"""
examples:
  {_PROG} --bundle ./bundle
  {_PROG} --bundle ./bundle --host 0.0.0.0 --threads 4 --slots 16 --log-format json
  SPECBEAM_TARGET_BUNDLE=./bundle {_PROG} --print-config
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service and return the exit code of the process."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        settings = load_settings(TargetSettings, arguments, prog=_PROG)
    except SystemExit:
        if {"-h", "--help"} & set(arguments):
            sys.stdout.write(_EXAMPLES)
        raise
    configure_logging("target", level=settings.log_level, log_format=settings.log_format)
    # Read when the libraries start: idle threads must not burn the cores of other processes,
    # and what gRPC has to say reaches us as errors.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from target_service.app import run

    try:
        asyncio.run(run(settings))
    except BundleError as error:
        return _fail(f"cannot serve {settings.bundle}: {error}", exit_codes.BAD_INPUT)
    except PortInUse as error:
        return _fail(str(error), exit_codes.UNAVAILABLE)
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    return exit_codes.OK


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"target_service: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
