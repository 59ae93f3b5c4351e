"""Code indices: JSON objects of item id -> code tokens, `{"7": ["<a_47>", "<b_103>"], ...}`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from specbeam.training.data.dataset import Int32Array
from specbeam.training.data.texts import read_unique_json
from specbeam.training.data.vocabulary import Level, codes_to_tokens, make_levels

CODE_TOKEN = re.compile(r"<([A-Za-z]+)_(\d{1,6})>")


@dataclass(slots=True)
class CodeIndex:
    """A parsed code index.

    Attributes:
        codes: L codes by item id, in the order of the file.
        letters: names of the L levels.
    """

    codes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    letters: tuple[str, ...] = ()

    def levels(self) -> tuple[Level, ...]:
        """Return the token layout; a level ends with the highest code in the index."""
        if not self.codes:
            return ()
        highest = np.array(list(self.codes.values()), np.int64).max(axis=0)
        return make_levels(self.letters, [int(code) + 1 for code in highest])

    def paths(self, item_ids: Sequence[str]) -> Int32Array:
        """Return the token paths of items that are all in the index. Shape (N, L)."""
        codes = np.array([self.codes[item_id] for item_id in item_ids], dtype=np.int32)
        return codes_to_tokens(codes.reshape(len(item_ids), len(self.letters)), self.levels())


def read_code_index(path: Path, problems: list[str], *, numbered: bool = False) -> CodeIndex:
    """Read a code index; all items must have the same levels.

    Args:
        path: a JSON file.
        problems: receives everything that is wrong with it.
        numbered: item ids must be numbers.
    """
    index = CodeIndex()
    try:
        content = read_unique_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        problems.append(f"{path.name}: {error}")
        return index
    if not isinstance(content, dict) or not content:
        problems.append(f"{path.name}: expected a non-empty object of item -> code tokens")
        return index
    for key, value in content.items():
        if numbered and not (key.isascii() and key.isdigit()):
            problems.append(f"{path.name}: key {key!r} is not an item number (0, 1, 2, ...)")
            continue
        _read_code(path.name, key, value, index, problems)
    return index


def _read_code(label: str, key: str, value: object, index: CodeIndex, problems: list[str]) -> None:
    """Parse one entry into `index`, or note what is wrong with it."""
    if not isinstance(value, list) or not value:
        problems.append(f"{label}: item {key}: expected a list of code tokens, got {value!r}")
        return
    matches = [CODE_TOKEN.fullmatch(token) if isinstance(token, str) else None for token in value]
    wrong = [token for token, match in zip(value, matches, strict=True) if match is None]
    if wrong:
        problems.append(f"{label}: item {key}: {wrong[0]!r} does not look like '<a_12>'")
        return
    letters = tuple(match[1] for match in matches if match)
    index.letters = index.letters or letters
    if letters != index.letters:
        problems.append(
            f"{label}: item {key}: levels {'/'.join(letters)} differ from "
            f"{'/'.join(index.letters)} of the first item"
        )
        return
    index.codes[key] = tuple(int(match[2]) for match in matches if match)
