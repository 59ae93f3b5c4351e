"""Breaks the fast path on purpose and tells which suites notice.

    python -m tests.exactness.mutations [NAME ...]

Each mutation is applied to a copy of the packages; the whole-search suites and the suites of parts
(filters, levels, drafts) run on it until the first failure.  A mutation that nothing notices is a
gap in the tests.  All of them take half an hour, so they are no part of the test run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUITES = {
    "searches": ("test_ties.py", "test_reference.py", "test_variants.py"),
    "parts": (
        "test_filters.py",
        "test_expansion.py",
        "test_reporting.py",
        "../unit/decoding/test_select.py",
    ),
}


@dataclass(frozen=True)
class Mutation:
    """One mistake: `old` becomes `new` in one file of the package."""

    name: str
    file: str
    old: str
    new: str


MUTATIONS = (
    # ---- the forward pass
    Mutation(
        "mask: every row sees every row",
        "engine/decoder.py",
        "masked_fill_(sees.logical_not(), -torch.inf)",
        "masked_fill_(torch.zeros_like(sees), -torch.inf)",
    ),
    Mutation(
        "mask: a row does not see its ancestors",
        "engine/rows.py",
        "visible[row:end] = visible[self._find(level - 1, parents)]",
        "pass",
    ),
    Mutation(
        "positions: one too far",
        "engine/row_scorer.py",
        "positions = new.levels + (prompt - 1)",
        "positions = new.levels + prompt",
    ),
    Mutation(
        "positions: by row instead of by level",
        "engine/row_scorer.py",
        "positions = new.levels + (prompt - 1)",
        "positions = np.arange(len(new)) + prompt",
    ),
    Mutation(
        "grouped heads: folded the wrong way round",
        "engine/decoder.py",
        "folded = query.transpose(0, 1).reshape(1, groups, -1, dim)",
        "folded = query.transpose(0, 1).reshape(heads // groups, groups, rows, dim)"
        ".transpose(0, 1).reshape(1, groups, -1, dim)",
    ),
    Mutation(
        "compaction: bookkeeping only, keys stay where they were",
        "engine/row_scorer.py",
        "self._runner.pool.compact(self._leased(), self._prompt_tokens, rows)",
        "pass",
    ),
    Mutation(
        "compaction: keys one place off",
        "engine/kv_pool.py",
        "upload(rows + prompt_tokens, data.device)",
        "upload(rows + prompt_tokens - 1, data.device)",
    ),
    Mutation(
        "compaction: old row numbers kept",
        "engine/rows.py",
        "(nodes[stays], new_number[old[stays]])",
        "(nodes[stays], old[stays])",
    ),
    # ---- prompt and tree in one pass
    Mutation(
        "with the prompt: every row sees every row",
        "engine/runner.py",
        "self._mask(sees, before)",
        "self._mask(np.ones_like(sees), before)",
    ),
    Mutation(
        "with the prompt: rows see its last token only",
        "engine/runner.py",
        "self._mask(sees, before)",
        "self._mask(sees, before).index_fill(3, torch.arange(before - 1), -torch.inf)",
    ),
    Mutation(
        "with the prompt: rows one position too far",
        "engine/row_scorer.py",
        "positions = new.levels + (len(prompt) - 1)",
        "positions = new.levels + len(prompt)",
    ),
    Mutation(
        "with the prompt: the root scored at the prompt's first token",
        "engine/runner.py",
        "return hidden[before - 1 :]",
        "return torch.cat([hidden[:1], hidden[before:]])",
    ),
    Mutation(
        "with the prompt: its tokens see each other both ways",
        "engine/decoder.py",
        "attend(queries[:prompt], held[:, :, :prompt], None, shape.scale)",
        "attend(queries[:prompt], held[:, :, :prompt], "
        "torch.zeros((1, 1, 1, 1), dtype=qk.dtype), shape.scale)",
    ),
    Mutation(
        "with the prompt: rows are not limited",
        "engine/session.py",
        "self._widen(resolved, max_rows, complete=tree.complete)",
        "self._widen(resolved, 10**6, complete=tree.complete)",
    ),
    Mutation(
        "with the prompt: the tree is left out",
        "engine/session.py",
        "levels = self._widen(resolved, max_rows, complete=tree.complete)",
        "levels = {}",
    ),
    # ---- reports
    Mutation(
        "reports: parents numbered by rank",
        "decoding/reporting.py",
        "above = count + np.argsort(best[:width])",
        "above = count + np.arange(len(best[:width]))",
    ),
    Mutation(
        "reports: ties to the larger path",
        "decoding/reporting.py",
        'best = np.argsort(-found.scores, kind="stable")',
        'best = np.argsort(found.scores, kind="stable")[::-1]',
    ),
    Mutation(
        "reports on the device: dead beams are counted",
        "decoding/device_expansion.py",
        "told = place[parent], child,",
        "told = parent, child,",
    ),
    Mutation(
        "reports on the host: cumulative scores told as steps",
        "decoding/host_expansion.py",
        "candidates[best], logprobs.ravel()[best])",
        "candidates[best], candidates[best])",
    ),
    Mutation(
        "reports: the last level too",
        "decoding/host_expansion.py",
        "if report and level + 1 < self.depth:",
        "if report:",
    ),
    # ---- selection
    Mutation(
        "ties on the host: the larger path wins",
        "decoding/host_expansion.py",
        "equal = chosen[ranks[chosen] == threshold][: width - len(above)]",
        "equal = chosen[ranks[chosen] == threshold][len(above) - width :]",
    ),
    Mutation(
        "ties on the device: the larger path wins",
        "decoding/device_expansion.py",
        "equal.cumsum(0) <= missing",
        "equal.flip(0).cumsum(0).flip(0) <= missing",
    ),
    Mutation(
        "ties at the end: the larger path first",
        "catalog/ranking.py",
        "np.lexsort((leaves, -scores))",
        "np.lexsort((-leaves, -scores))",
    ),
    Mutation(
        "items of a leaf: the least popular first",
        "catalog/build.py",
        "(-int(counts[row]), item_ids[row])",
        "(int(counts[row]), item_ids[row])",
    ),
    Mutation(
        "beam on the host: one too narrow",
        "decoding/host_expansion.py",
        "chosen = select_top_host(candidates, width)",
        "chosen = select_top_host(candidates, max(1, width - 1))",
    ),
    Mutation(
        "beam on the device: one too wide",
        "decoding/device_expansion.py",
        "wanted = min(self.beam_width(level + 1, width), len(candidates))",
        "wanted = min(self.beam_width(level + 1, width + 1), len(candidates))",
    ),
    Mutation(
        "scores on the device: summed in single precision",
        "decoding/device_expansion.py",
        "scores[:, None] + logprobs.to(torch.float64)",
        "scores[:, None] + logprobs.float().to(torch.float64)",
    ),
    Mutation(
        "verification on the host: a missing row goes unnoticed",
        "decoding/host_expansion.py",
        "if rows[-1] >= len(level_nodes) or (level_nodes[rows] != nodes).any():",
        "if rows[-1] >= len(level_nodes):",
    ),
    Mutation(
        "verification on the device: a missing row goes unnoticed",
        "decoding/device_expansion.py",
        "complete = (known | torch.isneginf(scores)).all()",
        "complete = (known | torch.isneginf(scores)).any()",
    ),
    Mutation(
        "resume: scores in the order sent",
        "decoding/beams.py",
        "np.asarray(scores, np.float64)[order]",
        "np.asarray(scores, np.float64)",
    ),
    # ---- conventions
    Mutation(
        "TRIE on the host: the denominator counts children that are filtered out",
        "decoding/host_expansion.py",
        "torch.log_softmax(found, dim=-1).numpy()",
        "torch.log_softmax(scores.values.gather(1, columns).masked_fill("
        "torch.from_numpy(tokens < 0), -np.inf), dim=-1)"
        ".masked_fill_(torch.from_numpy(gone), -np.inf).numpy()",
    ),
    Mutation(
        "TRIE on the device: the denominator counts children that are filtered out",
        "decoding/device_expansion.py",
        "found = torch.log_softmax(found, dim=-1)",
        "found = torch.log_softmax(scores.values.gather(1, columns).masked_fill("
        "~self._children(level, self._tensor(nodes), None)[1], -torch.inf), dim=-1)",
    ),
    Mutation(
        "LEVEL: the denominator counts the codes in use",
        "decoding/scoring.py",
        "if self.codebooks is None:",
        "if True:",
    ),
    Mutation(
        "VOCAB in tiles: the last tile is left out",
        "engine/head.py",
        "range(0, len(self._weight), TILE)",
        "range(0, len(self._weight) - TILE, TILE)",
    ),
    Mutation(
        "head slices: those of the next level",
        "engine/head.py",
        "part = slices[level]",
        "part = slices[min(level + 1, len(slices) - 1)]",
    ),
    Mutation(
        "padding: scored by the model",
        "decoding/expansion.py",
        "self._has_free_nodes = self._forced_is_free or trie.has_padding",
        "self._has_free_nodes = self._forced_is_free",
    ),
    Mutation(
        "TRIE: steps without a choice cost a pass",
        "decoding/expansion.py",
        'self._forced_is_free = scoring.kind == "TRIE"',
        "self._forced_is_free = False",
    ),
    Mutation(
        "TRIE: a choice of two is free too",
        "decoding/free_nodes.py",
        "leaf_filter.alive_children(trie, level, nodes).sum(axis=1) > 1",
        "leaf_filter.alive_children(trie, level, nodes).sum(axis=1) > 2",
    ),
    Mutation(
        "VOCAB, LEVEL: steps without a choice are free",
        "decoding/expansion.py",
        "needs_row(self.trie, self.scoring.kind, level, nodes, allowed.leaf_filter)",
        'needs_row(self.trie, "TRIE", level, nodes, allowed.leaf_filter)',
    ),
    # ---- filters
    Mutation(
        "filter on the host: tags and age one node off",
        "catalog/leaf_filter.py",
        "counts[1:] > counts[:-1]",
        "np.roll(counts[1:] > counts[:-1], 1)",
    ),
    Mutation(
        "filter on the device: tags and age one leaf short",
        "decoding/device_expansion.py",
        "counts[leaves[index + 1]] > counts[leaves[index]]",
        "counts[(leaves[index + 1] - 1).clamp_(min=0)] > counts[leaves[index]]",
    ),
    Mutation(
        "filter: the last excluded child of a node survives",
        "catalog/leaf_filter.py",
        "begin, end = np.searchsorted(members, first), np.searchsorted(members, last)",
        "begin, end = np.searchsorted(members, first), np.searchsorted(members, last - 1)",
    ),
    Mutation(
        "filter: a node dies with one live child left",
        "catalog/leaf_filter.py",
        "gone = counts == allowed",
        "gone = counts >= np.maximum(allowed - 1, 1)",
    ),
    Mutation(
        "filter: a leaf dies with its first excluded item",
        "catalog/filters.py",
        "leaves[counts == sizes]",
        "leaves[counts >= 1]",
    ),
    Mutation(
        "filter: an item both allowed and excluded is returned",
        "catalog/filters.py",
        "allowed = np.setdiff1d(allowed, excluded, assume_unique=True)\n            if named",
        "if named",
    ),
    Mutation(
        "filter: only the last clause of tags counts",
        "catalog/filters.py",
        "passes &= one_of",
        "passes = one_of",
    ),
    Mutation(
        "freshness: rounded down",
        "catalog/filters.py",
        "-(-created_after_ms // FRESHNESS_BUCKET_MS)",
        "created_after_ms // FRESHNESS_BUCKET_MS",
    ),
    Mutation(
        "freshness: the hour itself is too old",
        "catalog/filters.py",
        "(known >= bucket)",
        "(known > bucket)",
    ),
    Mutation(
        "freshness: items of unknown age are fresh",
        "catalog/filters.py",
        "(known >= 0) & (known >= bucket)",
        "(known < 0) | (known >= bucket)",
    ),
    Mutation(
        "ranking: items of a live leaf are all returned",
        "catalog/ranking.py",
        "items, row = items[passes], row[passes]",
        "pass",
    ),
    # ---- drafting: the answer cannot change, what is accepted can
    Mutation(
        "drafting: the drafter's own beam is not reserved",
        "decoding/draft.py",
        "[:beam_width]\n    reserved = ",
        "[:0]\n    reserved = ",
    ),
    Mutation(
        "budget: drafted rows are not cut",
        "decoding/tree.py",
        "affordable = np.cumsum(costs) <= max(budget, 0)",
        "affordable = np.cumsum(costs) >= 0",
    ),
)


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
        engine = mutation is not None and mutation.file.startswith("engine/")
        return {
            group: run_suites(copy, files)
            for group, files in SUITES.items()
            # No model is run for the parts.
            if not (engine and group == "parts")
        }


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
