"""Every setting of the server, from the command line and from `STEELYARD_*` variables, read once at the start."""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

_PREFIX = "STEELYARD_"
# How the address of a queue in Redis begins.
SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
# Read by the client, which may live in the same environment; the key that it reads is one of the server's.
_CLIENTS_OWN = {"STEELYARD_URL"}
DEMO = Path(__file__).parents[1] / "demo"
MIB = 2**20


class SettingsError(Exception):
    """A setting is unknown or wrong; the message is one line that names it."""


class Settings(BaseModel):
    """The server's settings; the command line wins over the environment, the environment over these defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: tuple[str, ...] = Field(
        (f"visualprm={DEMO / 'visualprm'}", f"ixc_reward={DEMO / 'ixc_reward'}"),
        description="NAME=DIRECTORY or NAME=ORG/REPO@REVISION; repeatable",
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 picks a free one")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the models live")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto is bfloat16 on a GPU; on a CPU it is the checkpoint's, where the CPU multiplies it"
    )
    batch_invariant: bool = Field(False, description="the same bits whatever the batch, the order and the caches")
    queue: str = Field("memory", description="memory, or redis://HOST:PORT/DB, rediss://…, redis+sentinel://…")
    max_tokens: int | None = Field(None, ge=1, description="longest prompt scored; default 4 × max_position_embeddings")
    api_key: tuple[str, ...] = Field((), description="keys callers must bear, repeatable; none means open")
    admin_key: tuple[str, ...] = Field(
        (), description="keys that open every route, /admin/… too; repeatable; none closes /admin/…"
    )

    max_body_bytes: int = Field(64 * MIB, ge=1024, description="largest request body")
    max_reading_bytes: int = Field(
        2048 * MIB, ge=1024, description="bytes of the bodies of all the calls that are being read or waited for"
    )
    max_image_bytes: int = Field(20 * MIB, ge=64, description="largest picture file")
    max_image_pixels: int = Field(50_000_000, ge=1, description="largest picture, width × height")
    max_call_pixels: int = Field(1_000_000_000, ge=1, description="pixels of all the different pictures of a call")
    max_images: int = Field(64, ge=1, description="pictures, video frames too, in a group or a conversation")
    max_candidates: int = Field(1024, ge=1, description="candidates or conversations in a group")
    max_candidate_steps: int = Field(10_000, ge=1, description="steps in a candidate")
    max_waiting: int = Field(4096, ge=1, description="groups accepted and not yet answered; more are refused with 429")
    max_waiting_tokens: int = Field(32_000_000, ge=1, description="tokens of those groups, estimated")
    max_waiting_tiles: int = Field(65_536, ge=1, description="tiles of their pictures, estimated")
    online_share: float = Field(
        0.2, ge=0, lt=1, description="share of the three that train leaves to online; batch leaves it to train as well"
    )
    key_tokens_per_minute: int | None = Field(
        None, ge=1, description="estimated tokens that a key may send in a minute"
    )
    key_share: float = Field(1.0, gt=0, le=1, description="share of the three that one key may hold at a time")
    image_store_bytes: int = Field(512 * MIB, ge=0, description="bytes of uploaded pictures kept")
    image_ttl_s: float = Field(3600.0, gt=0, description="seconds that a picture lives after its last use")
    replay_s: float = Field(600.0, gt=0, description="seconds that an answer is kept for a repeated id")
    replay_bytes: int = Field(256 * MIB, ge=0, description="bytes of answers kept for repeated ids")

    queue_tokens: int = Field(64_000_000, ge=1, description="tokens that may wait in Redis; more are refused with 429")
    result_cache: bool = Field(True, description="give the stored result to whoever asks the same again, with Redis")
    result_s: float = Field(600.0, ge=1, description="seconds that Redis keeps a result")
    result_bytes: int = Field(256 * MIB, ge=0, description="bytes of results that Redis keeps")
    steal_ms: int = Field(100, ge=1, description="how long a job waits for the worker that knows its prefix")
    metrics_port: int = Field(0, ge=0, le=65535, description="port of a worker's metrics; 0 shows none")
    job_ttl_s: float = Field(604_800.0, gt=0, description="seconds that a job or upload is kept after its last use")
    job_groups: int = Field(10_000_000, ge=1, description="groups in a job")
    job_line_bytes: int = Field(16 * MIB, ge=64, description="largest group of a job")
    jobs_bytes: int = Field(1024 * MIB, ge=0, description="bytes of all the jobs, their rows and uploads; then 429")
    job_concurrency: int = Field(32, ge=1, description="groups of jobs that a gateway has under way")
    job_lease_s: float = Field(30.0, gt=0, description="seconds after which a dead gateway's groups go to another")

    verify_workers: int = Field(1, ge=1, le=256, description="processes that compute the rewards of /verify")
    verify_items: int = Field(1024, ge=1, description="items in a call of /verify")
    verify_waiting_items: int = Field(
        65_536, ge=1, description="items accepted and not yet answered; more are refused with 429"
    )
    verify_time_limit_ms: int = Field(1000, ge=1, le=600_000, description="milliseconds that an item may take, at most")
    verify_memory_bytes: int = Field(
        512 * MIB, ge=16 * MIB, description="memory that such a process may take for items"
    )
    verify_characters: int = Field(2**20, ge=1, description="characters of an item, response and truth together")

    prefix_cache_bytes: int = Field(
        512 * MIB, ge=0, description="keys and values kept of prompts, by all models together; 0 keeps none"
    )
    vision_cache_bytes: int = Field(256 * MIB, ge=0, description="pictures' features kept; 0 keeps none")
    batch_tokens: int = Field(16_384, ge=1, description="tokens in one forward")
    batch_tiles: int = Field(64, ge=1, description="tiles in one forward")
    threads: int | None = Field(None, ge=1, description="threads of the engine on a CPU; default one a core")
    token_cache_bytes: int = Field(64 * MIB, ge=0, description="bytes of texts kept with their tokens; 0 keeps none")
    encode_threads: int = Field(
        min(4, os.cpu_count() or 1), ge=1, description="threads that tokenise and check pictures"
    )
    drain_s: int = Field(120, ge=0, description="seconds that a stop waits for accepted groups")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="how much to log")

    @field_validator("model")
    @classmethod
    def _named(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        names = [model.partition("=")[0] for model in models]
        for model, name in zip(models, names, strict=True):
            if not name or not model.partition("=")[2]:
                raise ValueError(f"{model!r} is not of the form NAME=DIRECTORY or NAME=ORG/REPO@REVISION")
            if names.count(name) > 1:
                raise ValueError(f"the name {name!r} is given twice")
        return models

    @field_validator("api_key", "admin_key")
    @classmethod
    def _keys_say_something(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        if any(not key.strip() for key in keys):
            raise ValueError("a key must not be empty")
        return keys

    @field_validator("queue")
    @classmethod
    def _known_queue(cls, value: str) -> str:
        if value != "memory" and value.partition("://")[0] not in SCHEMES:
            raise ValueError(f"{value.partition('://')[0]!r} is neither memory nor one of {', '.join(SCHEMES)}")
        return value

    @property
    def models(self) -> dict[str, str]:
        """Served name → directory or hub id."""
        return {name: source for name, _, source in (model.partition("=") for model in self.model)}


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Raises SettingsError for an unknown variable and for any bad value, naming it; argparse exits on its own."""
    given = _from_environment(environment) | _from_arguments(arguments)
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        option = "--" + name.replace("_", "-")
        reason = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{option} (or {_PREFIX}{name.upper()}): {reason}") from None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; `python -m service --help` lists the options")


def _is_list(name: str) -> bool:
    return isinstance(Settings.model_fields[name].default, tuple)


def _from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    given: dict[str, object] = {}
    for variable, value in environment.items():
        if not variable.startswith(_PREFIX) or variable in _CLIENTS_OWN:
            continue
        name = variable.removeprefix(_PREFIX).lower()
        if name not in Settings.model_fields:
            raise SettingsError(f"{variable}: there is no such setting; `python -m service --help` lists them")
        if not value.strip():
            raise SettingsError(f"{variable}: it is set, but empty")
        given[name] = tuple(value.split()) if _is_list(name) else value
    return given


def _from_arguments(arguments: Sequence[str]) -> dict[str, object]:
    parser = _Parser(
        prog="python -m service",
        description="Serve reward models over HTTP.",
        epilog=f"Every option is also a variable: --max-tokens is {_PREFIX}MAX_TOKENS; lists are separated by spaces.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    for name, field in Settings.model_fields.items():
        option, text = "--" + name.replace("_", "-"), (field.description or "").replace("%", "%%")
        if isinstance(field.default, bool):
            parser.add_argument(option, action=argparse.BooleanOptionalAction, help=text)
        else:
            default = "" if field.default is None or field.default == () else f" (default {field.default})"
            action = "append" if _is_list(name) else "store"
            parser.add_argument(option, action=action, metavar=name.upper(), help=text + default)
    return vars(parser.parse_args(arguments))
