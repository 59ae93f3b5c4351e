"""`python -m orchestrator`: the orchestrator in a process of its own."""

import asyncio
import sys
from collections.abc import Sequence

from orchestrator.app import run
from orchestrator.settings import OrchestratorSettings
from specbeam.cli import exit_codes
from specbeam.runtime.logging import configure_logging
from specbeam.runtime.server import PortInUse
from specbeam.runtime.settings import load_settings

_PROG = "python -m orchestrator"
_EXAMPLES = f"""
examples:
  {_PROG} --bundle ./bundle --draft-address localhost:50052
  SPECBEAM_ORCHESTRATOR_STORE=redis://localhost:6379/0 {_PROG} --bundle ./bundle
  {_PROG} --bundle ./bundle --host 0.0.0.0 --target-address dns:///target:50053 --log-format json
  SPECBEAM_ORCHESTRATOR_BUNDLE=./bundle {_PROG} --print-config
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service and return the exit code of the process."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        settings = load_settings(OrchestratorSettings, arguments, prog=_PROG)
    except SystemExit:
        if {"-h", "--help"} & set(arguments):
            sys.stdout.write(_EXAMPLES)
        raise
    configure_logging("orchestrator", level=settings.log_level, log_format=settings.log_format)
    try:
        asyncio.run(run(settings))
    except ValueError as error:
        # Bundles and the store's URL.
        return _fail(f"cannot serve: {error}", exit_codes.BAD_INPUT)
    except PortInUse as error:
        return _fail(str(error), exit_codes.UNAVAILABLE)
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    return exit_codes.OK


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"orchestrator: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
