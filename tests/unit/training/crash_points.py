"""Kills training at every file operation in turn and resumes it.  Run by test_crash_points.py.

usage: python -m tests.unit.training.crash_points FOLDER SHARD SHARDS

A child process dies by SIGKILL before its k-th file operation below FOLDER, a second one resumes.
Prints a JSON object: how many places there are, and for each one tried whether the resumed models
have the bytes of an uninterrupted run.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from specbeam.training import pipeline
from specbeam.training.data.dataset_files import write_dataset
from specbeam.training.data.synthetic import SyntheticConfig, synthesize
from specbeam.training.pipeline import TrainingRun, train_bundle
from specbeam.training.presets import ModelShape, PhaseConfig, Preset
from specbeam.training.progress import SilentReporter
from specbeam.training.work_dir import RUN_FILE

PHASE = PhaseConfig(
    max_epochs=2,
    max_steps=4,
    batch_tokens=400,
    dropout=0.1,
    teacher=0.4,
    substitute=0.5,
    average_decay=0.9,
    num_validations=2,
    validation_users=6,
)
PRESET = Preset(
    "crash", ModelShape(32, 1, 1, 1, 32, 32), ModelShape(32, 1, 1, 1, 32, 32), PHASE, PHASE
)
# Places at which a run has hardly begun; always tried.
BEGINNING = 5
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}


def kill_at(place: int, folder: Path) -> list[int]:
    """Die before file operation number `place` below a folder; returns the running count."""
    count = [0]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in EVENTS or str(folder) not in str(arguments[0]):
            return
        if event == "open" and str(arguments[1]).startswith("r"):
            return
        count[0] += 1
        if count[0] == place:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    return count


def train(folder: Path, dataset: Path, *, resume: bool) -> None:
    run = TrainingRun(
        dataset, folder / "b", PRESET, threads=1, resume=resume, checkpoint_every_s=0.0
    )
    train_bundle(run, SilentReporter())


def in_child(action: Any) -> int:
    """Run an action in a forked child; returns the wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        action()
        os._exit(0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        os._exit(1)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(folder.glob("b/**/*.safetensors"))
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def count_places(folder: Path, dataset: Path) -> int:
    def action() -> None:
        count = kill_at(0, folder)
        train(folder, dataset, resume=False)
        (dataset / "count").write_text(str(count[0]))

    assert in_child(action) == 0
    return int((dataset / "count").read_text())


def crash(folder: Path, dataset: Path, place: int) -> None:
    """Kill a run and resume it; a run that had not even begun is begun again."""

    def killed() -> None:
        kill_at(place, folder)
        train(folder, dataset, resume=False)

    folder.mkdir()
    assert in_child(killed) == signal.SIGKILL, place
    resume = (folder / "b.work" / RUN_FILE).is_file()
    if not resume and (folder / "b").exists():
        return  # killed while removing the work directory of a finished run
    assert in_child(lambda: train(folder, dataset, resume=resume)) == 0, place


def main(root: Path, shard: int, shards: int) -> None:
    torch.set_num_threads(1)
    pipeline.bf16_is_fast = lambda device: False
    dataset = root / "dataset"
    synthetic = synthesize(SyntheticConfig(num_items=128, num_users=40, mean_length=7.0, seed=1))
    write_dataset(dataclasses.replace(synthetic, name="crash"), dataset)
    whole = root / "whole"
    whole.mkdir()
    places = count_places(whole, dataset)
    wanted = digests(whole)
    same = {}
    for place in sorted({*range(1, BEGINNING + 1), *range(1 + shard, places + 1, shards)}):
        folder = root / f"at-{place}"
        crash(folder, dataset, place)
        same[place] = digests(folder) == wanted
        shutil.rmtree(folder)
    print(json.dumps({"places": places, "models": len(wanted), "same": same}))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3]))
