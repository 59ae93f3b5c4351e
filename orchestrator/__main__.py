"""``python -m orchestrator``."""

import asyncio
import sys
from collections.abc import Sequence

from orchestrator.app import run_app
from orchestrator.settings import OrchestratorSettings
from specbeam.bundle import BundleError
from specbeam.runtime.logging import configure_logging
from specbeam.runtime.server import PortInUse
from specbeam.runtime.settings import load_settings

START_FAILED = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the orchestrator until a signal stops it; return the exit status."""
    settings = load_settings(OrchestratorSettings, argv, prog="python -m orchestrator")
    configure_logging("orchestrator", level=settings.log_level, log_format=settings.log_format)
    try:
        asyncio.run(run_app(settings))
    except (BundleError, PortInUse, ValueError) as error:
        sys.stderr.write(f"orchestrator: {error}\n")
        return START_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
