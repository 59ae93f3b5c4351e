"""Messages to domain values and back; every rule of the wire is checked here."""

from dataclasses import replace

import numpy as np

from specbeam import __version__
from specbeam.bundle import Manifest
from specbeam.catalog import ItemTrie
from specbeam.decoding.beams import Beams
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.selection import Selection
from specbeam.decoding.tree import CandidateTree
from specbeam.model_service.host import ModelHost
from specbeam.runtime.device_thread import JobResult
from specbeam.runtime.errors import FingerprintMismatch, Violation
from specbeam.runtime.session_header import (
    beam_paths,
    beam_ranks,
    beam_violations,
    check_bundle_name,
    header_violations,
    out_of_turn,
    prompt_violations,
    raise_if_any,
    to_array,
)
from specbeam.runtime.session_search import (
    filter_violations,
    selection_violations,
    to_leaf_spec,
    to_selection,
    width_violations,
)
from specbeam.runtime.session_tokens import decode_tokens, encode_tokens
from specbeam.target.v1alpha1 import session_pb2, target_service_pb2
from target_service.model import Limits, TargetModel
from target_service.session import (
    OwnDraft,
    PlainSteps,
    RunToEnd,
    SearchRequest,
    Step,
    TurnResult,
    VerifyTree,
)

# A tree many times the row limit cannot be of use; the rest is dropped unseen.
_MAX_TREE_NODES = 8192
# What is reported must fit one message.
_MAX_REPORTED_NODES = 4096
_TORCH_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp64": "float64"}


def score_kind(manifest: Manifest) -> session_pb2.ScoreKind.ValueType:
    """Return the bundle's score convention."""
    return session_pb2.ScoreKind.Value(f"SCORE_KIND_{manifest.score_kind}")


def fingerprints(manifest: Manifest) -> session_pb2.Fingerprints:
    """Return the bundle's content hashes."""
    prints = manifest.fingerprints
    return session_pb2.Fingerprints(
        model=prints.model, prompt=prints.prompt, catalog=prints.catalog
    )


def decode_open(request: target_service_pb2.VerifyRequest, model: TargetModel) -> SearchRequest:
    """Return what a session searches for.

    Raises:
        InvalidRequest: It is not an open, or breaks a rule; all of them are named.
        UnknownBundle: It asks for another bundle.
        FingerprintMismatch: It expects another model, prompt, catalogue or convention.
    """
    if request.WhichOneof("step") != "open":
        raise out_of_turn("step", "the first message must be open")
    return _decode_open(request.open, model)


def decode_search(request: target_service_pb2.SearchRequest, model: TargetModel) -> SearchRequest:
    """Return what a search in one call looks for, its step included.

    Raises:
        InvalidRequest: It breaks a rule.
        UnknownBundle: It asks for another bundle.
        FingerprintMismatch: It expects another model, prompt, catalogue or convention.
    """
    then = _decode_how(request.then, "then")
    if isinstance(then, VerifyTree):
        raise out_of_turn("then.tree", "needs a session")
    return replace(_decode_open(request.open, model), then=then)


def _decode_open(message: target_service_pb2.Open, model: TargetModel) -> SearchRequest:
    limits = model.limits
    prompt = to_array(message.prompt_tokens)
    found = header_violations(message.header) + selection_violations(message.search)
    if found:
        found += width_violations(message.search, max_beam_width=limits.max_beam_width)
        raise_if_any(found)
    selection = to_selection(message.search)
    _check_fingerprints(message.header, model.bundle.manifest, selection)
    found += prompt_violations(
        prompt, max_tokens=limits.max_prompt_tokens, vocab_size=model.bundle.manifest.vocab_size
    )
    found += width_violations(message.search, max_beam_width=limits.max_beam_width)
    trie = model.bundle.trie
    found += filter_violations(message.search, num_leaves=trie.num_leaves, tags=trie.tags)
    found += _open_violations(message)
    resume, problems = _decode_resume(message, trie, selection)
    raise_if_any(found + problems)
    return SearchRequest(
        prompt=prompt,
        beam_width=message.search.beam_width,
        max_rows=min(message.search.max_rows or limits.max_rows, limits.max_rows),
        leaves=to_leaf_spec(message.search),
        resume=resume,
        tree=_decode_tree(message.tree) if message.HasField("tree") else None,
        report_nodes=min(message.search.report_nodes, _MAX_REPORTED_NODES),
        own_draft=_decode_own_draft(message, limits),
        selection=selection,
    )


def _open_violations(message: target_service_pb2.Open) -> list[Violation]:
    found = []
    if message.HasField("tree") and message.HasField("resume"):
        found.append(Violation("open.tree", "cannot go with open.resume"))
    if message.HasField("own_draft") and not message.own_draft.levels:
        found.append(Violation("open.own_draft.levels", "must be at least 1"))
    return found


def _decode_own_draft(message: target_service_pb2.Open, limits: Limits) -> OwnDraft | None:
    if not message.HasField("own_draft"):
        return None
    asked, width = message.own_draft, message.search.beam_width
    # More nodes than a pass has rows cannot be of use.
    most = max(limits.max_rows, width)
    return OwnDraft(asked.levels, min(asked.max_nodes or width, most))


def decode_advance(request: target_service_pb2.VerifyRequest, level: int) -> Step:
    """Return how to move on.

    Args:
        request: As received.
        level: Level of the session's exact beams.

    Raises:
        InvalidRequest: It is not an advance, or one from beams that are not there yet.
    """
    if request.WhichOneof("step") != "advance":
        raise out_of_turn("step", "the session is open: only advance may follow")
    message = request.advance
    if message.base_level > level:
        text = f"is {message.base_level}; the exact beams are of level {level}"
        raise out_of_turn("advance.base_level", text)
    return Step(message.base_level, _decode_how(message, "advance"))


def _decode_how(
    message: target_service_pb2.Advance, field: str
) -> PlainSteps | RunToEnd | VerifyTree:
    how = message.WhichOneof("how")
    if how == "tree":
        return _decode_tree(message.tree)
    if how == "run_to_end":
        return RunToEnd()
    if how != "plain_steps":
        raise out_of_turn(f"{field}.how", "is required")
    if not message.plain_steps:
        raise out_of_turn(f"{field}.plain_steps", "must be at least 1")
    return PlainSteps(message.plain_steps)


def encode_turn(job: JobResult[TurnResult]) -> target_service_pb2.VerifyResponse:
    """Return the answer to one message of a session."""
    result = job.value
    turn = result.turn
    forward_ms = sum(end - start for start, end in result.forwards) / 1e6
    return target_service_pb2.VerifyResponse(
        beams=session_pb2.Beams(
            level=turn.beams.level,
            tokens=encode_tokens(result.paths),
            scores=turn.beams.scores.tolist(),
            rank_values=None if turn.beams.ranks is None else turn.beams.ranks.tolist(),
        ),
        finished=result.finished,
        stats=target_service_pb2.TurnStats(
            passes=turn.passes,
            rows=turn.rows,
            prompt_rows=turn.prompt_rows,
            accepted_levels=turn.accepted_levels,
            dropped_nodes=turn.dropped_nodes,
            queue_ms=job.queue_ms,
            forward_ms=forward_ms,
            select_ms=max(0.0, job.run_ms - forward_ms),
            forwards=[
                session_pb2.ForwardInterval(start_ns=start, end_ns=end)
                for start, end in result.forwards
            ],
        ),
        scored=None if result.scored is None else _encode_scored(result.scored),
        drafted=None if result.drafted is None else _encode_scored(result.drafted),
    )


def _encode_scored(tree: ScoredTree) -> session_pb2.ScoredTree:
    return session_pb2.ScoredTree(
        base_level=tree.base_level,
        parents=tree.parents.tolist(),
        tokens=encode_tokens(tree.tokens),
        logprobs=tree.logprobs.tolist(),
    )


def encode_info(host: ModelHost[TargetModel]) -> target_service_pb2.GetInfoResponse:
    """Return what is served, its limits and its costs."""
    model = host.model
    manifest, trie, config = model.bundle.manifest, model.bundle.trie, model.runner.config
    bundle = target_service_pb2.BundleInfo(
        name=manifest.name,
        fingerprints=fingerprints(manifest),
        score_kind=score_kind(manifest),
        item_length=trie.depth,
        num_items=trie.num_items,
        levels=[
            target_service_pb2.LevelInfo(
                nodes=level.num_nodes,
                mean_children=below.num_nodes / level.num_nodes,
                max_children=level.max_children,
            )
            for level, below in zip(trie.levels, trie.levels[1:], strict=False)
        ],
        own_drafter=model.own_drafter_name,
    )
    return target_service_pb2.GetInfoResponse(
        bundles=[bundle],
        slots=config.slots,
        slots_free=host.slots.gate.free,
        threads=host.threads,
        device=config.device,
        dtype=_TORCH_DTYPES[config.dtype],
        version=__version__,
        max_prompt_tokens=model.limits.max_prompt_tokens,
        max_rows=model.limits.max_rows,
        max_beam_width=model.limits.max_beam_width,
        costs=[
            target_service_pb2.CostPoint(rows=c.rows, prefix_tokens=c.prefix_tokens, ms=c.ms)
            for c in host.costs
        ],
    )


def _check_fingerprints(
    header: session_pb2.SessionHeader, manifest: Manifest, selection: Selection
) -> None:
    check_bundle_name(header.bundle, manifest.name)
    expected, ours = header.fingerprints, manifest.fingerprints
    names = ("model", "prompt", "catalog")
    differing = [name for name in names if getattr(expected, name) != getattr(ours, name)]
    # Items are drawn by a law over items, whatever the bundle's convention.
    wanted = session_pb2.SCORE_KIND_TRIE if selection.draws else score_kind(manifest)
    if header.score_kind != wanted:
        differing.append("score_kind")
    if differing:
        raise FingerprintMismatch(
            f"the session expects another {', '.join(differing)}",
            metadata={"differing": ",".join(differing)},
        )


def _decode_resume(
    message: target_service_pb2.Open, trie: ItemTrie, selection: Selection
) -> tuple[Beams | None, list[Violation]]:
    field = "open.resume"
    if not message.HasField("resume"):
        return None, []
    beams = message.resume
    problems = beam_violations(beams, depth=trie.depth, field=field)
    if len(beams.scores) > message.search.beam_width:
        problems.append(Violation(f"{field}.scores", "holds more beams than the search keeps"))
    if selection.perturbs and beams.level and not beams.rank_values:
        problems.append(Violation(f"{field}.rank_values", "is required with this selection"))
    if problems:
        return None, problems
    paths, scores = beam_paths(beams)
    try:
        return Beams.from_paths(trie, paths, scores, beam_ranks(beams)), []
    except ValueError as error:
        return None, [Violation(f"{field}.tokens", str(error))]


def _decode_tree(message: session_pb2.CandidateTree) -> VerifyTree:
    """Return the tree; a tail without its other half is dropped and counted."""
    parents, tokens = to_array(message.parents), decode_tokens(message.tokens)
    kept = min(len(parents), len(tokens), _MAX_TREE_NODES)
    cut = max(len(parents), len(tokens)) - kept
    law = None
    if message.child_scores and not cut:
        law = np.fromiter(message.child_scores, np.float32, len(message.child_scores))
    tree = CandidateTree(message.base_level, parents[:kept], tokens[:kept], message.complete, law)
    return VerifyTree(tree, cut=cut)
