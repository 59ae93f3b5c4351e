"""Breaks the fast path on purpose and tells which suites notice.

    python -m tests.exactness.mutations [NAME ...]

Each mutation is applied to a copy of the packages; the suites that could notice run on it until
the first failure: those of whole searches and of parts (filters, levels, drafts), for mistakes in
drawing those of the rules and of drawn searches.  A mutation that nothing notices is a gap in the
tests.  All of them take an hour, so they are no part of the test run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.exactness.mutation import Mutation
from tests.exactness.sampling_mutations import SAMPLING_MUTATIONS
from tests.exactness.search_mutations import SEARCH_MUTATIONS

ROOT = Path(__file__).resolve().parents[2]
SUITES = {
    "searches": ("test_ties.py", "test_reference.py", "test_variants.py"),
    "parts": (
        "test_filters.py",
        "test_expansion.py",
        "test_reporting.py",
        "../unit/decoding/test_select.py",
    ),
    "rules": (
        "../rules/test_gumbel_rule.py",
        "../rules/test_relaxed_rule.py",
        "../rules/test_drafted_sets.py",
        "../rules/test_relaxed_items.py",
    ),
    "drawn": ("test_sampling.py", "test_relaxed.py"),
}
MUTATIONS = SEARCH_MUTATIONS + SAMPLING_MUTATIONS


def run_suites(copy: Path, files: Sequence[str]) -> str | None:
    """The first test that fails, or None."""
    paths = [f"tests/exactness/{name}" for name in files]
    # The copy must win over an installed package.
    environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    options = ["-x", "-q", "--no-header", "--tb=line"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *paths],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return None
    if done.returncode == pytest.ExitCode.USAGE_ERROR:
        raise SystemExit(done.stderr)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split("::")[-1][:70] if failed else f"exit status {done.returncode}"


def apply(mutation: Mutation, copy: Path) -> None:
    """Write the mistake into a copy."""
    file = copy / "specbeam" / mutation.file
    text = file.read_text(encoding="utf-8")
    if text.count(mutation.old) != 1:
        raise SystemExit(
            f"{mutation.name}: {text.count(mutation.old)} places in {mutation.file}; "
            "the code has changed, and the mutation must too"
        )
    file.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")


def try_mutation(mutation: Mutation | None) -> dict[str, str | None]:
    """What each group of suites says to a mutated copy, or to an unchanged one."""
    with tempfile.TemporaryDirectory(prefix="specbeam-mutation-") as scratch:
        copy = Path(scratch)
        for name in ("specbeam", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        if mutation is not None:
            apply(mutation, copy)
        return {group: run_suites(copy, SUITES[group]) for group in groups_for(mutation)}


def groups_for(mutation: Mutation | None) -> tuple[str, ...]:
    """The suites that could notice: parts and rules run no model, searches draw nothing."""
    if mutation is None:
        return tuple(SUITES)
    if mutation in SAMPLING_MUTATIONS:
        return "rules", "drawn"
    return ("searches",) if mutation.file.startswith("engine/") else ("searches", "parts")


def main(wanted: Sequence[str]) -> int:
    """Try all mutations, or those whose name contains one of `wanted`."""
    chosen = [m for m in MUTATIONS if not wanted or any(part in m.name for part in wanted)]
    if not wanted and any(found := try_mutation(None).values()):
        raise SystemExit(f"the suites fail without a mutation: {list(found)}")
    unnoticed = 0
    for mutation in chosen:
        start = time.monotonic()
        verdicts = try_mutation(mutation)
        unnoticed += not any(verdicts.values())
        said = "; ".join(f"{group}: {test or 'nothing'}" for group, test in verdicts.items())
        took = time.monotonic() - start
        print(
            f"{'ok' if any(verdicts.values()) else 'GAP':4}{mutation.name}  [{said}] {took:.0f} s"
        )
        sys.stdout.flush()
    print(f"{len(chosen) - unnoticed} of {len(chosen)} mutations were noticed")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
