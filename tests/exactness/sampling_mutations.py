"""Deliberate mistakes in how items are drawn: noise, keys, laws, the two rules that use them."""

from __future__ import annotations

from tests.exactness.mutation import Mutation

SAMPLING_MUTATIONS = (
    # ---- noise and its keys
    Mutation(
        "noise: keyed by the last token, whatever its prefix",
        "decoding/noise.py",
        "return _mixed(keys[:, None] + steps",
        "return _mixed(0 * keys[:, None] + steps",
    ),
    Mutation(
        "noise: keyed by the row of a pass instead of the prefix",
        "decoding/ruled_walk.py",
        "keys = prefix_keys(self.selection.seed, beams.paths(trie))",
        "keys = prefix_keys(self.selection.seed, np.arange(len(nodes))[:, None])",
    ),
    Mutation(
        "noise: new for every pass",
        "decoding/ruled_walk.py",
        "keys = prefix_keys(self.selection.seed, beams.paths(trie))",
        "keys = prefix_keys(self.selection.seed + level, beams.paths(trie))",
    ),
    Mutation(
        "noise: acceptance from the stream that drew the draft",
        "decoding/rules/__init__.py",
        'acceptance="accept"',
        'acceptance="draft"',
    ),
    Mutation(
        "noise on the device: shifts drag the sign along",
        "decoding/torch_noise.py",
        "return (values >> bits) & ((1 << (64 - bits)) - 1)",
        "return values >> bits",
    ),
    # ---- stochastic beam search
    Mutation(
        "ranks: fresh noise on cumulative scores",
        "decoding/rules/gumbel.py",
        "ranks = conditional_ranks(continuations.parent_ranks, scores, noise.gumbels).ravel()",
        "ranks = (scores + noise.gumbels).ravel()",
    ),
    Mutation(
        "ranks: only the best child is moved to its parent's",
        "decoding/noise.py",
        "ranks: np.ndarray = wanted - np.maximum(lag, 0.0) - np.log1p(np.exp(-np.abs(lag)))",
        "ranks: np.ndarray = np.minimum(free, wanted)",
    ),
    Mutation(
        "ranks: moved by a difference of ranks, not of times",
        "decoding/noise.py",
        "ranks: np.ndarray = wanted - np.maximum(lag, 0.0) - np.log1p(np.exp(-np.abs(lag)))",
        "ranks: np.ndarray = wanted + free - largest[:, None]",
    ),
    Mutation(
        "ranks: the root has no noise",
        "decoding/beams.py",
        "if selection is not None and selection.perturbs:",
        "if selection is not None and selection.perturbs and selection.seed < 0:",
    ),
    Mutation(
        "ranks: told without noise",
        "decoding/ruled_walk.py",
        "kept = ranks if self.selection.perturbs else None",
        "kept = scores if self.selection.perturbs else None",
    ),
    Mutation(
        "ranks: resumed in the order sent",
        "decoding/beams.py",
        "np.asarray(ranks, np.float64)[order]",
        "np.asarray(ranks, np.float64)",
    ),
    Mutation(
        "ranks on the device: keys stay with the places",
        "decoding/device_expansion.py",
        "keys = keys.reshape(-1)[chosen]",
        "keys = keys.reshape(-1)[: len(chosen)]",
    ),
    Mutation(
        "ties of drawn beams: the larger path wins",
        "decoding/rules/choice.py",
        'np.argsort(-values[chosen], kind="stable")[:count]',
        "np.lexsort((-chosen, -values[chosen]))[:count]",
    ),
    # ---- laws of children
    Mutation(
        "temperature: on scores that are summed up already",
        "decoding/ruled_walk.py",
        "known[0] + scores[:, None],",
        "(known[0] + scores[:, None]) / self.selection.temperature,",
    ),
    Mutation(
        "temperature: left out where it is not 1",
        "decoding/torch_laws.py",
        "/ max(selection.temperature, COLDEST)",
        "/ 1.0",
    ),
    Mutation(
        "top-k: ties to the larger token",
        "decoding/torch_laws.py",
        "(equal & (equal.cumsum(1) <= missing))",
        "(equal & (equal.flip(1).cumsum(1).flip(1) <= missing))",
    ),
    Mutation(
        "top-k: what is left is not normalised",
        "decoding/host_expansion.py",
        "found = shaped_logits(found, allowed.selection)",
        "return ScoredLevel(nodes, shaped_logits(torch.log_softmax(found, -1), allowed.selection)"
        ".masked_fill_(torch.from_numpy(gone), -np.inf).numpy())",
    ),
    Mutation(
        "top-k: counts children that are filtered out",
        "decoding/host_expansion.py",
        "found = shaped_logits(found, allowed.selection)",
        "found = shaped_logits(scores.values.gather(1, columns).masked_fill("
        "torch.from_numpy(tokens < 0), -np.inf), allowed.selection)"
        ".masked_fill_(torch.from_numpy(gone), -np.inf)",
    ),
    # ---- relaxed verification
    Mutation(
        "relaxed: the accepted are kept by the numbers that accepted them",
        "decoding/rules/relaxed.py",
        "np.argsort(noise.keeping.ravel()[accepted]",
        "np.argsort(noise.acceptance.ravel()[accepted]",
    ),
    Mutation(
        "relaxed: the best of the accepted are kept",
        "decoding/rules/relaxed.py",
        "np.argsort(noise.keeping.ravel()[accepted]",
        "np.argsort(-scores[accepted]",
    ),
    Mutation(
        "relaxed: a repaired level goes on",
        "decoding/rules/relaxed.py",
        "np.sort(np.concatenate([accepted, drawn])), go_on=False",
        "np.sort(np.concatenate([accepted, drawn]))",
    ),
    Mutation(
        "relaxed: the draft's law over children of the beams only",
        "decoding/draft_laws.py",
        "logprobs = np.where(known[:, None], self.logprobs[place], -np.inf)",
        "logprobs = np.where(known[:, None], self.logprobs[place], -np.inf)\n"
        "        logprobs -= np.logaddexp.reduce(logprobs, axis=None)",
    ),
    Mutation(
        "relaxed: every child of a drafted parent counts as drawn",
        "decoding/draft_laws.py",
        "np.isin(children, self.drawn) & (logprobs > -np.inf)",
        "logprobs > -np.inf",
    ),
)
