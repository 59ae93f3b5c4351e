"""What the table is measured on: models, requests with their pools, and what passes cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from specbeam.benchmark.drafters.cases import DraftCase, Progress, make_cases
from specbeam.benchmark.drafters.models import DraftModels
from specbeam.benchmark.pareto.bench import ParetoSpec
from specbeam.bundle import Bundle
from specbeam.decoding.costs import CostTable
from specbeam.engine.cost import measure_costs

_COSTS_S = 20


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that a measurement needs.

    Attributes:
        models: the target and its drafters.
        learned: requests to learn from: other users, without their last item.
        cases: requests that are measured.
        table: what passes of the target cost.
    """

    models: DraftModels
    learned: list[DraftCase]
    cases: list[DraftCase]
    table: CostTable


def prepare(
    bundle: Bundle,
    pools: Bundle,
    histories: Sequence[np.ndarray],
    spec: ParetoSpec,
    users: int,
    warm: int,
    progress: Progress,
) -> Prepared:
    """Load the models, choose users, fill their pools and measure passes.

    Args:
        bundle: what is measured.
        pools: the same catalogue and function with a target that is quicker to fill pools with.
        histories: of all users, at least two items each.
        spec: what is measured.
        users: how many are measured.
        warm: how many others are learned from.
        progress: called now and then.

    Raises:
        ValueError: no pass could be measured.
    """
    most = max(spec.rows)
    models = DraftModels.load(bundle, threads=spec.threads, dtype=spec.dtype, max_rows=most)
    target = models.target
    if pools is not bundle:
        target = DraftModels.load(pools, threads=spec.threads, dtype="fp32", max_rows=most).target
    order = np.random.default_rng(spec.seed).permutation(len(histories)).tolist()
    before = [history[:-1] for history in histories]
    cases = make_cases(target, pools, histories, order[:users], progress, with_pool=True)
    others = order[users : users + warm]
    learned = make_cases(target, pools, before, others, progress, with_pool=True)
    progress("measuring what passes cost")
    table = CostTable.from_points(
        measure_costs(models.target.runner, max_rows=most, budget_s=_COSTS_S)
    )
    if table is None:
        raise ValueError("no pass could be measured")
    return Prepared(models, learned, cases, table)
