"""Write docs/configuration.md from the settings classes; with --check, only compare."""

import argparse
import importlib
import inspect
import sys
from pathlib import Path

from specbeam.runtime.settings import ServiceSettings, env_name, render_table

SERVICES = ("orchestrator", "draft_service", "target_service")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
INTRODUCTION = """\
# Configuration

Made by `make docs` from the settings classes. A flag wins over the service's own variable, which
wins over the shared variable, which wins over the default. `python -m SERVICE --print-config` shows
the effective values; wrong values are reported all at once and end the process with status 2.
"""


def settings_class(service: str) -> type[ServiceSettings]:
    """Return the one settings class that a service's settings module defines."""
    module = importlib.import_module(f"{service}.settings")
    (found,) = (
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, ServiceSettings)
        and value.__module__ == module.__name__
    )
    return found


def render_page() -> str:
    """Return the text of the page."""
    shared = ", ".join(
        f"`{env_name(ServiceSettings, name)}`" for name in sorted(ServiceSettings.shared_fields)
    )
    parts = [INTRODUCTION, f"Shared by all services: {shared}.\n"]
    parts += [f"## {name}\n\n{render_table(settings_class(name))}" for name in SERVICES]
    return "\n".join(parts)


def main() -> int:
    """Write or compare the page; return 1 when it is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    text = render_page()
    if not parser.parse_args().check:
        PAGE.write_text(text, "utf-8")
    elif not PAGE.exists() or PAGE.read_text("utf-8") != text:
        sys.stderr.write(f"{PAGE.name} is out of date: run `make docs`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
