"""`python -m specbeam.cli.child_process PARENT MODULE`: a service that ends with its parent.

A parent that is killed cannot stop its children; the kernel does it then (Linux only).
"""

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with(parent: int) -> None:
    """Have SIGTERM sent to this process when `parent` is gone.

    Args:
        parent: Process id of the parent.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it was gone before
        os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run the module named on the command line as a program."""
    parent, module = sys.argv[1:]
    end_with(int(parent))
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
