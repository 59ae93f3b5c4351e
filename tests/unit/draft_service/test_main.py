"""Exit codes and messages of `python -m draft_service`, without a model."""

import pytest

from draft_service import __main__ as command
from draft_service import app
from specbeam.bundle import BundleError
from specbeam.runtime.server import PortInUse


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(command, "configure_logging", lambda *args, **kwargs: None)
    for name in ("OMP_WAIT_POLICY", "GRPC_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "")


def run_that(monkeypatch, error=None):
    async def run(settings):
        if error is not None:
            raise error

    monkeypatch.setattr(app, "run", run)
    return command.main(["--bundle", "/bundle"])


def test_a_clean_end_is_0(monkeypatch):
    assert run_that(monkeypatch) == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [(BundleError(["manifest.json is missing"]), 3), (PortInUse("127.0.0.1:1"), 4)],
)
def test_a_wrong_input_is_one_line_and_its_code(monkeypatch, capsys, error, code):
    assert run_that(monkeypatch, error) == code
    said = capsys.readouterr().err
    assert said.startswith("draft_service: ")
    assert str(error) in said
    assert said.count("\n") == 1


def test_interrupt_is_130(monkeypatch):
    assert run_that(monkeypatch, KeyboardInterrupt()) == 130


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    assert ended.value.code == 0
    assert "examples:" in capsys.readouterr().out


def test_print_config_shows_the_effective_values(capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(["--bundle", "/bundle", "--slots", "3", "--print-config"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "SPECBEAM_DRAFT_BUNDLE=/bundle\n" in shown
    assert "SPECBEAM_DRAFT_SLOTS=3\n" in shown


def test_a_missing_bundle_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as ended:
        command.main([])
    assert ended.value.code == 2
    assert "SPECBEAM_DRAFT_BUNDLE" in capsys.readouterr().err
