"""The direction of imports: who may know whom, checked on the source and in fresh interpreters."""

import ast
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("orchestrator", "draft_service", "target_service")
CORE = ("catalog", "decoding", "engine", "bundle")
OURS = ("specbeam", *SERVICES)

# Outermost first: a layer imports itself and what stands after it, never before.
LAYERS = ("__main__", "app", "servicer", "converters")
WIRE = ("grpc", "grpc_health", "grpc_reflection", "grpc_status", "google")


@dataclass(frozen=True, slots=True)
class Rule:
    """What the modules of one package may import beside the standard library and itself."""

    package: str
    third_party: frozenset[str]
    ours: tuple[str, ...] = ()


_MODELS = frozenset({"numpy", "torch", "transformers", "safetensors"})
_CORE_PACKAGES = tuple(f"specbeam.{name}" for name in CORE)
RULES = (
    Rule("specbeam.catalog", frozenset({"numpy", "safetensors"})),
    Rule("specbeam.decoding", _MODELS, _CORE_PACKAGES),
    # peft is imported where an adapter is merged, nowhere else.
    Rule("specbeam.engine", _MODELS | {"peft"}, _CORE_PACKAGES),
    Rule("specbeam.bundle", _MODELS, _CORE_PACKAGES),
    Rule(
        "specbeam.drafting",
        frozenset({"numpy"}),
        ("specbeam.catalog", "specbeam.decoding", "specbeam.bundle"),
    ),
    Rule("specbeam.packing", _MODELS | {"pyarrow"}, _CORE_PACKAGES),
    Rule("specbeam.storage", frozenset({"redis"}), ("specbeam.runtime.errors",)),
    Rule(
        "specbeam.training",
        _MODELS
        | {"pyarrow", "rich", "scipy", "sklearn", "threadpoolctl", "matplotlib", "accelerate"},
        _CORE_PACKAGES,
    ),
)


def _folder(package: str) -> Path:
    return ROOT.joinpath(*package.split("."))


def _sources(package: str) -> list[Path]:
    files = sorted(_folder(package).rglob("*.py"))
    return [path for path in files if not path.stem.endswith(("_pb2", "_pb2_grpc"))]


def _module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path) -> Iterator[str]:
    """Yield the dotted names a file imports, `from a import b` as "a.b", relative ones resolved."""
    package = path.parent.relative_to(ROOT).parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            base += node.module.split(".") if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)


def _within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _is_stub(name: str) -> bool:
    return any(part.endswith(("_pb2", "_pb2_grpc")) for part in name.split("."))


def _breaches(rule: Rule) -> list[str]:
    found = []
    for path in _sources(rule.package):
        for name in _imports(path):
            root = name.split(".")[0]
            if root in OURS:
                allowed = _within(name, (rule.package, *rule.ours))
            else:
                allowed = root in sys.stdlib_module_names or root in rule.third_party
            if not allowed:
                found.append(f"{path.relative_to(ROOT)} imports {name}")
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.package)
def test_package_imports_only_what_its_rule_allows(rule: Rule) -> None:
    assert _breaches(rule) == []


def test_library_never_imports_a_service() -> None:
    # The command line starts the services in one process: it stands above them.
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _sources("specbeam")
        if not _within(_module_name(path), ("specbeam.cli",))
        for name in _imports(path)
        if _within(name, SERVICES)
    ]
    assert found == []


def _may_touch_the_wire(path: Path) -> bool:
    return path.stem in LAYERS or path.stem.endswith(("_client", "_converters"))


@pytest.mark.parametrize("service", SERVICES)
def test_service_domain_knows_no_wire_and_no_store(service: str) -> None:
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _sources(service)
        if not _may_touch_the_wire(path)
        for name in _imports(path)
        if _within(name, (*WIRE, "redis", "structlog")) or _is_stub(name)
    ]
    assert found == []


@pytest.mark.parametrize("service", SERVICES)
def test_service_layers_import_downwards_only(service: str) -> None:
    found = []
    for path in _sources(service):
        above = LAYERS[: LAYERS.index(path.stem)] if path.stem in LAYERS else LAYERS
        forbidden = tuple(f"{service}.{layer}" for layer in above)
        names = [name for name in _imports(path) if _within(name, forbidden)]
        found += [f"{path.relative_to(ROOT)} imports {name}" for name in names]
    assert found == []


@pytest.mark.parametrize("service", SERVICES)
def test_service_imports_no_other_service(service: str) -> None:
    others = tuple(other for other in SERVICES if other != service)
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _sources(service)
        for name in _imports(path)
        if _within(name, others)
    ]
    assert found == []


# A child interpreter that hides some third-party packages, imports everything below the given
# packages and reports which third-party roots were loaded.
_PROBE = """
import importlib, json, pkgutil, sys
from importlib.machinery import PathFinder

hidden, packages = json.loads(sys.argv[1])

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            return None
        return PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
for package in packages:
    module = importlib.import_module(package)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), package + "."):
        importlib.import_module(found.name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def _loaded_after_import(packages: list[str], hidden: set[str]) -> set[str]:
    argument = json.dumps([sorted(hidden), packages])
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, argument],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def _closure(distributions: set[str]) -> set[str]:
    """Return the normalised names of the given distributions and all they require here."""
    seen: set[str] = set()
    waiting = list(distributions)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        needs = [Requirement(line) for line in lines]
        waiting += [n.name for n in needs if not n.marker or n.marker.evaluate({"extra": ""})]
    return seen


def _everything_but(distributions: set[str]) -> set[str]:
    kept = _closure(distributions)
    modules = importlib.metadata.packages_distributions()
    return {
        module
        for module, owners in modules.items()
        if module not in OURS and not {o.lower().replace("_", "-") for o in owners} & kept
    }


def test_core_imports_with_only_the_model_stack_installed() -> None:
    hidden = _everything_but(set(_MODELS))
    assert {"google", "grpc", "redis", "structlog"} <= hidden
    loaded = _loaded_after_import([f"specbeam.{name}" for name in CORE], hidden)
    assert not loaded & hidden


def test_gpu_benchmark_imports_with_only_the_model_stack_installed() -> None:
    # A bare GPU machine has neither servers nor what reads data sets.
    hidden = _everything_but(set(_MODELS))
    assert {"grpc", "pyarrow", "redis", "structlog"} <= hidden
    _loaded_after_import(["specbeam.benchmark.gpu", "specbeam.benchmark.widening"], hidden)


def test_catalog_imports_without_torch() -> None:
    hidden = _everything_but({"numpy", "safetensors"})
    assert {"torch", "transformers"} <= hidden
    _loaded_after_import(["specbeam.catalog"], hidden)


@pytest.mark.parametrize(
    "package",
    [
        "orchestrator",
        "specbeam.client",
        "specbeam.drafting",
        "specbeam.runtime",
        "specbeam.storage",
    ],
)
def test_package_never_loads_torch(package: str) -> None:
    loaded = _loaded_after_import([package], hidden=set())
    assert not loaded & {"torch", "transformers"}


def test_command_line_starts_without_models_or_servers() -> None:
    loaded = _loaded_after_import(["specbeam.cli.main"], hidden=set())
    assert not loaded & {"torch", "transformers", "grpc", "pyarrow"}
