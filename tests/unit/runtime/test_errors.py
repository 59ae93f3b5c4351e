"""The catalogue of errors is complete, unique and readable."""

import ast
import inspect

import grpc
import pytest

from specbeam.runtime import errors
from specbeam.runtime.errors import (
    InvalidRequest,
    Overloaded,
    SpecbeamError,
    Violation,
    find_specbeam_error,
)
from specbeam.runtime.status import encode_error


def catalogue(base=SpecbeamError):
    for cls in base.__subclasses__():
        yield cls
        yield from catalogue(cls)


CLASSES = sorted(catalogue(), key=lambda cls: cls.__name__)


def make(cls):
    return cls([Violation("f", "d")]) if cls is InvalidRequest else cls()


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_entry_is_complete(cls):
    assert cls.reason == cls.reason.upper() and cls.reason.isascii()
    assert grpc.StatusCode[cls.status] is not grpc.StatusCode.OK
    assert isinstance(cls.retryable, bool)
    assert make(cls).message
    assert cls.__doc__
    code, message, _ = encode_error(make(cls))
    assert (code, message) == (grpc.StatusCode[cls.status], make(cls).message)


def test_reasons_are_unique():
    reasons = [cls.reason for cls in CLASSES]
    assert len(reasons) == len(set(reasons))


def test_tree_in_the_docstring_is_the_tree():
    drawn = {word for line in errors.__doc__.splitlines() for word in line.split()}
    assert {cls.__name__ for cls in CLASSES} <= drawn


def test_only_transient_errors_are_retryable():
    retryable = {cls.status for cls in CLASSES if cls.retryable}
    assert retryable == {
        "ABORTED",
        "UNAVAILABLE",
        "RESOURCE_EXHAUSTED",
        "DEADLINE_EXCEEDED",
    }


def test_module_imports_no_grpc():
    tree = ast.parse(inspect.getsource(errors))
    modules = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert modules == {"collections.abc", "dataclasses", "typing"}


def test_error_is_found_in_groups_of_one_only():
    error = Overloaded()
    nested = ExceptionGroup("outer", [ExceptionGroup("inner", [error])])
    assert find_specbeam_error(error) is error
    assert find_specbeam_error(nested) is error
    assert find_specbeam_error(ExceptionGroup("two", [error, ValueError()])) is None
    assert find_specbeam_error(ValueError()) is None
