"""Exit codes and messages of `python -m orchestrator|draft_service|target_service`."""

import importlib

import pytest

from specbeam.bundle import BundleError
from specbeam.cli import service_main
from specbeam.runtime.server import PortInUse

MODULES = ("orchestrator", "draft_service", "target_service")


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(service_main, "configure_logging", lambda *args, **kwargs: None)
    for name in ("OMP_WAIT_POLICY", "GRPC_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "")


@pytest.fixture(params=MODULES)
def module(request):
    return request.param


@pytest.fixture
def main(module):
    return importlib.import_module(f"{module}.__main__").main


@pytest.fixture
def run_that(module, main, monkeypatch):
    """Runs the program with a service that ends at once, or in an error."""

    class Ended:
        async def run(self):
            return None

    def run(error=None):
        async def build_app(settings):
            if error is not None:
                raise error
            return Ended()

        monkeypatch.setattr(f"{module}.app.build_app", build_app)
        monkeypatch.setattr(f"{module}.__main__.build_app", build_app, raising=False)
        return main(["--bundle", "/bundle"])

    return run


def prefix(module):
    return f"SPECBEAM_{module.removesuffix('_service').upper()}"


def test_a_clean_end_is_0(run_that):
    assert run_that() == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [(BundleError(["manifest.json is missing"]), 3), (PortInUse("127.0.0.1:1"), 4)],
)
def test_a_wrong_input_is_one_line_and_its_code(module, run_that, capsys, error, code):
    assert run_that(error) == code
    said = capsys.readouterr().err
    assert said.startswith(f"{module}: ")
    assert str(error) in said
    assert said.count("\n") == 1


def test_interrupt_is_130(run_that):
    assert run_that(KeyboardInterrupt()) == 130


def test_a_bug_is_not_taken_for_wrong_input(run_that):
    with pytest.raises(RuntimeError, match="bug"):
        run_that(RuntimeError("a bug"))


def test_help_shows_examples(module, main, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert f"examples:\n  python -m {module} --bundle" in capsys.readouterr().out


def test_print_config_shows_the_effective_values(module, main, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--bundle", "/bundle", "--port", "3", "--print-config"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f"{prefix(module)}_BUNDLE=/bundle\n" in shown
    assert f"{prefix(module)}_PORT=3\n" in shown


def test_a_missing_bundle_is_a_usage_error(module, main, capsys):
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert f"{prefix(module)}_BUNDLE" in capsys.readouterr().err
