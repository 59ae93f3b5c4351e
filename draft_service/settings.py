"""Settings of the draft service."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from specbeam.runtime.settings import ServiceSettings, settings_config


class DraftSettings(ServiceSettings):
    """Propose candidate trees with the bundle's small model."""

    model_config = settings_config("SPECBEAM_DRAFT_")

    bundle: Path = Field(description="Bundle directory to serve.")
    drafter: str = Field("default", min_length=1, description="Which drafter of the bundle.")
    port: int = Field(50052, ge=0, le=65535, description="Port to listen on; 0 = any free one.")
    device: str = Field("cpu", description="Device as torch names it: cpu, cuda, cuda:1.")
    dtype: Literal["fp32", "bf16", "fp64"] = Field("fp32", description="Arithmetic of the model.")
    threads: int = Field(1, ge=0, le=1024, description="CPU threads; 0 = all cores.")
    slots: int = Field(16, ge=1, le=1024, description="Sessions that hold KV states at once.")
    max_waiting: int = Field(
        64, ge=0, le=10_000, description="Sessions that may wait for a slot; more are refused."
    )
    max_nodes: int = Field(
        256, ge=1, le=4096, description="Most nodes proposed on one level; requests are cut to it."
    )
    max_beam_width: int = Field(256, ge=1, le=4096, description="Largest beam width accepted.")
    idle_lease_s: float = Field(
        1.0, gt=0, le=60, description="Seconds a session may sit idle before it is ended."
    )
    default_deadline_s: float = Field(
        5.0, gt=0, le=300, description="Seconds a session may take when its caller names none."
    )
    warm_up_s: float = Field(
        4.0, ge=0, le=60, description="Seconds for measuring what a pass costs at start."
    )
    cache_dir: Path | None = Field(
        None, description="Where measured costs are kept; default ~/.cache/specbeam."
    )
