"""Settings of the orchestrator."""

from typing import Literal

from pydantic import Field, SecretStr, field_validator

from specbeam.drafting.registry import drafter_names
from specbeam.runtime.settings import CommaSeparated, ServiceSettings, settings_config

SpeculationDefault = Literal["auto", "on", "off"]
FlowChoice = Literal["auto", "root-first", "one-pass"]
TreeChoice = Literal["chosen", "full"]
ALL_DRAFTERS = ("model", "head", "pool", "cooccurrence", "popularity")


class OrchestratorSettings(ServiceSettings):
    """Settings of the orchestrator."""

    model_config = settings_config("SPECBEAM_ORCHESTRATOR_")

    port: int = Field(50051, ge=0, le=65535, description="Port; 0 = any free one.")
    bundle: CommaSeparated = Field(
        min_length=1, description="Bundle directories, separated by commas; the first is default."
    )
    store: SecretStr = Field(
        SecretStr("memory:"),
        description="Histories: redis://HOST:PORT/DB, sqlite:PATH or memory:.",
    )
    target_address: str = Field("localhost:50053", min_length=1, description="Target service.")
    draft_address: str = Field("", description="Draft service; empty = none.")
    max_num_items: int = Field(256, ge=1, le=10_000, description="Largest num_items.")
    max_beam_width: int = Field(256, ge=1, le=10_000, description="Largest beam_width.")
    default_deadline_s: float = Field(
        5.0, gt=0, le=600, description="Deadline of a call whose client set none, seconds."
    )
    draft_timeout_ms: float = Field(
        250.0, gt=0, le=60_000, description="Longest wait for one proposal, milliseconds."
    )
    default_max_rows: int = Field(
        128, ge=1, le=65_536, description="Rows of a target pass when the request does not say."
    )
    max_max_rows: int = Field(1024, ge=1, le=65_536, description="Largest max_rows.")
    speculation: SpeculationDefault = Field(
        "auto", description="Used when a request leaves it open: auto, on or off."
    )
    drafters: CommaSeparated = Field(
        ALL_DRAFTERS,
        description="Who may draft, separated by commas: model (the draft service), head (beside "
        "the target), pool, cooccurrence, popularity; each only where the bundle has it.",
    )
    flow: FlowChoice = Field(
        "auto",
        description="Draft below the exact first level (root-first), send the tree with the prompt "
        "(one-pass), or whichever was quicker (auto).",
    )
    trees: TreeChoice = Field(
        "chosen",
        description="Size of trees: chosen = expected to be quickest by what passes cost, full = "
        "all rows of a pass.",
    )
    pool_nodes: int = Field(
        64, ge=0, le=4096, description="Nodes per level of the trees kept in the pool; 0 = none."
    )
    pool_trees: int = Field(
        9, ge=1, le=64, description="Verified trees read from the pool for a request."
    )
    pool_max_keys: int = Field(
        20_000, ge=1, description="Users and item endings whose trees are kept, per model."
    )
    pool_max_age_s: float = Field(
        7 * 86_400.0, gt=0, description="Age at which a verified tree is forgotten, seconds."
    )
    exploration: float = Field(
        0.02, ge=0, le=0.5, description="Share of requests that try another way than the quickest."
    )
    max_history_events: int = Field(
        1000, ge=1, le=100_000, description="Events kept and read per user."
    )
    filter_cache_mb: int = Field(
        256,
        ge=1,
        le=65_536,
        description="Memory for compiled tag and age filters, MiB per bundle.",
    )
    allow_debug: bool = Field(True, description="Answer debug information to clients.")
    poll_interval_s: float = Field(
        1.0, gt=0, le=60, description="Seconds between looks at the target and the draft service."
    )

    @field_validator("drafters")
    @classmethod
    def _known_drafters(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in names if name not in drafter_names()]
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: there are {', '.join(drafter_names())}")
        return names
