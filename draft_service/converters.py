"""Messages to domain values and back; every rule of the wire is checked here."""

from draft_service.model import KIND, DraftModel
from draft_service.session import (
    DraftRequest,
    Forwards,
    LevelResult,
    Proposal,
    known_beams,
)
from specbeam import __version__
from specbeam.bundle import Fingerprints
from specbeam.catalog import LeafSpec
from specbeam.draft.v1alpha1 import draft_service_pb2
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
from specbeam.runtime.session_tokens import encode_tokens
from specbeam.target.v1alpha1 import session_pb2

_TORCH_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp64": "float64"}


def decode_open(request: draft_service_pb2.DraftRequest, model: DraftModel) -> DraftRequest:
    """Return what a session drafts for.

    Another prompt template is refused: the tokens would mean something else. So is another
    target model: this draft was trained for one. Another catalogue only costs acceptance; filters
    in terms of another catalogue are not used.

    Raises:
        InvalidRequest: It is not an open, or breaks a rule; all of them are named.
        UnknownBundle: It asks for another bundle.
        FingerprintMismatch: It belongs to another prompt template or target model.
    """
    if request.WhichOneof("step") != "open":
        raise out_of_turn("step", "the first message must be open")
    message, limits, manifest = request.open, model.limits, model.bundle.manifest
    prompt = to_array(message.prompt_tokens)
    found = header_violations(message.header) + selection_violations(message.search)
    if found:
        found += width_violations(message.search, max_beam_width=limits.max_beam_width)
        raise_if_any(found)
    check_bundle_name(message.header.bundle, manifest.name)
    _check_fingerprints(message.header.fingerprints, manifest.fingerprints)
    found += prompt_violations(
        prompt, max_tokens=limits.max_prompt_tokens, vocab_size=manifest.vocab_size
    )
    found += width_violations(message.search, max_beam_width=limits.max_beam_width)
    same_catalog = message.header.fingerprints.catalog == manifest.fingerprints.catalog
    trie = model.bundle.trie
    if same_catalog:
        found += filter_violations(message.search, num_leaves=trie.num_leaves, tags=trie.tags)
    raise_if_any(found)
    leaves = to_leaf_spec(message.search) if same_catalog else LeafSpec()
    return DraftRequest(prompt, message.search.beam_width, leaves, to_selection(message.search))


def _check_fingerprints(sent: session_pb2.Fingerprints, own: Fingerprints) -> None:
    pairs = {"model": (sent.model, own.model), "prompt": (sent.prompt, own.prompt)}
    differing = [name for name, (theirs, ours) in pairs.items() if theirs != ours]
    if differing:
        text = "this draft belongs to another target model or prompt template"
        raise FingerprintMismatch(text, metadata={"differing": ",".join(differing)})


def decode_propose(
    request: draft_service_pb2.DraftRequest, model: DraftModel, beam_width: int
) -> Proposal:
    """Return what to draft below.

    Args:
        request: As received.
        model: What it is checked against.
        beam_width: W of the session.

    Raises:
        InvalidRequest: It is not a proposal, or its beams have no possible shape.
    """
    if request.WhichOneof("step") != "propose":
        raise out_of_turn("step", "the session is open: only propose may follow")
    message = request.propose
    found = beam_violations(message.beams, depth=model.bundle.trie.depth, field="propose.beams")
    if not message.levels:
        found.append(Violation("propose.levels", "must be at least 1"))
    if len(message.beams.scores) > beam_width:
        text = f"holds {len(message.beams.scores)} beams; the search keeps {beam_width}"
        found.append(Violation("propose.beams.scores", text))
    raise_if_any(found)
    beams, numbers = known_beams(
        model.bundle.trie, *beam_paths(message.beams), beam_ranks(message.beams)
    )
    return Proposal(
        beams=beams,
        numbers=numbers,
        count=len(message.beams.scores),
        levels=min(message.levels, model.bundle.trie.depth),
        max_nodes=min(message.max_nodes or beam_width, model.limits.max_nodes),
    )


def encode_ready(job: JobResult[Forwards], prompt_tokens: int) -> draft_service_pb2.DraftResponse:
    """Return the answer to an open."""
    stats = _encode_stats(job.value, prompt_tokens, job.queue_ms)
    return draft_service_pb2.DraftResponse(ready=draft_service_pb2.Ready(stats=stats))


def encode_level(job: JobResult[LevelResult]) -> draft_service_pb2.DraftResponse:
    """Return one drafted level."""
    drafted = job.value
    return draft_service_pb2.DraftResponse(
        level=draft_service_pb2.DraftedLevel(
            base_level=drafted.base_level,
            level=drafted.level,
            parents=drafted.parents.tolist(),
            tokens=encode_tokens(drafted.tokens),
            last=drafted.last,
            stats=_encode_stats(drafted.forwards, drafted.rows, job.queue_ms),
            logprobs=drafted.logprobs.tolist(),
        )
    )


def encode_info(host: ModelHost[DraftModel]) -> draft_service_pb2.GetInfoResponse:
    """Return what is served, its limits and its costs."""
    model = host.model
    manifest, config = model.bundle.manifest, model.runner.config
    prints = manifest.fingerprints
    bundle = draft_service_pb2.DraftBundleInfo(
        name=manifest.name,
        fingerprints=session_pb2.Fingerprints(
            model=prints.model, prompt=prints.prompt, catalog=prints.catalog
        ),
        drafter=model.drafter,
        kind=KIND,
    )
    return draft_service_pb2.GetInfoResponse(
        bundles=[bundle],
        slots=config.slots,
        slots_free=host.slots.gate.free,
        threads=host.threads,
        device=config.device,
        dtype=_TORCH_DTYPES[config.dtype],
        version=__version__,
        max_prompt_tokens=model.limits.max_prompt_tokens,
        max_nodes=model.limits.max_nodes,
        costs=[
            draft_service_pb2.DraftCostPoint(rows=c.rows, prefix_tokens=c.prefix_tokens, ms=c.ms)
            for c in host.costs
        ],
    )


def _encode_stats(forwards: Forwards, rows: int, queue_ms: float) -> draft_service_pb2.DraftStats:
    return draft_service_pb2.DraftStats(
        passes=len(forwards),
        rows=rows,
        queue_ms=queue_ms,
        forward_ms=sum(end - start for start, end in forwards) / 1e6,
        forwards=[
            session_pb2.ForwardInterval(start_ns=start, end_ns=end) for start, end in forwards
        ],
    )
