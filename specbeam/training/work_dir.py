"""The directory in which an unfinished run lies, and which run that is."""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from specbeam.bundle import BundleError, load_bundle
from specbeam.training.errors import CheckpointError, TrainingError
from specbeam.training.files import new_directory, read_json, write_json

RUN_FILE = "run.json"


def prepare_work_dir(work_dir: Path, identity: Mapping[str, Any], *, resume: bool) -> None:
    """Create the work directory, or check that the existing one belongs to this run.

    Args:
        work_dir: where checkpoints are to live.
        identity: what makes two runs the same run; JSON values.
        resume: whether a run is to be continued.

    Raises:
        CheckpointError: there is nothing to continue, or another run.
        TrainingError: something is in the way of a new run.
    """
    path = work_dir / RUN_FILE
    if resume:
        if not path.is_file():
            raise CheckpointError(f"nothing to resume: {path} does not exist")
        found = read_json(path)
        different = [key for key, value in identity.items() if found.get(key) != value]
        if different:
            raise CheckpointError(
                f"{work_dir} belongs to a run with another {', '.join(different)}"
            )
        return
    if path.is_file():
        raise TrainingError(
            f"{work_dir} holds an unfinished run: continue it with --resume, or remove it"
        )
    if work_dir.is_dir() and any(work_dir.iterdir()):
        raise TrainingError(f"{work_dir} holds files of no run; remove it")
    if work_dir.is_dir():
        work_dir.rmdir()
    with new_directory(work_dir) as scratch:  # it never lacks its run.json
        write_json(scratch / RUN_FILE, {**identity, "run_id": uuid.uuid4().hex})


def run_id_of(work_dir: Path) -> str:
    """Return the name that a run got when its work directory was made."""
    return str(read_json(work_dir / RUN_FILE)["run_id"])


def written_report(bundle_dir: Path) -> dict[str, Any] | None:
    """Return the report of the bundle that lies in a directory; None if there is none."""
    try:
        load_bundle(bundle_dir, verify=False)
        report: dict[str, Any] = read_json(bundle_dir / "report.json")
    except (BundleError, OSError, ValueError):
        return None
    return report


def is_report_of(report: Mapping[str, Any], work_dir: Path, identity: Mapping[str, Any]) -> bool:
    """Say whether a report is that of the run in a work directory.

    Args:
        report: has `run` and `run_id`.
        work_dir: may be gone already; then any run of the same identity will do.
        identity: what makes two runs the same run.
    """
    begun = work_dir / RUN_FILE
    run_id = run_id_of(work_dir) if begun.is_file() else report.get("run_id")
    return report.get("run") == dict(identity) and report.get("run_id") == run_id
