"""`python -m orchestrator`: the orchestrator in a process of its own."""

import sys
from collections.abc import Sequence

from orchestrator.app import build_app
from orchestrator.settings import OrchestratorSettings
from specbeam.cli.service_main import service_main

_EXAMPLES = (
    "{prog} --bundle ./bundle --draft-address localhost:50052",
    "SPECBEAM_ORCHESTRATOR_STORE=redis://localhost:6379/0 {prog} --bundle ./bundle",
    "{prog} --bundle ./bundle --host 0.0.0.0 --target-address dns:///target:50053 "
    "--log-format json",
    "SPECBEAM_ORCHESTRATOR_BUNDLE=./bundle {prog} --print-config",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service and return the exit code of the process."""
    return service_main(
        "orchestrator",
        OrchestratorSettings,
        build_app,
        examples=_EXAMPLES,
        argv=argv,
        bad_input=ValueError,  # bundles, and the URL of the store
    )


if __name__ == "__main__":
    sys.exit(main())
