"""Settings of a service: fields with defaults, environment variables and flags.

A service subclasses `ServiceSettings`, gives its prefix and its fields:

    class TargetSettings(ServiceSettings):
        '''Settings of the target service.'''

        model_config = settings_config("SPECBEAM_TARGET_")

        bundle: Path = Field(description="Bundle directory to serve.")
        port: int = Field(50053, ge=0, le=65535, description="Port; 0 = any free one.")

Flags win over ``SPECBEAM_TARGET_BUNDLE``, which wins over the shared form
``SPECBEAM_LOG_LEVEL`` (shared fields only), which wins over the default.
"""

import argparse
import sys
import types
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, NoReturn, TypeVar, Union, get_args, get_origin

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from specbeam.runtime.logging import LogFormat, LogLevel
from specbeam.runtime.options import DEFAULT_MAX_MESSAGE_BYTES

SHARED_PREFIX = "SPECBEAM_"
USAGE_EXIT_CODE = 2

S = TypeVar("S", bound="ServiceSettings")


def _split(value: object) -> object:
    return (
        tuple(p.strip() for p in value.split(",") if p.strip()) if isinstance(value, str) else value
    )


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""Several strings in one value, separated by commas."""


def settings_config(prefix: str) -> SettingsConfigDict:
    """Return the pydantic configuration of a service's settings.

    An empty variable counts as not set.

    Args:
        prefix: Prefix of its environment variables, such as ``SPECBEAM_TARGET_``.
    """
    return SettingsConfigDict(
        frozen=True,
        env_prefix=prefix,
        extra="forbid",
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )


class ServiceSettings(BaseSettings):
    """What every service can be told."""

    model_config = settings_config(SHARED_PREFIX)

    shared_fields: ClassVar[frozenset[str]] = frozenset(
        {"host", "log_level", "log_format", "drain_delay_s", "grace_s", "reflection"}
    )

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(0, ge=0, le=65535, description="Port to listen on; 0 = any free one.")
    log_level: LogLevel = Field("info", description="Least important lines to log.")
    log_format: LogFormat = Field("console", description="json: one object a line.")
    drain_delay_s: float = Field(
        5.0, ge=0, le=300, description="Seconds to keep serving after SIGTERM."
    )
    grace_s: float = Field(
        10.0, ge=0, le=300, description="Seconds running calls have to finish on shutdown."
    )
    reflection: bool = Field(True, description="Answer gRPC reflection.")
    max_message_bytes: int = Field(
        DEFAULT_MAX_MESSAGE_BYTES,
        ge=64 * 1024,
        le=64 * 1024 * 1024,
        description="Largest message sent or received.",
    )
    max_concurrent_rpcs: int = Field(
        1000, ge=1, le=100_000, description="Calls beyond this many at once are refused."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the service's variables, then the shared ones; no dotenv files."""
        return init_settings, env_settings, _SharedEnvSource(settings_cls, cls.shared_fields)


class _SharedEnvSource(EnvSettingsSource):
    """Variables without the service's name, for the shared fields only."""

    def __init__(self, settings_cls: type[BaseSettings], fields: frozenset[str]) -> None:
        super().__init__(settings_cls, env_prefix=SHARED_PREFIX)
        self._fields = fields

    def __call__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__call__().items() if name in self._fields}


def load_settings(cls: type[S], argv: Sequence[str] | None = None, *, prog: str) -> S:
    """Return the settings from flags, environment and defaults.

    ``--print-config`` prints the effective values and ends the process with 0. Wrong
    values are all reported at once on stderr and end it with 2.

    Args:
        cls: Settings class of the service.
        argv: Flags without the program's name; None = those of the process.
        prog: How the program is called, for its help.
    """
    parser = _build_parser(cls, prog)
    arguments = vars(parser.parse_args(argv))
    print_config = arguments.pop("print_config")
    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        settings = cls(**given)
    except ValidationError as error:
        _exit_with_problems(cls, error, prog)
    if print_config:
        sys.stdout.write(render_config(settings))
        raise SystemExit(0)
    return settings


def render_config(settings: ServiceSettings) -> str:
    """Return the effective values as ``VARIABLE=value`` lines; secrets are masked."""
    lines = [
        f"{env_name(type(settings), name)}={_render(getattr(settings, name))}"
        for name in type(settings).model_fields
    ]
    return "\n".join(lines) + "\n"


def render_table(cls: type[ServiceSettings]) -> str:
    """Return the Markdown table of the settings, for the documentation."""
    rows = ["| variable | flag | default | meaning |", "|---|---|---|---|"]
    for name, field in cls.model_fields.items():
        default = "required" if field.is_required() else f"`{_render(field.get_default())}`"
        secret = _plain_type(field.annotation) is SecretStr
        flag = "none" if secret else f"`{_flag(name)}`"
        rows.append(f"| `{env_name(cls, name)}` | {flag} | {default} | {field.description or ''} |")
    return "\n".join(rows) + "\n"


def env_name(cls: type[ServiceSettings], field: str) -> str:
    """Return the service's own environment variable of a field."""
    return f"{cls.model_config.get('env_prefix', '')}{field}".upper()


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _render(value: object) -> str:
    if isinstance(value, SecretStr):
        return "********"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ",".join(str(part) for part in value)
    return "" if value is None else str(value)


def _build_parser(cls: type[ServiceSettings], prog: str) -> argparse.ArgumentParser:
    summary = (cls.__doc__ or "").strip().splitlines()
    parser = argparse.ArgumentParser(
        prog=prog, description=summary[0] if summary else None, allow_abbrev=False
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print the effective settings and exit"
    )
    for name, field in cls.model_fields.items():
        # Flags can be read by every user of the machine: secrets come from variables.
        if _plain_type(field.annotation) is not SecretStr:
            _add_flag(parser, cls, name, field)
    return parser


def _add_flag(
    parser: argparse.ArgumentParser, cls: type[ServiceSettings], name: str, field: FieldInfo
) -> None:
    default = "required" if field.is_required() else f"default {_render(field.get_default())!r}"
    text = f"{field.description or ''} [{env_name(cls, name)}; {default}]".replace("%", "%%")
    if _plain_type(field.annotation) is bool:
        parser.add_argument(
            _flag(name), action=argparse.BooleanOptionalAction, default=None, help=text
        )
    else:
        parser.add_argument(_flag(name), metavar="VALUE", default=None, help=text)


def _plain_type(annotation: object) -> object:
    """Return T for ``T | None``, else the annotation itself."""
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [part for part in get_args(annotation) if part is not type(None)]
        return rest[0] if len(rest) == 1 else annotation
    return annotation


def _exit_with_problems(cls: type[ServiceSettings], error: ValidationError, prog: str) -> NoReturn:
    lines = [f"{prog}: the settings are not usable:"]
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        path = [str(part) for part in problem["loc"]]
        name = path[0] if path else ""
        where = f"{_flag(name)} ({env_name(cls, name)})" if name in cls.model_fields else name
        lines.append(f"  {where}: {problem['msg']}" if where else f"  {problem['msg']}")
    sys.stderr.write("\n".join(lines) + "\n")
    raise SystemExit(USAGE_EXIT_CODE)
