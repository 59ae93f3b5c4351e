"""The services' own self-tests, run on a bundle without a service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def deep_problems(
    directory: Path, *, dtype: str, device: str, note: Callable[[str], None]
) -> list[str]:
    """Load every model of a bundle and let it answer; return what went wrong.

    The target runs one search in two ways that must agree, a draft model proposes one tree; tables
    of other drafters are read.

    Args:
        directory: a bundle that is sound on disk.
        dtype: arithmetic of the models.
        device: as torch names it.
        note: told about each step.
    """
    from draft_service.model import load_drafter
    from draft_service.settings import DraftSettings
    from draft_service.warmup import check_proposal
    from specbeam.bundle import BundleError, load_bundle
    from specbeam.drafting.sources.cooccurrence import CooccurrenceDrafter
    from target_service.model import load_target
    from target_service.settings import TargetSettings
    from target_service.warmup import check_search

    problems: list[str] = []
    target = TargetSettings(bundle=directory, dtype=dtype, device=device, slots=1)
    draft = DraftSettings(bundle=directory, dtype=dtype, device=device, slots=1)
    try:
        note("target: one search in two ways")
        check_search(
            load_target(
                directory,
                device=device,
                dtype=dtype,
                slots=1,
                max_rows=target.max_rows,
                max_beam_width=target.max_beam_width,
            )
        )
    except BundleError as error:
        problems += error.problems
    bundle = load_bundle(directory, verify=False)
    for name in bundle.model_drafters():
        try:
            note(f"drafter {name}: one proposal")
            check_proposal(
                load_drafter(
                    directory,
                    drafter=name,
                    device=device,
                    dtype=dtype,
                    slots=1,
                    max_nodes=draft.max_nodes,
                    max_beam_width=draft.max_beam_width,
                )
            )
        except BundleError as error:
            problems += error.problems
    try:
        if CooccurrenceDrafter.load(bundle) is not None:
            note("co-occurrence table read")
    except BundleError as error:
        problems += error.problems
    return problems
