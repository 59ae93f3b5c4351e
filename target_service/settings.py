"""Settings of the target service."""

from pydantic import Field

from specbeam.model_service.settings import ModelServiceSettings
from specbeam.runtime.settings import settings_config


class TargetSettings(ModelServiceSettings):
    """Run the target model's exact beam search and verify candidate trees."""

    model_config = settings_config("SPECBEAM_TARGET_")

    port: int = Field(50053, ge=0, le=65535, description="Port to listen on; 0 = any free one.")
    max_rows: int = Field(
        128, ge=1, le=4096, description="Most tree rows of one pass, also when not asked for."
    )
