"""`python -m target_service`: the target service in a process of its own."""

import sys
from collections.abc import Sequence

from specbeam.cli.service_main import service_main
from specbeam.runtime.lifecycle import ServiceApp
from target_service.settings import TargetSettings

_EXAMPLES = (
    "{prog} --bundle ./bundle",
    "{prog} --bundle ./bundle --host 0.0.0.0 --threads 4 --slots 16 --log-format json",
    "SPECBEAM_TARGET_BUNDLE=./bundle {prog} --print-config",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service and return the exit code of the process."""
    return service_main("target_service", TargetSettings, _build, examples=_EXAMPLES, argv=argv)


async def _build(settings: TargetSettings) -> ServiceApp:
    from target_service.app import build_app  # loads torch

    return await build_app(settings)


if __name__ == "__main__":
    sys.exit(main())
