"""Worlds to search in, and one search compared with the reference's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import LlamaForCausalLM

from specbeam.catalog import (
    FilterCompiler,
    ItemFilter,
    ItemTrie,
    LeafFilter,
    RankedItems,
    rank_items,
)
from specbeam.decoding.beams import Beams
from specbeam.decoding.device_expansion import DeviceExpansion
from specbeam.decoding.host_expansion import HostExpansion
from specbeam.decoding.reference import (
    PAD,
    Beam,
    Path,
    PlainFilter,
    ReferenceAnswer,
    ReferenceSpec,
    reference_beam_search,
)
from specbeam.decoding.scoring import Scoring
from specbeam.decoding.selection import BY_SCORE, Selection
from specbeam.decoding.shape import DraftShape
from specbeam.engine import (
    BeamSession,
    DraftSession,
    ModelRunner,
    SearchModel,
    SpeculationSpec,
    Turn,
)
from tests.exactness.catalogues import MAKERS, Catalogue
from tests.exactness.drafts import Proposer, drafting, lying, nothing
from tests.exactness.models import (
    FAMILIES,
    WholePrefixes,
    add_bias,
    coarsen,
    noisy_copy,
    random_model,
    runner_of,
)
from tests.exactness.plain_noise import plain_sampling
from tests.exactness.requests import Prompt, Request, random_prompt, random_request
from tests.exactness.unions import UNIONS, Asked, united

CONVENTIONS = ("VOCAB", "LEVEL", "TRIE")
PLACES = ("host", "device")
# Ways to search: without drafts, or with one of these drafters.
WAYS = ("plain", "same", "noisy", "unrelated", "stale", "empty", "lying", *UNIONS)
# Whether the first tree is drafted from the exact level 1, or goes with the prompt.
FLOWS = ("root-first", "one-pass")
KV_HEADS = (1, 2, 4)  # of 4 heads
PROMPTS = 3
# How far apart two fp64 scores of one item may be: summation order, over up to 40 levels.
SCORE_TOLERANCE = 1e-9
# Reported log-probabilities are rounded to fp32; none here is below -100.
REPORT_TOLERANCE = 1e-5


@dataclass
class World:
    """A model with its catalogue: the expensive part, shared by many cases."""

    catalogue: Catalogue
    model: LlamaForCausalLM
    law: WholePrefixes
    prompts: list[Prompt]
    trie: ItemTrie
    compiler: FilterCompiler
    models: dict[str, LlamaForCausalLM]
    runners: dict[str, ModelRunner]
    _models: dict[tuple[str, str, str], SearchModel] = field(default_factory=dict)

    @classmethod
    def make(cls, number: int, *, grid: float = 0.0, dtype: torch.dtype = torch.float64) -> World:
        """World `number`: every catalogue maker in turn, families and heads against each other.

        A `grid` rounds the logits, which makes exact ties common.
        """
        rng = np.random.default_rng([number, 17])
        catalogue = MAKERS[number % len(MAKERS)](rng)
        # Another pairing of catalogue, family and key-value heads in every round of makers.
        turn = number // len(MAKERS) + number
        model = random_model(
            number,
            catalogue.vocab_size,
            layers=1 + number % 3,
            kv_heads=KV_HEADS[turn // len(FAMILIES) % len(KV_HEADS)],
            dtype=dtype,
            family=sorted(FAMILIES)[turn % len(FAMILIES)],
        )
        if number % 5 == 2:
            add_bias(model, number)
        if grid:
            coarsen(model, grid)
        other = random_model(number + 1000, catalogue.vocab_size, 1, 1, dtype)
        # Every beam of a slot needs a row on every level.
        rows = max(700, 20 * catalogue.depth)
        models = {
            "target": model,
            "same": model,
            "noisy": noisy_copy(model, number + 1, 0.08),
            "unrelated": other,
        }
        runners = {who: runner_of(one, max_rows=rows) for who, one in models.items()}
        trie = catalogue.build_trie()
        prompts = [random_prompt(rng, catalogue) for _ in range(PROMPTS)]
        law = WholePrefixes(model)
        return cls(catalogue, model, law, prompts, trie, FilterCompiler(trie), models, runners)

    def search_model(self, who: str, convention: str, place: str) -> SearchModel:
        """The target or a drafter under a convention, selecting on the host or with torch."""
        key = (who, convention, place)
        if key not in self._models:
            books = self.catalogue.codebooks
            scoring = Scoring(convention, books and tuple(map(np.array, books)))
            expansion = (
                HostExpansion(self.trie, scoring)
                if place == "host"
                else DeviceExpansion(self.trie, scoring, torch.device("cpu"))
            )
            self._models[key] = SearchModel.open(self.runners[who], expansion)
        return self._models[key]

    def as_item_filter(self, plain: PlainFilter) -> ItemFilter:
        allowed = None if plain.allowed is None else self.trie.index_of(sorted(plain.allowed))
        return ItemFilter(
            self.trie.index_of(sorted(plain.excluded)),
            allowed,
            plain.required_tags,
            plain.created_after_ms,
        )


@dataclass(frozen=True)
class Case:
    """One request, and how it is searched."""

    world: World
    request: Request
    convention: str
    place: str
    way: str
    speculation: SpeculationSpec
    restarts: bool
    steps_plainly: bool  # now and then, between drafted turns
    flow: str = "root-first"
    report_nodes: int = 0
    selection: Selection = BY_SCORE

    @property
    def reference_spec(self) -> ReferenceSpec:
        request = self.request
        return ReferenceSpec(
            request.prompt.tokens,
            request.beam_width,
            request.num_items,
            self.convention,  # type: ignore[arg-type]
            self.world.catalogue.codebooks,
            request.item_filter,
            plain_sampling(self.selection),
        )

    def expected(self) -> ReferenceAnswer:
        """The reference's answer."""
        return reference_beam_search(
            self.world.catalogue.items, self.reference_spec, self.world.law
        )


@dataclass
class Outcome:
    """What a search went through and returned."""

    turns: list[Turn] = field(default_factory=list)
    restarted: bool = False
    ranked: RankedItems | None = None


def make_case(
    world: World,
    rng: np.random.Generator,
    kinds: frozenset[str] = frozenset(),
    convention: str = "VOCAB",
    way: str = "plain",
) -> Case:
    """A random request on `world` with filters of the given kinds."""
    prompt = world.prompts[int(rng.integers(len(world.prompts)))]
    request = random_request(rng, world.catalogue, prompt, kinds)
    width = request.beam_width
    shape = DraftShape(
        levels=int(rng.integers(0, world.trie.depth + 1)),
        max_nodes=int(rng.choice([1, width, 2 * width, 60])),
    )
    speculation = SpeculationSpec(
        max_rows=int(rng.choice([1, width, width + 8, 64, 128, 300])),
        shape=None if rng.random() < 0.2 else shape,
    )
    place = str(rng.choice(PLACES))
    restarts, steps_plainly = rng.random(2) < 0.2
    return Case(
        world,
        request,
        convention,
        place,
        way,
        speculation,
        bool(restarts),
        bool(steps_plainly),
        "root-first" if way == "plain" else str(rng.choice(FLOWS)),
        int(rng.choice([0, 1, width + 3, 1000])),
    )


def run_case(case: Case, rng: np.random.Generator) -> Outcome:
    """Search as the case says and rank the items found."""
    world, request = case.world, case.request
    wanted = world.as_item_filter(request.item_filter)
    leaf_filter = world.compiler.compile(world.compiler.resolve(wanted))
    found = Outcome()
    with ExitStack() as stack:
        model = world.search_model("target", case.convention, case.place)
        propose = _proposer(case, leaf_filter, stack, rng)

        def session() -> BeamSession:
            opened = BeamSession(
                model, request.beam_width, leaf_filter, case.report_nodes, case.selection
            )
            return stack.enter_context(closing(opened))

        _search(case, session, propose, rng, found)
    assert all(runner.pool.free == runner.pool.slots for runner in world.runners.values())
    last = found.turns[-1].beams
    found.ranked = rank_items(
        world.trie,
        last.nodes,
        last.scores,
        request.num_items,
        lambda items: world.compiler.allowed(wanted, items),
        last.rank_values,
    )
    return found


def _proposer(
    case: Case, leaf_filter: LeafFilter | None, stack: ExitStack, rng: np.random.Generator
) -> Proposer | None:
    """Where this case's trees come from; None = there are none, only plain steps."""
    if case.way == "plain":
        return None
    if case.way == "empty":
        return nothing
    if case.way == "lying":
        return lying(rng, case.world.trie, case.world.catalogue.vocab_size)
    # A stale drafter knows nothing of the filter.
    name, its_filter = ("noisy", None) if case.way == "stale" else (case.way, leaf_filter)
    if case.way in UNIONS:
        name = "noisy"
    model = case.world.search_model(name, case.convention, case.place)
    width = case.request.beam_width
    drafter = stack.enter_context(closing(DraftSession(model, width, its_filter, case.selection)))
    prompt = np.array(case.request.prompt.tokens)
    drafter.open(prompt)
    if case.way in UNIONS:
        trie, kind = case.world.trie, case.convention
        asked = Asked(trie, kind, width, case.speculation, prompt, leaf_filter)
        target = case.world.search_model("target", kind, case.place)
        return united(case.way, asked, target, drafter, rng)
    return drafting(drafter, case.world.trie, case.speculation, width)


def _search(
    case: Case,
    open_session: Callable[[], BeamSession],
    propose: Proposer | None,
    rng: np.random.Generator,
    found: Outcome,
) -> None:
    """Advance turn by turn to the end."""
    prompt = np.array(case.request.prompt.tokens)
    session = open_session()
    if propose is not None and case.flow == "one-pass":
        max_rows = case.speculation.max_rows
        turn = session.open(prompt, tree=propose(session.beams), max_rows=max_rows)
        assert turn.rows <= max_rows
    else:
        turn = session.open(prompt)
    found.turns.append(turn)
    while not session.finished:
        before = session.beams
        if case.restarts and not found.restarted and rng.random() < 0.5:
            # As if the replica were lost: another one goes on from the last exact beams.
            session.close()
            session = open_session()
            paths, order = before.paths(case.world.trie), rng.permutation(len(before))
            ranks = None if before.ranks is None else before.ranks[order]
            scores = before.scores[order]
            resumed = Beams.from_paths(case.world.trie, paths[order], scores, ranks)
            found.turns.append(session.open(prompt, resumed))
            found.restarted = True
        if propose is None or (case.steps_plainly and rng.random() < 0.3):
            turn = session.plain_step()
        else:
            turn = session.advance(propose(session.beams), case.speculation.max_rows)
        assert turn.beams.level > before.level, "a turn must decide a level"
        # The beams' own rows are always run; on top come ancestors that have none yet.
        own = len(before)
        assert turn.rows <= max(case.speculation.max_rows, own) + own * (before.level - 1)
        found.turns.append(turn)


def compare(case: Case, rng: np.random.Generator) -> tuple[Outcome, ReferenceAnswer]:
    """Search both ways and insist on the same answer."""
    got, want = run_case(case, rng), case.expected()
    assert_equal(case, got, want)
    assert_cheap(case, got, want)
    return got, want


def assert_equal(case: Case, got: Outcome, want: ReferenceAnswer) -> None:
    """Items, order and paths identical, on the way as at the end; scores within fp64 noise."""
    trie, request = case.world.trie, case.request
    ids = [trie.item_id(int(item)) for item in got.ranked.items]
    assert ids == [item.item_id for item in want.items]
    assert set(ids) <= request.admitted, "an item violates the filter"
    paths = [_unpadded(path) for path in trie.leaf_paths(got.ranked.leaves).tolist()]
    assert paths == [item.path for item in want.items]
    _assert_close(got.ranked.scores, [item.score for item in want.items])
    _assert_close(got.ranked.rank_values, [item.rank for item in want.items])
    assert got.ranked.exhausted == (len(want.items) < request.num_items)
    for turn in got.turns:
        expected = sorted(
            want.candidates[turn.beams.level - 1][: request.beam_width],
            key=lambda beam: beam.path,
        )
        assert turn.beams.paths(trie).tolist() == [list(beam.path) for beam in expected]
        _assert_close(turn.beams.scores, [beam.score for beam in expected])
        _assert_close(turn.beams.rank_values, [beam.rank for beam in expected])
    assert_reported(case, got, want)


def assert_reported(case: Case, got: Outcome, want: ReferenceAnswer) -> None:
    """Every turn tells the best of the reference's candidates of each level it has passed."""
    trie, width = case.world.trie, case.request.beam_width
    count, before = max(case.report_nodes, width), 0
    for turn in got.turns:
        passed = range(before + 1, min(turn.beams.level, trie.depth - 1) + 1)
        base, before = before, turn.beams.level
        if not case.report_nodes or not passed:
            assert turn.scored == ()
            continue
        ((_, tree),) = turn.scored
        known: list[Path] = [()]
        if base:
            known = sorted(beam.path for beam in want.candidates[base - 1][:width])
        for parent, token in zip(tree.parents.tolist(), tree.tokens.tolist(), strict=True):
            known.append((*known[parent], token))
        told, logprobs = known[len(known) - len(tree) :], tree.logprobs.tolist()
        assert tree.base_level == base
        for level in passed:
            best = told_of(want.candidates[level - 1], width, count)
            score_of = {beam.path: beam.score for beam in want.candidates[level - 1]}
            above = {beam.path: beam.score for beam in want.candidates[level - 2]}
            paths, told = told[: len(best)], told[len(best) :]
            of_paths, logprobs = logprobs[: len(best)], logprobs[len(best) :]
            assert len(set(paths)) == len(best)
            # In the same order, up to scores that only noise tells apart.
            _assert_close([score_of[path] for path in paths], [beam.score for beam in best])
            steps = [score_of[p] - (above[p[:-1]] if level > 1 else 0.0) for p in paths]
            np.testing.assert_allclose(of_paths, steps, rtol=0, atol=REPORT_TOLERANCE)
        assert not told


def told_of(candidates: Sequence[Beam], width: int, count: int) -> list[Beam]:
    """What is reported of a level: its beams, then the others by score."""
    others = sorted(candidates[width:], key=lambda beam: (-beam.score, beam.path))
    return [*candidates[:width], *others][:count]


def assert_cheap(case: Case, got: Outcome, want: ReferenceAnswer) -> None:
    """No more passes than levels with an open choice; the prompt's pass is always run."""
    passes = sum(turn.passes for turn in got.turns) - got.restarted
    needed = 1 + sum(beams > 0 for beams in want.asked[1:])
    assert passes <= needed
    if case.way == "plain" and not got.restarted:
        assert passes == needed


def _unpadded(path: list[int]) -> tuple[int, ...]:
    return tuple(token for token in path if token != PAD)


def _assert_close(got: np.ndarray, want: Sequence[float]) -> None:
    np.testing.assert_allclose(got, want, rtol=0, atol=SCORE_TOLERANCE)
