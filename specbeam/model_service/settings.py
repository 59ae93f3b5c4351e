"""Settings of a service that runs a model."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from specbeam.runtime.settings import ServiceSettings


class ModelServiceSettings(ServiceSettings):
    """What every model service can be told; a subclass may give other defaults."""

    bundle: Path = Field(description="Bundle directory to serve.")
    device: str = Field("cpu", description="Device as torch names it: cpu, cuda, cuda:1.")
    dtype: Literal["fp32", "bf16", "fp64"] = Field("fp32", description="Arithmetic of the model.")
    threads: int = Field(0, ge=0, le=1024, description="CPU threads; 0 = all cores.")
    slots: int = Field(8, ge=1, le=1024, description="Sessions that hold KV states at once.")
    max_waiting: int = Field(
        64, ge=0, le=10_000, description="Sessions that may wait for a slot; more are refused."
    )
    max_beam_width: int = Field(256, ge=1, le=4096, description="Largest beam width accepted.")
    idle_lease_s: float = Field(
        1.0, gt=0, le=60, description="Seconds a session may sit idle before it is ended."
    )
    default_deadline_s: float = Field(
        5.0, gt=0, le=300, description="Seconds a session may take when its caller names none."
    )
    filter_cache_mb: int = Field(
        256, ge=1, le=65_536, description="Memory for compiled tag and age filters, MiB."
    )
    warm_up_s: float = Field(
        8.0, ge=0, le=60, description="Seconds for measuring what a pass costs at start."
    )
    cache_dir: Path | None = Field(
        None, description="Where measured costs are kept; default ~/.cache/specbeam."
    )
