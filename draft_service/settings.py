"""Settings of the draft service."""

from pydantic import Field

from specbeam.model_service.settings import ModelServiceSettings
from specbeam.runtime.settings import settings_config


class DraftSettings(ModelServiceSettings):
    """Propose candidate trees with the bundle's small model."""

    model_config = settings_config("SPECBEAM_DRAFT_")

    drafter: str = Field("default", min_length=1, description="Which drafter of the bundle.")
    port: int = Field(50052, ge=0, le=65535, description="Port to listen on; 0 = any free one.")
    threads: int = Field(1, ge=0, le=1024, description="CPU threads; 0 = all cores.")
    slots: int = Field(16, ge=1, le=1024, description="Sessions that hold KV states at once.")
    max_nodes: int = Field(
        256, ge=1, le=4096, description="Most nodes proposed on one level; requests are cut to it."
    )
    warm_up_s: float = Field(
        4.0, ge=0, le=60, description="Seconds for measuring what a pass costs at start."
    )
