"""Exact beams that were settled inside a turn, against dictionaries and sorted lists."""

from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pytest

from orchestrator.exact_levels import exact_levels, tree_paths
from orchestrator.ports import ROOT, BeamPaths, TargetTurn
from specbeam.catalog import PAD
from specbeam.decoding.beams import Beams
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.tree import CandidateTree
from specbeam.drafting.verified import VerifiedTree
from specbeam.engine import ModelRunner, RunnerConfig, SearchModel
from specbeam.engine.session import BeamSession
from specbeam.model_service.loading import scoring_of
from tests.bundles import tiny_bundle

Path = tuple[int, ...]


@dataclass
class Grown:
    """A random scored tree, and the same as a dictionary."""

    beams: BeamPaths
    tree: ScoredTree
    scores: dict[Path, float]


def _grow(seed: int, *, base: int, levels: int, count: int) -> Grown:
    rng = np.random.default_rng(seed)
    width = int(rng.integers(1, 5)) if base else 1
    paths = {tuple(rng.integers(0, 9, base).tolist()) for _ in range(width)}
    ordered = sorted(paths)
    tokens = np.array(ordered, np.int64).reshape(len(ordered), base)
    beams = BeamPaths(base, tokens, -rng.random(len(ordered)))
    nodes = list(zip(ordered, beams.scores.tolist(), strict=True))
    parents, added, logprobs, scores = [], [], [], {}
    first = 0
    for _ in range(levels):
        last = len(nodes)
        for _ in range(count):
            parent = int(rng.integers(first, last))
            path = (*nodes[parent][0], int(rng.integers(0, 30)))
            if path in scores:
                continue
            # Ties on purpose.
            logprob = -float(rng.integers(1, 8)) / 4
            parents.append(parent)
            added.append(path[-1])
            logprobs.append(logprob)
            scores[path] = nodes[parent][1] + logprob
            nodes.append((path, scores[path]))
        first = last
    tree = ScoredTree(
        base, np.array(parents, np.int64), np.array(added, np.int64), np.array(logprobs, np.float32)
    )
    return Grown(beams, tree, scores)


@pytest.mark.parametrize("seed", range(60))
def test_levels_are_the_first_reported_prefixes(seed: int) -> None:
    base, levels = seed % 3, 1 + seed % 4
    grown = _grow(seed, base=base, levels=levels, count=12)
    width = 1 + seed % 6
    reached = BeamPaths(base + levels + 1, np.zeros((1, base + levels + 1), np.int64), np.zeros(1))
    turn = TargetTurn(reached, False, scored=grown.tree)
    found = exact_levels(grown.beams, turn, width)
    assert list(found)[-1] == reached.level and found[reached.level] is reached
    for level in range(base + 1, reached.level):
        here = [(path, score) for path, score in grown.scores.items() if len(path) == level]
        want = dict(sorted(here[:width]))
        assert list(map(tuple, found[level].tokens.tolist())) == list(want)
        np.testing.assert_allclose(found[level].scores, list(want.values()), atol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_paths_and_scores_of_nodes(seed: int) -> None:
    grown = _grow(seed, base=seed % 2, levels=3, count=9)
    levels, paths = tree_paths(grown.beams, grown.tree)
    read = [tuple(path[:level]) for level, path in zip(levels, paths.tolist(), strict=True)]
    sums = grown.tree.cumulative(grown.beams.scores)
    assert dict(zip(read, sums, strict=True)) == pytest.approx(grown.scores)
    behind = [path[level:] for level, path in zip(levels, paths.tolist(), strict=True)]
    assert all(token == PAD for path in behind for token in path)


def test_nodes_without_a_sound_parent_have_no_level() -> None:
    tree = CandidateTree(0, np.array([0, 5, -1, 2]), np.array([7, 8, 9, 10]))
    levels, _ = tree_paths(ROOT, tree)
    assert levels.tolist() == [1, -1, -1, -1]


def test_unreported_levels_are_left_out() -> None:
    beams = BeamPaths(3, np.zeros((2, 3), np.int64), np.zeros(2))
    assert list(exact_levels(ROOT, TargetTurn(beams, False), 2)) == [3]
    # Resuming a session settles nothing.
    assert exact_levels(beams, TargetTurn(beams, False), 2) == {}
    other = ScoredTree(1, np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.float32))
    assert list(exact_levels(ROOT, TargetTurn(beams, False, scored=other), 2)) == [3]


@pytest.mark.parametrize("report", [8, 20, 48])
@pytest.mark.parametrize("score_kind", ["VOCAB", "TRIE"])
def test_best_nodes_are_what_fewer_would_have_been(report: int, score_kind: str) -> None:
    bundle = tiny_bundle(score_kind=score_kind)
    config = RunnerConfig("cpu", "fp64", 1, bundle.max_prompt_tokens, 1024)
    runner = ModelRunner.load(bundle.target_dir, config)
    model = SearchModel.of(runner, bundle.trie, scoring_of(bundle.manifest))
    prompt = bundle.template.render(bundle.trie.paths(np.array([3, 14, 15])))
    reported = [_reports(model, prompt, count) for count in (report, 1024)]
    assert len(reported[0]) == len(reported[1]) >= 3
    for (before, fewer), (_, more) in zip(*reported, strict=True):
        cut = more.best(before.scores, max(report, 8))
        want, found = (VerifiedTree.join(bundle.trie, [(before, t)]) for t in (fewer, cut))
        assert found.encode() == want.encode()


def _reports(model: SearchModel, prompt: np.ndarray, count: int) -> list[tuple[Beams, ScoredTree]]:
    found: list[tuple[Beams, ScoredTree]] = []
    with closing(BeamSession(model, 8, report_nodes=count)) as session:
        found += session.open(prompt).scored
        while not session.finished:
            found += session.plain_step().scored
    return found


@pytest.mark.parametrize("seed", range(20))
def test_trees_of_several_levels_stay_whole_when_they_are_cut(seed: int) -> None:
    grown = _grow(seed, base=seed % 2, levels=1, count=15)
    count = 1 + seed % 9
    cut = grown.tree.best(grown.beams.scores, count)
    levels, paths = tree_paths(grown.beams, cut)
    found = {tuple(path[:level]) for level, path in zip(levels, paths.tolist(), strict=True)}
    assert found == set(sorted(grown.scores, key=lambda p: -grown.scores[p])[:count])
