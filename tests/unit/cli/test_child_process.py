"""A service started by `specbeam serve --processes` does not outlive a killed parent."""

import os
import signal
import subprocess
import sys
import time

import pytest

# A parent that starts a child which only waits, prints its id and waits too.
PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen(
    [sys.executable, "-m", "specbeam.cli.child_process", str(os.getpid()), "waiting"],
    start_new_session=True,
)
print(child.pid, flush=True)
time.sleep(60)
"""
CHILD = "import time; print('up', flush=True); time.sleep(60)"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs prctl")
def test_child_ends_when_its_parent_is_killed(tmp_path: os.PathLike[str]) -> None:
    with open(os.path.join(tmp_path, "waiting.py"), "w") as module:
        module.write(CHILD)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([os.fspath(tmp_path), os.getcwd()])},
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert parent.stdout.readline() == "up\n"
    os.kill(child, 0)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    if _alive(child):
        os.kill(child, signal.SIGKILL)
        raise AssertionError("the child outlived its parent")


def _alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as status:
            return status.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
