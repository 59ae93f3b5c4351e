"""Deciding levels from any rows, on laws given as tables: no model, so many more cases.

Whatever rows a pass has scored, those needed or others, an expansion decides exactly the levels
whose beams are all scored or free, and decides them as the reference does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pytest
import torch

from specbeam.catalog import FilterCompiler, ItemFilter, ItemTrie, LeafFilter
from specbeam.decoding.beams import Beams
from specbeam.decoding.device_expansion import DeviceExpansion
from specbeam.decoding.expansion import Allowed, AnyExpansion, ScoredLevel
from specbeam.decoding.host_expansion import HostExpansion
from specbeam.decoding.reference import (
    PAD,
    Beam,
    Path,
    ReferenceAnswer,
    ReferenceSpec,
    reference_beam_search,
)
from specbeam.decoding.scoring import ColumnMap, LevelScores, Scoring
from specbeam.decoding.selection import BY_SCORE, Selection
from tests.exactness.catalogues import MAKERS, Catalogue
from tests.exactness.plain_noise import plain_sampling, random_selection
from tests.exactness.requests import FILTER_COMBINATIONS, Prompt, Request, random_request

SEEDS = range(3)
CASES_PER_CATALOGUE = 40
NO_PROMPT = Prompt((), ())


@dataclass
class TableLaw:
    """Random logits for every prefix, made when first asked."""

    rng: np.random.Generator
    vocab_size: int
    grid: float = 0.0  # what the logits are rounded to, which makes ties common
    rows: dict[Path, np.ndarray] = field(default_factory=dict)

    def row(self, path: Path) -> np.ndarray:
        if path not in self.rows:
            row = self.rng.normal(0.0, 2.0, self.vocab_size)
            self.rows[path] = np.round(row / self.grid) * self.grid if self.grid else row
        return self.rows[path]

    def __call__(self, prefixes: Sequence[Sequence[int]]) -> list[list[float]]:
        return [self.row(tuple(prefix)).tolist() for prefix in prefixes]


@dataclass
class Table:
    """A catalogue with a law, under one convention, and both implementations."""

    catalogue: Catalogue
    law: TableLaw
    trie: ItemTrie
    compiler: FilterCompiler
    convention: str
    expansions: dict[str, AnyExpansion]
    codebooks: list[np.ndarray]

    @classmethod
    def make(cls, maker: int, seed: int, convention: str, grid: float = 0.0) -> Table:
        rng = np.random.default_rng([maker, seed, 11])
        catalogue = MAKERS[maker](rng)
        trie = catalogue.build_trie()
        books = catalogue.codebooks
        scoring = Scoring(convention, books and tuple(map(np.array, books)))
        return cls(
            catalogue,
            TableLaw(rng, catalogue.vocab_size, grid),
            trie,
            FilterCompiler(trie),
            convention,
            {
                "host": HostExpansion(trie, scoring),
                "device": DeviceExpansion(trie, scoring, torch.device("cpu")),
            },
            [scoring.codebook(trie, level) for level in range(1, trie.depth + 1)],
        )

    @cached_property
    def nodes(self) -> list[list[Path]]:
        """The padded prefix of every node by level."""
        found = []
        for level in range(self.trie.depth + 1):
            numbers = np.arange(self.trie.levels[level].num_nodes)
            found.append([tuple(p) for p in self.trie.node_paths(level, numbers).tolist()])
        return found

    @cached_property
    def ended(self) -> set[Path]:
        """Prefixes that are whole items, with or without padding."""
        depth = self.trie.depth
        return {
            (item.path + (PAD,) * depth)[:level]
            for item in self.catalogue.items.values()
            for level in range(len(item.path), depth + 1)
        }

    def answer(self, request: Request, selection: Selection = BY_SCORE) -> ReferenceAnswer:
        spec = ReferenceSpec(
            (),
            request.beam_width,
            request.num_items,
            self.convention,  # type: ignore[arg-type]
            self.catalogue.codebooks,
            request.item_filter,
            plain_sampling(selection),
        )
        return reference_beam_search(self.catalogue.items, spec, self.law)

    def compiled(self, request: Request) -> LeafFilter | None:
        plain = request.item_filter
        allowed = None if plain.allowed is None else self.trie.index_of(sorted(plain.allowed))
        wanted = ItemFilter(
            self.trie.index_of(sorted(plain.excluded)),
            allowed,
            plain.required_tags,
            plain.created_after_ms,
        )
        return self.compiler.compile(self.compiler.resolve(wanted))

    def level_scores(self, level: int, paths: list[Path]) -> LevelScores:
        """What a model's head would give for these prefixes."""
        logits = torch.tensor(np.stack([self.law.row(path) for path in paths]))
        if self.convention == "TRIE":
            return LevelScores(logits, ColumnMap(), over_children=True)
        if self.convention == "VOCAB":
            return LevelScores(torch.log_softmax(logits, -1), ColumnMap())
        book = torch.from_numpy(self.codebooks[level])
        among = torch.full_like(logits, -torch.inf)
        among[:, book] = logits[:, book]
        return LevelScores(torch.log_softmax(among, -1), ColumnMap())


def beams_of(table: Table, level: int, beams: Sequence[Beam]) -> Beams:
    """The reference's beams as the fast path holds them."""
    if level == 0:
        return Beams.root()
    paths = np.array([beam.path for beam in beams]).reshape(-1, level)
    scores = np.array([beam.score for beam in beams])
    ranks = np.array([beam.rank for beam in beams])
    return Beams.from_paths(table.trie, paths, scores, ranks)


def pick_rows(
    table: Table,
    want: ReferenceAnswer,
    request: Request,
    base: int,
    rng: np.random.Generator,
) -> tuple[dict[int, np.ndarray], int]:
    """Nodes that have a row by level, and the level that can be decided with them.

    The beams of the base level have theirs; below, some are missing and others are not needed.
    """
    rows: dict[int, np.ndarray] = {}
    decided, going_on = base, True
    after = admitted_children(table, request)
    for level in range(base, table.trie.depth):
        beams = want.candidates[level - 1][: request.beam_width] if level else (Beam(0.0, (), 0.0),)
        needed = {path for _, path, _ in beams if not is_free(table.convention, after[path])}
        missing = set()
        if level > base and needed and rng.random() < 0.3:
            lost = rng.permutation(len(needed))[: int(rng.integers(1, len(needed) + 1))]
            missing = {sorted(needed)[number] for number in lost}
        going_on = going_on and not missing
        decided += going_on
        share = rng.choice([0.0, 0.2, 1.0])
        found = [
            number
            for number, path in enumerate(table.nodes[level])
            if path not in missing
            and path not in table.ended
            and (path in needed or rng.random() < share)
        ]
        if found:
            rows[level] = np.array(found)
    return rows, decided


def admitted_children(table: Table, request: Request) -> dict[Path, set[int]]:
    """Next tokens of every prefix of an admitted item."""
    depth = table.trie.depth
    found: dict[Path, set[int]] = {}
    for item_id in request.admitted:
        path = table.catalogue.items[item_id].path
        path += (PAD,) * (depth - len(path))
        for level in range(depth):
            found.setdefault(path[:level], set()).add(path[level])
    return found


def is_free(convention: str, children: set[int]) -> bool:
    """Whether the definition knows the next step without the model."""
    return children == {PAD} or (convention == "TRIE" and len(children) == 1)


@pytest.mark.parametrize("maker", range(len(MAKERS)))
@pytest.mark.parametrize(
    ("convention", "drawing"),
    [("VOCAB", False), ("LEVEL", False), ("TRIE", False), ("TRIE", True)],
)
def test_levels_are_decided_as_far_as_the_rows_go(
    maker: int, convention: str, drawing: bool
) -> None:
    torch.set_num_threads(1)
    seen: Counter[str] = Counter()
    # The reference's noise is slow.
    seeds = SEEDS[:2] if drawing else SEEDS
    for seed in seeds:
        table = Table.make(maker, seed, convention)
        rng = np.random.default_rng([maker, seed, 12])
        for number in range(CASES_PER_CATALOGUE):
            kinds = FILTER_COMBINATIONS[number % len(FILTER_COMBINATIONS)]
            request = random_request(rng, table.catalogue, NO_PROMPT, kinds)
            selection = random_selection(rng) if drawing else BY_SCORE
            want = table.answer(request, selection)
            if not request.admitted:
                continue
            base = int(rng.integers(0, table.trie.depth))
            rows, decided = pick_rows(table, want, request, base, rng)
            compare_both(table, request, want, base, rows, decided, selection)
            seen["cut short"] += decided < table.trie.depth
            seen["cases"] += 1
    assert seen["cases"] > len(seeds) * CASES_PER_CATALOGUE / 2
    # One or two items leave nothing to miss.
    assert seen["cut short"] or table.catalogue.kind == "tiny" or table.trie.depth < 3


def score_rows(
    table: Table, expansion: AnyExpansion, rows: dict[int, np.ndarray], allowed: Allowed
) -> dict[int, ScoredLevel]:
    """What an expansion makes of rows of the table's law."""
    scored: dict[int, ScoredLevel] = {}
    for level, nodes in rows.items():
        paths = [table.nodes[level][node] for node in nodes]
        scored[level] = expansion.score(level, nodes, table.level_scores(level, paths), allowed)
    return scored


def compare_both(
    table: Table,
    request: Request,
    want: ReferenceAnswer,
    base: int,
    rows: dict[int, np.ndarray],
    decided: int,
    selection: Selection = BY_SCORE,
) -> None:
    width = request.beam_width
    start = Beams.root(selection)
    if base:
        start = beams_of(table, base, want.candidates[base - 1][:width])
    expected = beams_of(table, decided, want.candidates[decided - 1][:width])
    for expansion in table.expansions.values():
        allowed = expansion.allow(table.compiled(request), selection)
        scored = score_rows(table, expansion, rows, allowed)
        if base == decided:
            continue
        got = expansion.verify(start, scored, width, allowed)
        assert got.levels == decided - base
        assert got.beams.level == decided
        np.testing.assert_array_equal(got.beams.nodes, expected.nodes)
        np.testing.assert_allclose(got.beams.scores, expected.scores, rtol=0, atol=1e-9)
        if selection.perturbs:
            np.testing.assert_allclose(got.beams.ranks, expected.ranks, rtol=0, atol=1e-9)
