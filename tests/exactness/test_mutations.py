"""The list of deliberate mistakes fits the code; trying them all takes longer than a test run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.exactness.mutation import Mutation
from tests.exactness.mutations import MUTATIONS, ROOT, apply


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_changes_one_place_and_leaves_python(mutation: Mutation, tmp_path: Path) -> None:
    file = Path("specbeam", mutation.file)
    (tmp_path / file).parent.mkdir(parents=True)
    shutil.copy(ROOT / file, tmp_path / file)
    apply(mutation, tmp_path)
    compile((tmp_path / file).read_text(), str(file), "exec")
