"""Kills an alignment at file operations and resumes it.  Run by test_crash_points.py.

usage: python -m tests.unit.training.alignment.crash_points FOLDER SHARD SHARDS

As `tests.unit.training.crash_points`, for teacher data, draft and the new bundle.
"""

import json
import shutil
import signal
import sys
from pathlib import Path

import torch

from specbeam.bundle import load_bundle
from specbeam.training.alignment import run as run_module
from specbeam.training.alignment.config import make_config
from specbeam.training.alignment.context import TeacherSettings
from specbeam.training.alignment.run import AlignmentRun, align_bundle
from specbeam.training.data.dataset_files import write_dataset
from specbeam.training.data.synthetic import SyntheticConfig, synthesize
from specbeam.training.presets import ModelShape, PhaseConfig, Preset
from specbeam.training.progress import SilentReporter
from specbeam.training.work_dir import RUN_FILE
from tests.unit.training.alignment.models import make_bundle
from tests.unit.training.crash_points import digests, in_child, kill_at

SHAPE = ModelShape(32, 1, 1, 1, 32, 32)
PHASE = PhaseConfig(max_epochs=9, batch_tokens=300, substitute=0.3, validation_users=4)
PRESET = Preset("crash", SHAPE, SHAPE, PHASE, PHASE)


def align(root: Path, folder: Path, *, resume: bool) -> None:
    run = AlignmentRun(
        root / "dataset",
        folder / "b",
        root / "small.bundle",
        make_config("atspeed-s", on_policy=0.5),
        PRESET,
        steps=3,
        teacher=TeacherSettings(prompts=12, width=4, shard_prompts=4),
        threads=1,
        resume=resume,
        checkpoint_every_s=0.0,
    )
    align_bundle(run, SilentReporter())


def count_places(root: Path, folder: Path) -> int:
    def action() -> None:
        count = kill_at(0, folder)
        align(root, folder, resume=False)
        (root / "count").write_text(str(count[0]))

    assert in_child(action) == 0
    return int((root / "count").read_text())


def crash(root: Path, folder: Path, place: int) -> None:
    """Kill a run and resume it; a run that had not even begun is begun again."""

    def killed() -> None:
        kill_at(place, folder)
        align(root, folder, resume=False)

    folder.mkdir()
    assert in_child(killed) == signal.SIGKILL, place
    resume = (folder / "b.work" / RUN_FILE).is_file()
    if not resume and (folder / "b").exists():
        return  # killed while removing the work directory of a finished run
    assert in_child(lambda: align(root, folder, resume=resume)) == 0, place
    load_bundle(folder / "b")


def main(root: Path, shard: int, shards: int) -> None:
    torch.set_num_threads(1)
    setattr(run_module, "bf16_is_fast", lambda device: False)  # noqa: B010
    dataset = synthesize(SyntheticConfig(num_items=128, num_users=60, mean_length=7.0, seed=1))
    write_dataset(dataset, root / "dataset")
    make_bundle(root, dataset)
    whole = root / "whole"
    whole.mkdir()
    places = count_places(root, whole)
    wanted = digests(whole)
    same = {}
    for place in range(1 + shard, places + 1, shards):
        folder = root / f"at-{place}"
        crash(root, folder, place)
        same[place] = digests(folder) == wanted
        shutil.rmtree(folder)
    print(json.dumps({"places": places, "models": len(wanted), "same": same}))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3]))
