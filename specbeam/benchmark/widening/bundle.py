"""Bundles whose target is widened; their drafters go with them."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from specbeam.benchmark.shapes import SHAPES
from specbeam.benchmark.widening.fit import WideningError
from specbeam.benchmark.widening.root_head import widen_root_head
from specbeam.benchmark.widening.target import Advance, WideTarget
from specbeam.bundle import Bundle, BundleParts, write_bundle
from specbeam.bundle.checkpoint import model_files, read_checkpoint
from specbeam.bundle.digests import digest_file, digest_of
from specbeam.bundle.drafters import MODEL, read_description

HEAD = "head"
# Kinds that know nothing of the target but its vocabulary and catalogue.
_UNBOUND = (MODEL, "cooccurrence")


@dataclass(frozen=True, slots=True)
class WideBundleSpec:
    """How a bundle is widened.

    Attributes:
        shape: name of the large shape.
        dtype: the large target is stored as.
        gate: kind of gates, "tiny" or "zero".
        seed: of all random choices.
        device: where its tensors are made.
        figures: about the result, for the report: what was checked.
    """

    shape: str
    dtype: torch.dtype = torch.float32
    gate: str = "tiny"
    seed: int = 0
    device: str = "cpu"
    figures: dict[str, Any] = field(default_factory=dict)


def plan_widening(bundle: Bundle, spec: WideBundleSpec) -> WideTarget:
    """Return the widened target of a bundle; nothing large is made yet.

    Raises:
        WideningError: the target does not fit the shape, or has an adapter.
    """
    if bundle.adapter_dir is not None:
        raise WideningError("the target has an adapter: pack a merged checkpoint first")
    return WideTarget.of(bundle.target_dir, SHAPES[spec.shape], spec.gate, spec.seed)


def write_wide_bundle(
    bundle: Bundle,
    target: WideTarget,
    destination: Path,
    spec: WideBundleSpec,
    advance: Advance | None = None,
) -> Bundle:
    """Write a bundle with the widened target and every drafter that can go with it.

    Args:
        bundle: with the small target.
        target: from `plan_widening`.
        destination: where; a bundle there is replaced.
        spec: how.
        advance: told how many tensors are written.

    Raises:
        BundleError: the destination exists and is no bundle, or a drafter is damaged.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    # Beside the result: these files are as large as it is.
    with tempfile.TemporaryDirectory(prefix=".widening-", dir=destination.parent) as scratch:
        checkpoint = Path(scratch) / "target"
        checkpoint.mkdir()
        target.write(checkpoint, spec.dtype, spec.device, advance)
        drafters, left_out = _drafters(bundle, target, checkpoint, Path(scratch))
        report = {**_report(bundle, target, spec), "drafters_left_out": left_out}
        manifest = bundle.manifest
        parts = BundleParts(
            name=f"{manifest.name}-{spec.shape}",
            trie=bundle.trie,
            template=bundle.template,
            levels=manifest.levels,
            vocab_size=manifest.vocab_size,
            target_dir=checkpoint,
            drafters=drafters,
            tokenizer_dir=bundle.tokenizer_dir,
            items_file=bundle.items_file if bundle.items_file.exists() else None,
            report={"widened": report, **_source_report(bundle)},
            default_beam_width=manifest.default_beam_width,
            exclude_history=manifest.exclude_history,
            score_kind=manifest.score_kind,
        )
        return write_bundle(destination, parts)


def describe(bundle: Bundle, target: WideTarget, spec: WideBundleSpec) -> str:
    """Return the label that belongs beside every figure of a widened target."""
    small = read_checkpoint(bundle.target_dir).num_parameters
    return (
        f"target = {spec.shape} shape, function of a Llama of {small / 1e6:.1f} M parameters, "
        f"widened (n = {target.plan.fit.copies}, {spec.gate} gates)"
    )


def _drafters(
    bundle: Bundle, target: WideTarget, checkpoint: Path, scratch: Path
) -> tuple[dict[str, Path], dict[str, str]]:
    """Directories of the drafters that go along, and why others do not, by name."""
    carried, left_out = {}, {}
    for name in bundle.manifest.drafters:
        kind = read_description(bundle.drafter_dir(name))["kind"]
        if kind in _UNBOUND:
            carried[name] = bundle.drafter_dir(name)
        elif kind == HEAD:
            carried[name] = scratch / name
            carried[name].mkdir()
            widen_root_head(
                bundle.drafter_dir(name),
                carried[name],
                target.plan,
                tied=target.tied,
                target=_fingerprint(checkpoint),
            )
        else:
            left_out[name] = f"a drafter of kind {kind} may be bound to the small target"
    return carried, left_out


def _fingerprint(checkpoint: Path) -> str:
    """The model fingerprint of a bundle that is made of a checkpoint."""
    contents = {
        f"target/{file.name}": (file.stat().st_size, digest_file(file))
        for file in model_files(checkpoint)
    }
    return digest_of(contents, "target/")


def _report(bundle: Bundle, target: WideTarget, spec: WideBundleSpec) -> dict[str, Any]:
    plan = target.plan
    return {
        "label": describe(bundle, target, spec),
        "of": {"bundle": bundle.manifest.name, "model": bundle.manifest.fingerprints.model},
        "shape": {"name": spec.shape, **asdict(plan.large)},
        "fit": plan.fit.as_dict(),
        "gate": spec.gate,
        "seed": spec.seed,
        "stored_as": str(spec.dtype).removeprefix("torch."),
        "vocab_size": bundle.manifest.vocab_size,
        "valid_for": "latency, throughput, memory; quality and acceptance are the small model's",
        **spec.figures,
    }


def _source_report(bundle: Bundle) -> dict[str, Any]:
    """What is known of the small target and of the drafters, under names that say so."""
    report = json.loads((bundle.path / "report.json").read_text(encoding="utf-8"))
    drafters = {key: report.pop(key) for key in ("drafters",) if key in report}
    return {**drafters, "small_target": report}
