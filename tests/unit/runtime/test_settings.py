"""Where values come from, what is printed, and how problems are reported."""

from pathlib import Path

import pytest
from pydantic import Field, SecretStr, ValidationError

from specbeam.runtime.settings import (
    CommaSeparated,
    ServiceSettings,
    load_settings,
    render_config,
    render_table,
    settings_config,
)


class DemoSettings(ServiceSettings):
    """Settings of the demo service."""

    model_config = settings_config("SPECBEAM_DEMO_")

    bundle: Path = Field(description="Bundle directory.")
    port: int = Field(50059, ge=0, le=65535, description="Port; 100 % yours.")
    peers: CommaSeparated = Field((), description="Peers.")
    threads: int | None = Field(None, ge=1, description="CPU threads.")
    password: SecretStr | None = Field(None, description="Password.")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith("SPECBEAM_"):
            monkeypatch.delenv(name)


def load(*argv):
    return load_settings(DemoSettings, argv, prog="demo")


def test_flag_beats_variable_beats_shared_variable_beats_default(monkeypatch):
    assert load("--bundle", "b").log_level == "info"
    monkeypatch.setenv("SPECBEAM_LOG_LEVEL", "debug")
    assert load("--bundle", "b").log_level == "debug"
    monkeypatch.setenv("SPECBEAM_DEMO_LOG_LEVEL", "warning")
    assert load("--bundle", "b").log_level == "warning"
    assert load("--bundle", "b", "--log-level", "error").log_level == "error"


def test_shared_form_does_not_set_the_service_s_own_fields(monkeypatch):
    monkeypatch.setenv("SPECBEAM_PORT", "1")
    assert load("--bundle", "b").port == 50059


def test_values_are_converted(monkeypatch):
    monkeypatch.setenv("SPECBEAM_DEMO_PEERS", "a:1, b:2,")
    monkeypatch.setenv("SPECBEAM_DEMO_THREADS", "")
    settings = load("--bundle", "b", "--port", "7", "--no-reflection")
    assert settings.peers == ("a:1", "b:2")
    assert settings.threads is None
    assert (settings.bundle, settings.port, settings.reflection) == (Path("b"), 7, False)


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError):
        load("--bundle", "b").port = 8


def test_every_problem_is_reported_at_once(monkeypatch, capsys):
    monkeypatch.setenv("SPECBEAM_DEMO_PASSWORD", "hunter2")
    with pytest.raises(SystemExit) as caught:
        load("--port", "99999", "--threads", "many")
    assert caught.value.code == 2
    error = capsys.readouterr().err
    for part in ("--bundle (SPECBEAM_DEMO_BUNDLE)", "--port", "--threads"):
        assert part in error
    assert "hunter2" not in error


def test_print_config_shows_effective_values_without_secrets(monkeypatch, capsys):
    monkeypatch.setenv("SPECBEAM_DEMO_PASSWORD", "hunter2")
    monkeypatch.setenv("SPECBEAM_DEMO_PEERS", "a,b")
    with pytest.raises(SystemExit) as caught:
        load("--bundle", "b", "--port", "7", "--print-config")
    assert caught.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert "SPECBEAM_DEMO_PORT=7" in lines
    assert "SPECBEAM_DEMO_PEERS=a,b" in lines
    assert "SPECBEAM_DEMO_REFLECTION=true" in lines
    assert "SPECBEAM_DEMO_PASSWORD=********" in lines


def test_printed_config_read_back_gives_the_same(monkeypatch):
    settings = load("--bundle", "b", "--port", "7", "--peers", "x,y", "--no-reflection")
    for line in render_config(settings).splitlines():
        name, _, value = line.partition("=")
        monkeypatch.setenv(name, value)
    assert load() == settings


def test_secrets_have_no_flag(capsys):
    with pytest.raises(SystemExit):
        load("--help")
    text = capsys.readouterr().out
    assert "--port" in text and "100 % yours" in text
    assert "--password" not in text


def test_table_has_a_row_for_each_field():
    table = render_table(DemoSettings)
    assert "| `SPECBEAM_DEMO_BUNDLE` | `--bundle` | required | Bundle directory. |" in table
    assert "| `SPECBEAM_DEMO_PASSWORD` | none | `` | Password. |" in table
    assert len(table.splitlines()) == 2 + len(DemoSettings.model_fields)


def test_every_shared_field_exists_and_every_field_is_described():
    assert ServiceSettings.shared_fields <= set(ServiceSettings.model_fields)
    assert all(field.description for field in ServiceSettings.model_fields.values())
