"""The manifests agree with the code: settings, probed services, ports, time to shut down."""

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml

from specbeam.draft.v1alpha1 import draft_service_pb2
from specbeam.recommend.v1 import recommend_service_pb2
from specbeam.runtime.health import LIVENESS_SERVICE
from specbeam.runtime.settings import ServiceSettings, env_name
from specbeam.target.v1alpha1 import target_service_pb2

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "k8s" / "base"
PROTOS = {
    "orchestrator": recommend_service_pb2.DESCRIPTOR,
    "draft": draft_service_pb2.DESCRIPTOR,
    "target": target_service_pb2.DESCRIPTOR,
}
# Folder of the manifests -> package of the service.
SERVICES = {"orchestrator": "orchestrator", "draft": "draft_service", "target": "target_service"}


def _document(folder: str, name: str) -> dict[str, Any]:
    (document,) = yaml.safe_load_all((BASE / folder / name).read_text("utf-8"))
    assert isinstance(document, dict)
    return document


def _variables(folder: str) -> dict[str, str]:
    lines = (BASE / folder / "settings.env").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines)


def _settings_class(folder: str) -> type[ServiceSettings]:
    module = importlib.import_module(f"{SERVICES[folder]}.settings")
    (found,) = (
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, ServiceSettings)
        and value.__module__ == module.__name__
    )
    return found


@pytest.mark.parametrize("folder", SERVICES)
def test_settings_file_names_known_settings_with_valid_values(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_class = _settings_class(folder)
    variables = _variables(folder)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings_class()
    assert set(variables) <= {
        env_name(settings_class, field) for field in settings_class.model_fields
    }


@pytest.mark.parametrize("folder", SERVICES)
def test_time_to_terminate_covers_drain_and_grace(folder: str) -> None:
    pod = _document(folder, "deployment.yaml")["spec"]["template"]["spec"]
    variables = _variables(folder)
    prefix = f"SPECBEAM_{folder.upper()}_"
    shutdown_s = sum(float(variables[prefix + name]) for name in ("DRAIN_DELAY_S", "GRACE_S"))
    assert pod["terminationGracePeriodSeconds"] > shutdown_s + 10


@pytest.mark.parametrize("folder", SERVICES)
def test_probes_ask_the_service_and_liveness_on_the_served_port(folder: str) -> None:
    (container,) = _document(folder, "deployment.yaml")["spec"]["template"]["spec"]["containers"]
    port = int(_variables(folder)[f"SPECBEAM_{folder.upper()}_PORT"])
    (service,) = PROTOS[folder].services_by_name.values()
    asked = {name: container[f"{name}Probe"]["grpc"] for name in ("startup", "readiness")}
    assert asked == {name: {"port": port, "service": service.full_name} for name in asked}
    assert container["livenessProbe"]["grpc"] == {"port": port, "service": LIVENESS_SERVICE}
    assert [entry["containerPort"] for entry in container["ports"]] == [port]
    assert [entry["port"] for entry in _document(folder, "service.yaml")["spec"]["ports"]] == [port]


@pytest.mark.parametrize("folder", ["draft", "target"])
def test_threads_equal_the_cpu_limit(folder: str) -> None:
    (container,) = _document(folder, "deployment.yaml")["spec"]["template"]["spec"]["containers"]
    threads = _variables(folder)[f"SPECBEAM_{folder.upper()}_THREADS"]
    assert container["resources"]["limits"]["cpu"] == threads


@pytest.mark.parametrize("folder", ["draft", "target"])
def test_orchestrator_address_is_the_headless_service(folder: str) -> None:
    service = _document(folder, "service.yaml")
    address = _variables("orchestrator")[f"SPECBEAM_ORCHESTRATOR_{folder.upper()}_ADDRESS"]
    (port,) = (entry["port"] for entry in service["spec"]["ports"])
    assert service["spec"]["clusterIP"] == "None"
    assert address == f"dns:///{service['metadata']['name']}:{port}"
