"""The services of one bundle, started in this process or in child processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from specbeam.bundle import Bundle
from specbeam.runtime.lifecycle import ServiceApp

ALL = ("target", "draft", "orchestrator")
DTYPES = ("fp32", "bf16", "fp64")

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ServePlan:
    """What to start and where.

    Attributes:
        bundle: The bundle.
        services: Which of target, draft and orchestrator.
        host: Address to listen on.
        ports: Port by service; 0 = any free one.
        store: URL of the history store.
        dtype: Arithmetic of the models: fp32, bf16 or fp64.
        device: Device of the models, as torch names it.
        threads: CPU threads of target and draft together.
        warm_up_s: Seconds for measuring costs at start; None = each service's default.
    """

    bundle: Bundle
    services: tuple[str, ...] = ALL
    host: str = "127.0.0.1"
    ports: dict[str, int] = field(default_factory=dict)
    store: str = "memory:"
    dtype: str = "fp32"
    device: str = "cpu"
    threads: int = 0
    warm_up_s: float | None = None

    def threads_of(self, service: str) -> int:
        """Return the CPU threads of a service: those of target and draft sum to the cores."""
        cores = self.threads or len(os.sched_getaffinity(0))
        if service == "draft":
            return 1
        return max(1, cores - ("draft" in self.services))

    def settings_of(self, service: str, addresses: dict[str, str]) -> dict[str, str]:
        """Return a service's settings by name.

        Args:
            service: target, draft or orchestrator.
            addresses: Where the other services are.
        """
        settings = {
            "bundle": str(self.bundle.path),
            "host": self.host,
            "port": str(self.ports.get(service, 0)),
        }
        if service == "orchestrator":
            settings["target_address"] = addresses["target"]
            settings["draft_address"] = addresses.get("draft", "")
            settings["store"] = self.store
            return settings
        settings |= {"dtype": self.dtype, "device": self.device}
        settings["threads"] = str(self.threads_of(service))
        if self.warm_up_s is not None:
            settings["warm_up_s"] = str(self.warm_up_s)
        return settings

    def address(self, port: int) -> str:
        """Return how to reach a port of this machine."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(slots=True)
class LocalServices:
    """Services running in this process, each model with its own device thread.

    Attributes:
        addresses: Where each service is, in the order of start.
    """

    addresses: dict[str, str] = field(default_factory=dict)
    _apps: list[ServiceApp] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Where the orchestrator is."""
        return self.addresses["orchestrator"]

    async def start(self, plan: ServePlan, note: Note, others: dict[str, str]) -> None:
        """Start the plan's services in order.

        Args:
            plan: What to start.
            note: Told about each service that is up.
            others: Where services that the plan leaves out are.

        Raises:
            BundleError: The bundle cannot be served.
            PortInUse: A port is taken.
        """
        for service in ALL:
            if service not in plan.services:
                continue
            app = await _start(service, plan.settings_of(service, others | self.addresses))
            self._apps.append(app)
            self.addresses[service] = plan.address(app.port)
            note(f"{service:<13}{self.addresses[service]:<22}{_how(plan, service)}")

    async def stop(self) -> None:
        """Stop everything, the orchestrator first."""
        while self._apps:
            await self._apps.pop().stop()


def _how(plan: ServePlan, service: str) -> str:
    if service == "orchestrator":
        return "ready"
    threads = plan.threads_of(service)
    return f"ready ({plan.device}, {plan.dtype}, {threads} thread{'s' if threads > 1 else ''})"


async def _start(service: str, settings: dict[str, str]) -> ServiceApp:
    # Imported here: the orchestrator alone needs no torch.
    if service == "target":
        from target_service.app import start_app as start_target
        from target_service.settings import TargetSettings

        return await start_target(TargetSettings.model_validate(settings))
    if service == "draft":
        from draft_service.app import start_app as start_draft
        from draft_service.settings import DraftSettings

        return await start_draft(DraftSettings.model_validate(settings))
    from orchestrator.app import start_app as start_orchestrator
    from orchestrator.settings import OrchestratorSettings

    return await start_orchestrator(OrchestratorSettings.model_validate(settings))


def default_data_dir() -> Path:
    """Return where histories are kept by default: ~/.local/share/specbeam."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "specbeam"
