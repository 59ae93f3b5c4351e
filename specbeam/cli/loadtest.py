"""`specbeam loadtest`: load a running orchestrator and report latency and failures.

The scenario runs headless in a process of its own, because locust patches the interpreter.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from specbeam.cli import exit_codes
from specbeam.cli.output import print_json, print_table, progress_console

# Time beyond the run itself: start of the child, calls in flight, the report.
EXTRA_TIME_S = 60
STOP_TIMEOUT_S = 10
# locust's exit status when some requests failed; the report says which.
LOCUST_SAW_FAILURES = 1
# How the scenario begins a line about the server or its options.
COMPLAINT = "recommend: "


@click.command(
    epilog="Example: specbeam loadtest --address 127.0.0.1:50051 --users 8 --seconds 20 --json"
)
@click.option("--address", default="127.0.0.1:50051", show_default=True, help="The orchestrator.")
@click.option("--users", default=8, show_default=True, type=click.IntRange(1, 1000))
@click.option("--seconds", default=20, show_default=True, type=click.IntRange(1, 3600))
@click.option("--num-items", default=10, show_default=True, type=click.IntRange(min=1))
@click.option("--beam-width", default=0, show_default=True, help="0 = the server's choice.")
@click.option(
    "--speculation",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    show_default=True,
    help="Whether the target is helped by drafts; the answers are the same.",
)
@click.option("--deadline-s", default=5.0, show_default=True, help="Deadline of each call.")
@click.option(
    "--users-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Stored user ids, one a line; synthetic inline histories by default.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def loadtest(seconds: int, as_json: bool, **options: Any) -> int:
    """Keep USERS calls to Recommend in flight for some seconds."""
    if importlib.util.find_spec("locust") is None:
        raise click.ClickException("locust is not installed: pip install 'specbeam[load]'")
    if not as_json:
        progress_console().print(f"loading {options['address']} for {seconds} s ...")
    with tempfile.TemporaryDirectory(prefix="specbeam-loadtest-") as folder:
        report_file = Path(folder) / "report.json"
        command = _command(scenario_file(), seconds, report_file, options)
        status, log = _run(command, timeout_s=seconds + EXTRA_TIME_S)
        if status not in (0, LOCUST_SAW_FAILURES) or not report_file.exists():
            raise _ended_early(status, log)
        report = json.loads(report_file.read_text("utf-8"))
    if as_json:
        print_json(report)
    else:
        _print_report(report)
    return _exit_code(report)


def scenario_file() -> Path:
    """Return the scenario: of the checkout, else as installed with the package.

    Raises:
        FileNotFoundError: neither is there.
    """
    checkout = Path(__file__).resolve().parents[2] / "loadtest" / "recommend.py"
    installed = Path(sys.prefix) / "share" / "specbeam" / "loadtest" / "recommend.py"
    for path in (checkout, installed):
        if path.is_file():
            return path
    raise FileNotFoundError(f"no load scenario at {checkout} or {installed}")


def _command(scenario: Path, seconds: int, report: Path, options: dict[str, Any]) -> list[str]:
    arguments = {
        "--locustfile": scenario,
        "--host": options["address"],
        "--users": options["users"],
        "--spawn-rate": options["users"],
        "--run-time": f"{seconds}s",
        "--stop-timeout": STOP_TIMEOUT_S,
        "--loglevel": "WARNING",
        "--num-items": options["num_items"],
        "--beam-width": options["beam_width"],
        "--speculation": options["speculation"],
        "--deadline-s": options["deadline_s"],
        "--users-file": options["users_file"] or "",
        "--report-file": report,
    }
    command = [sys.executable, "-m", "locust", "--headless", "--only-summary"]
    return command + [f"{name}={value}" for name, value in arguments.items()]


def _run(command: list[str], timeout_s: float) -> tuple[int, str]:
    """Run a command with bounded time; return its exit status and what it printed."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        raise click.ClickException(f"the load scenario did not end in {timeout_s:g} s") from None
    return done.returncode, done.stdout + done.stderr


def _ended_early(status: int, log: str) -> Exception:
    """Return the scenario's own complaint if it made one, else all it printed."""
    complaints = [line for line in log.splitlines() if line.startswith(COMPLAINT)]
    if complaints:
        return ConnectionError(complaints[-1].removeprefix(COMPLAINT))
    return click.ClickException(f"the load scenario ended with status {status}:\n{log}")


def _exit_code(report: dict[str, Any]) -> int:
    if report["requests"] > report["failures"]:
        return exit_codes.OK if not report["failures"] else exit_codes.FAILURE
    return exit_codes.UNAVAILABLE


def _print_report(report: dict[str, Any]) -> None:
    answers = report["answers"]
    rows = [
        ("requests", f"{report['requests']:,}"),
        ("failures", f"{report['failures']:,}"),
        ("requests per second", f"{report['requests_per_s']:.1f}"),
        *((f"latency {name}, ms", f"{ms:.1f}") for name, ms in report["latency_ms"].items()),
        ("items per answer", f"{answers['items_mean']:.1f}"),
        ("passes per answer", f"{answers['passes_mean']:.2f}"),
        ("rows per answer", f"{answers['rows_mean']:.1f}"),
        ("answers with drafts", f"{answers['speculated']:,}"),
        *(
            (flag.removeprefix("DEGRADED_FLAG_").lower(), f"{count:,}")
            for flag, count in answers["degraded"].items()
        ),
    ]
    title = f"{report['address']}, {report['users']} users, K = {report['num_items']}"
    print_table(title, ("", "value"), rows)
    if report["errors"]:
        errors = [(error["error"], f"{error['count']:,}") for error in report["errors"]]
        print_table("Errors", ("error", "count"), errors)
