"""`python -m draft_service`: the draft service in a process of its own."""

import sys
from collections.abc import Sequence

from draft_service.settings import DraftSettings
from specbeam.cli.service_main import service_main
from specbeam.runtime.lifecycle import ServiceApp

_EXAMPLES = (
    "{prog} --bundle ./bundle",
    "{prog} --bundle ./bundle --host 0.0.0.0 --drafter default --threads 2 --log-format json",
    "SPECBEAM_DRAFT_BUNDLE=./bundle {prog} --print-config",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service and return the exit code of the process."""
    return service_main("draft_service", DraftSettings, _build, examples=_EXAMPLES, argv=argv)


async def _build(settings: DraftSettings) -> ServiceApp:
    from draft_service.app import build_app  # loads torch

    return await build_app(settings)


if __name__ == "__main__":
    sys.exit(main())
