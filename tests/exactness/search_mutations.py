"""Deliberate mistakes in the engine, in deciding levels by score, in filters and in drafting."""

from __future__ import annotations

from tests.exactness.mutation import Mutation

SEARCH_MUTATIONS = (
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
    Mutation(
        "mask: rows of one level see each other",
        "engine/rows.py",
        "visible[rows, rows] = True",
        "visible[np.ix_(rows, rows)] = True",
    ),
    Mutation(
        "mask: a row sees what any row of its level descends from, the rejected too",
        "engine/rows.py",
        "visible[row:end] = visible[self._find(level - 1, parents)]",
        "visible[row:end] = visible[self._find(level - 1, parents)].any(axis=0)",
    ),
    Mutation(
        "positions: counted from the pass's first level",
        "engine/row_scorer.py",
        "positions = new.levels + (prompt - 1)",
        "positions = new.levels - new.levels.min() + prompt",
    ),
    Mutation(
        "compaction: keys in the opposite order",
        "engine/kv_pool.py",
        "upload(rows + prompt_tokens, data.device)",
        "upload(rows[::-1] + prompt_tokens, data.device)",
    ),
    Mutation(
        "compaction: keys move, what rows see does not",
        "engine/rows.py",
        "self._visible = self._visible[np.ix_(rows, rows)]",
        "self._visible = self._visible[: len(rows), : len(rows)]",
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
        "return rows[before - 1 :]",
        "return torch.cat([rows[:1], rows[before:]])",
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
        "np.lexsort((leaves, -ranks))",
        "np.lexsort((-leaves, -ranks))",
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
        "complete = (known | torch.isneginf(here.scores)).all()",
        "complete = (known | torch.isneginf(here.scores)).any()",
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
        "decoding/device_catalogue.py",
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
        "self._has_free_nodes = self._forced_is_free or self.trie.has_padding",
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
        "decoding/device_catalogue.py",
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
        "filter: the first child of an allow list is lost",
        "catalog/leaf_filter.py",
        "_mark(kept, self.kept[level + 1], first, last, True)",
        "_mark(kept, self.kept[level + 1], first + 1, last, True)",
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
