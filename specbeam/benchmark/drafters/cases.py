"""The requests of the drafter benchmark: held-out users, their exact answers, their pools."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from specbeam.benchmark.workload import prompt_of
from specbeam.bundle import Bundle
from specbeam.drafting.verified import VerifiedTree
from specbeam.engine import BeamSession, SearchModel

# Width and nodes per level of the searches whose trees fill the pool, as served by default.
POOL_WIDTH, POOL_NODES = 20, 64
POOL_OTHERS = 8

Progress = Callable[[str], None]


@dataclass(slots=True)
class DraftCase:
    """One request.

    Attributes:
        items: item indices of the history, oldest first.  Shape (n,).
        prompt: vocabulary ids.  Shape (T,).
        answers: exact leaves, best first, by K.
        pool: verified trees of earlier requests, the user's own first.
    """

    items: np.ndarray
    prompt: np.ndarray
    answers: dict[int, np.ndarray] = field(default_factory=dict)
    pool: tuple[VerifiedTree, ...] = ()


def make_cases(
    target: SearchModel,
    bundle: Bundle,
    histories: Sequence[np.ndarray],
    chosen: Sequence[int],
    progress: Progress,
    *,
    with_pool: bool,
) -> list[DraftCase]:
    """Return the cases of some users.

    The pool of a case is warm: the tree of the user's history without its last item (the previous
    visit), and the trees of up to eight other users at the moment when their history ended with the
    same item.

    Args:
        target: the target.
        bundle: its bundle.
        histories: item indices of every user, without the items that are predicted.
        chosen: users to make cases of.
        progress: called now and then.
        with_pool: search for the pools too.
    """
    visits = _visits(histories) if with_pool else {}
    cases = []
    for number, user in enumerate(chosen):
        items = histories[user]
        case = DraftCase(items, prompt_of(bundle, items))
        if with_pool:
            earlier = [items[:-1]] if len(items) > 1 else []
            others = [entry for entry in visits[int(items[-1])] if entry[0] != user]
            earlier += [histories[other][:end] for other, end in others[:POOL_OTHERS]]
            case.pool = tuple(verified_tree(target, prompt_of(bundle, past)) for past in earlier)
        cases.append(case)
        if (number + 1) % 100 == 0:
            progress(f"{number + 1} of {len(chosen)} users prepared")
    return cases


def verified_tree(target: SearchModel, prompt: np.ndarray) -> VerifiedTree:
    """Return what one request leaves in the pool."""
    with closing(BeamSession(target, POOL_WIDTH, report_nodes=POOL_NODES)) as session:
        turn = session.open(prompt)
        while not session.finished:
            turn = turn.then(session.plain_step())
    return VerifiedTree.join(target.expansion.trie, turn.scored)


def _visits(histories: Sequence[np.ndarray]) -> dict[int, list[tuple[int, int]]]:
    """Return by item who had it, and the length of the history that ended with it."""
    found: dict[int, list[tuple[int, int]]] = defaultdict(list)
    rng = np.random.default_rng(0)
    for user in rng.permutation(len(histories)).tolist():
        for place, item in enumerate(histories[user].tolist()):
            found[item].append((user, place + 1))
    return found
