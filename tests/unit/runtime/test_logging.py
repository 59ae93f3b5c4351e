"""One format for our events and those of libraries."""

import json
import logging

import pytest
import structlog

from specbeam.runtime.logging import configure_logging


@pytest.fixture(autouse=True)
def restore_logging():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_json_lines_carry_service_context_and_fields(capsys):
    configure_logging("target", level="info", log_format="json")
    structlog.contextvars.bind_contextvars(request_id="r-1")
    structlog.get_logger("specbeam.x").info("round_verified", rows=3)
    logging.getLogger("library").warning("old %s", "style")
    structlog.get_logger("specbeam.x").debug("left_out")
    ours, theirs = map(json.loads, capsys.readouterr().err.splitlines())
    assert (ours["event"], ours["rows"], ours["level"]) == ("round_verified", 3, "info")
    assert (ours["service"], ours["request_id"], ours["logger"]) == ("target", "r-1", "specbeam.x")
    assert (theirs["event"], theirs["service"]) == ("old style", "target")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_exceptions_are_logged_without_local_variables(capsys, log_format):
    configure_logging("target", log_format=log_format)
    local = "hunter" + "2"
    try:
        raise ValueError("why")
    except ValueError as error:
        structlog.get_logger("x").error("failed", exc_info=error)
    text = capsys.readouterr().err
    assert local == "hunter2"
    assert "ValueError" in text and "why" in text
    assert "hunter2" not in text
    if log_format == "json":
        assert json.loads(text)["exception"][0]["exc_type"] == "ValueError"


def test_console_is_for_people(capsys):
    configure_logging("target", log_format="console")
    structlog.get_logger("x").info("ready", port=5)
    text = capsys.readouterr().err
    assert "ready" in text and "port" in text and not text.startswith("{")
