"""Sessions that draw items, over the wire: the same seed gives the same items in every flow."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import pytest

from draft_service.app import start_app as start_draft_app
from draft_service.settings import DraftSettings
from specbeam.decoding.beams import Beams
from specbeam.decoding.noise import gumbels, prefix_keys
from specbeam.decoding.scoring import Scoring
from specbeam.decoding.selection import Selection
from specbeam.engine import ModelRunner, RunnerConfig, SearchModel
from specbeam.engine.search import SearchSpec, draft_levels, plain_search
from specbeam.runtime.channel import create_channel
from specbeam.runtime.session_search import from_selection
from specbeam.target.v1alpha1 import session_pb2
from specbeam.target.v1alpha1 import target_service_pb2 as pb
from target_service.app import start_app
from target_service.settings import TargetSettings
from tests.bundles import exact_norms, random_prompt, tiny_bundle
from tests.sessions import (
    draft_open,
    draft_session,
    failure_of,
    open_message,
    plain,
    propose,
    target_session,
    to_end,
    tree,
)

WIDTH = 6
TRIE = session_pb2.SCORE_KIND_TRIE
WARM = Selection("GUMBEL", seed=2**64 - 3, temperature=1.4, top_k=20)
GUMBEL = Selection("GUMBEL", seed=7)
RELAXED = Selection("RELAXED", seed=7)


@pytest.fixture(scope="module", params=["VOCAB", "TRIE"])
def bundle(request):
    return tiny_bundle(score_kind=request.param)


@pytest.fixture(scope="module", autouse=True)
def fp64_norms():
    with exact_norms():
        yield


@pytest.fixture(scope="module")
async def channel(bundle, tmp_path_factory, fp64_norms):
    settings = TargetSettings(
        bundle=bundle.path,
        port=0,
        dtype="fp64",
        threads=1,
        slots=2,
        max_rows=64,
        max_beam_width=32,
        warm_up_s=0.1,
        cache_dir=tmp_path_factory.mktemp("costs"),
        grace_s=0.2,
    )
    app = await start_app(settings)
    async with create_channel(f"127.0.0.1:{app.port}") as channel:
        yield channel
    await app.stop()


def model_of(bundle: Any, directory: Any) -> SearchModel:
    config = RunnerConfig(
        dtype="fp64", slots=1, max_prompt_tokens=bundle.max_prompt_tokens, max_rows=256
    )
    return SearchModel.of(ModelRunner.load(directory, config), bundle.trie, Scoring("TRIE"))


@pytest.fixture(scope="module")
def target(bundle, fp64_norms):
    return model_of(bundle, bundle.target_dir)


def opening(bundle: Any, prompt: Any, selection: Selection, **other: Any) -> pb.VerifyRequest:
    search = {"selection": from_selection(selection)}
    return open_message(bundle, prompt, WIDTH, filters=search, **{"score_kind": TRIE, **other})


async def refused(open_session: Any, channel: Any, message: Any) -> None:
    """Open a session that must not be opened."""
    async with open_session(channel) as session:
        await session.say(message)


def assert_same(answer: pb.VerifyResponse, want: Beams, trie: Any) -> None:
    assert answer.beams.level == want.level
    assert list(answer.beams.tokens) == want.paths(trie).ravel().tolist()
    np.testing.assert_allclose(answer.beams.scores, want.scores, rtol=0, atol=1e-9)
    np.testing.assert_allclose(answer.beams.rank_values, want.ranks, rtol=0, atol=1e-9)


@pytest.mark.parametrize("selection", [GUMBEL, WARM])
async def test_one_seed_gives_one_answer_in_every_flow(channel, bundle, target, selection) -> None:
    prompt = random_prompt(bundle, np.random.default_rng(1))
    want = plain_search(target, SearchSpec(prompt, WIDTH, selection=selection)).beams
    depth = bundle.trie.depth
    async with target_session(channel) as session:
        first = await session.say(opening(bundle, prompt, selection))
        assert first.beams.level == 1
        assert len(first.beams.rank_values) == len(first.beams.scores)
        assert_same(await session.say(plain(1, depth)), want, bundle.trie)
    async with target_session(channel) as session:
        await session.say(opening(bundle, prompt, selection))
        assert_same(await session.say(to_end(1)), want, bundle.trie)
    async with target_session(channel) as session:
        # A tree beside the prompt, which cannot matter; then one full of nonsense.
        drafted = session_pb2.CandidateTree(base_level=0, parents=[0, 0], tokens=[3, 5])
        answer = await session.say(opening(bundle, prompt, selection, tree=drafted))
        level = answer.beams.level
        answer = await session.say(tree(level, [0, 1, 99], [4, 5, 6]))
        if not answer.finished:
            answer = await session.say(to_end(answer.beams.level))
        assert_same(answer, want, bundle.trie)
    async with target_session(channel) as session:
        resumed = opening(bundle, prompt, selection, resume=first.beams)
        await session.say(resumed)
        assert_same(await session.say(to_end(1)), want, bundle.trie)


async def test_the_root_brings_the_noise_that_makes_ranks_a_law(channel, bundle, target) -> None:
    """The best beam ranks as the root does: a Gumbel number of the seed alone."""
    prompt = random_prompt(bundle, np.random.default_rng(2))
    root = gumbels(prefix_keys(GUMBEL.seed, np.zeros((1, 0), np.int64)))[0]
    async with target_session(channel) as session:
        answer = await session.say(opening(bundle, prompt, GUMBEL))
        assert max(answer.beams.rank_values) == root
        answer = await session.say(to_end(1))
        assert max(answer.beams.rank_values) == root


async def test_relaxed_sessions_answer_with_scores_and_are_reproducible(channel, bundle) -> None:
    prompt = random_prompt(bundle, np.random.default_rng(3))
    answers = []
    for seed in (7, 7, 8):
        async with target_session(channel) as session:
            await session.say(opening(bundle, prompt, Selection("RELAXED", seed=seed)))
            answers.append(await session.say(to_end(1)))
    assert answers[0].beams == answers[1].beams
    assert answers[0].beams != answers[2].beams
    assert not answers[0].beams.rank_values
    assert answers[0].finished


async def test_a_law_that_does_not_fit_is_no_law(channel, bundle) -> None:
    """Whatever comes as child scores, the session goes on without them."""
    prompt = random_prompt(bundle, np.random.default_rng(4))
    for law in ([0.0], [float("nan")] * 7, [1.0] * 5000):
        async with target_session(channel) as session:
            first = await session.say(opening(bundle, prompt, RELAXED))
            token = int(first.beams.tokens[0])
            drafted = session_pb2.CandidateTree(
                base_level=1, parents=[0], tokens=[token], child_scores=law
            )
            advance = pb.VerifyRequest(advance=pb.Advance(base_level=1, tree=drafted))
            answer = await session.say(advance)
            assert answer.beams.level >= 2
            assert len(answer.beams.scores) == WIDTH


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"temperature": -0.5}, "open.search.selection.temperature"),
        ({"temperature": 100.5}, "open.search.selection.temperature"),
        ({"temperature": float("nan")}, "open.search.selection.temperature"),
        ({"rule": 9}, "open.search.selection.rule"),
        ({"rule": 1, "top_k": 3}, "open.search.selection.top_k"),
        ({"rule": 0, "temperature": 2.0}, "open.search.selection.temperature"),
    ],
)
async def test_impossible_selections_are_refused_by_name(channel, bundle, changes, field) -> None:
    asked = session_pb2.Selection(**{"rule": session_pb2.SELECTION_RULE_GUMBEL, **changes})
    message = open_message(bundle, [1, 4, 5], WIDTH, filters={"selection": asked}, score_kind=TRIE)
    failure = await failure_of(refused(target_session, channel, message))
    assert failure.code.name == "INVALID_ARGUMENT"
    assert [violation.field for violation in failure.violations] == [field]


async def test_ranks_of_beams_to_resume_are_required(channel, bundle) -> None:
    trie = bundle.trie
    path = trie.node_paths(1, np.array([0]))[0].tolist()
    for ranks, field in (([], "rank_values"), ([1.0, 2.0], "rank_values")):
        beams = session_pb2.Beams(level=1, tokens=path, scores=[-1.0], rank_values=ranks)
        message = opening(bundle, [1, 4, 5], GUMBEL, resume=beams)
        failure = await failure_of(refused(target_session, channel, message))
        assert [v.field for v in failure.violations] == [f"open.resume.{field}"]


async def test_scores_must_be_a_law_over_items_to_draw(channel, bundle) -> None:
    kind = bundle.manifest.score_kind
    cases = [(GUMBEL, session_pb2.SCORE_KIND_VOCAB), (RELAXED, session_pb2.SCORE_KIND_LEVEL)]
    if kind == "VOCAB":
        cases.append((Selection(), TRIE))
    for selection, score_kind in cases:
        message = opening(bundle, [1, 4, 5], selection, score_kind=score_kind)
        failure = await failure_of(refused(target_session, channel, message))
        assert failure.code.name == "FAILED_PRECONDITION"
        assert failure.metadata["differing"] == "score_kind"


@pytest.fixture(scope="module")
async def draft_channel(bundle, tmp_path_factory, fp64_norms):
    settings = DraftSettings(
        bundle=bundle.path,
        port=0,
        dtype="fp64",
        slots=2,
        max_beam_width=32,
        warm_up_s=0.1,
        cache_dir=tmp_path_factory.mktemp("draft-costs"),
        grace_s=0.2,
    )
    app = await start_draft_app(settings)
    async with create_channel(f"127.0.0.1:{app.port}") as channel:
        yield channel
    await app.stop()


@pytest.mark.parametrize("selection", [GUMBEL, WARM, RELAXED])
async def test_the_drafter_ranks_with_the_target_s_noise(
    draft_channel, bundle, target, selection
) -> None:
    prompt = random_prompt(bundle, np.random.default_rng(5))
    search = SearchSpec(prompt, WIDTH, selection=selection)
    with closing(search.session(target)) as session:
        beams = session.open(prompt).beams
    message = session_pb2.Beams(
        level=1,
        tokens=beams.paths(bundle.trie).ravel().tolist(),
        scores=beams.scores,
        rank_values=beams.ranks,
    )
    with closing(search.drafting(model_of(bundle, bundle.drafter_dir("default")))) as drafting:
        drafting.open(prompt)
        want = draft_levels(drafting, beams, 2, 15)
    asked = {"selection": from_selection(selection)}
    async with draft_session(draft_channel) as session:
        await session.say(draft_open(bundle, prompt, WIDTH, filters=asked, score_kind=TRIE))
        levels = await session.levels(propose(message, 2, 15))
    assert [p for level in levels for p in level.parents] == want.parents.tolist()
    assert [t for level in levels for t in level.tokens] == want.tokens.tolist()
    np.testing.assert_allclose(
        [x for level in levels for x in level.logprobs], want.logprobs, rtol=0, atol=1e-6
    )


async def test_the_drafter_refuses_impossible_selections_too(draft_channel, bundle) -> None:
    asked = session_pb2.Selection(rule=session_pb2.SELECTION_RULE_GUMBEL, temperature=-1.0)
    message = draft_open(bundle, [1, 4], WIDTH, filters={"selection": asked}, score_kind=TRIE)
    failure = await failure_of(refused(draft_session, draft_channel, message))
    assert [v.field for v in failure.violations] == ["open.search.selection.temperature"]
