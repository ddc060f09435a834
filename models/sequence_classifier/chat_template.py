"""A checkpoint's chat template, rendered in Jinja's sandbox with the names that transformers gives it. Torch-free."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

_LONGEST_REASON = 300


class TemplateRefused(Exception):
    """The template cannot or will not render a conversation; the message says why."""


class ChatTemplate:
    """Safe to use from several threads.

    A template that asks for the date is given that of the day on which it was read, so that a score stays the same.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, object]) -> None:
        """Raises TemplateRefused for what is no template."""
        self._special_tokens = dict(special_tokens)
        read_at = datetime.now().astimezone().replace(tzinfo=None)
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = read_at.strftime
        environment.globals["dict"] = _Dict()
        environment.globals["namespace"] = _Namespace
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise TemplateRefused(_reason(error)) from error

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Raises TemplateRefused, also for no messages at all: transformers refuses those itself."""
        if not messages:
            raise TemplateRefused("the conversation is empty")
        # A template may write into what it is given.
        given = [dict(message) for message in messages]
        try:
            return self._template.render(
                {**self._special_tokens, "messages": given, "tools": None, "documents": None},
                add_generation_prompt=False,
            )
        except Exception as error:
            raise TemplateRefused(_reason(error)) from error


class _Generation(Extension):
    """`{% generation %}` marks what trainers learn from; here it is its text."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("_text"), [], [], body).set_lineno(line)

    def _text(self, caller: Macro) -> str:
        return str(caller())


class _Dict:
    """What a template may do with `dict`, without the class itself."""

    def __call__(self, *pairs: Iterable[tuple[str, object]], **named: object) -> dict[str, object]:
        return dict(*pairs, **named)

    def fromkeys(self, keys: Iterable[str], value: object = None) -> dict[str, object]:
        return dict.fromkeys(keys, value)


class _Namespace(Namespace):
    """A place for a template's variables, whose names are not Python's own."""

    def __init__(*args: Any, **named: object) -> None:  # noqa: ANN401
        # A variable may be called self.
        self, *pairs = args
        variables = dict(*pairs, **named)
        for name in variables:
            _check_name(name)
        Namespace.__init__(self, variables)

    def __setitem__(self, name: str, value: object) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace holds nothing that is named {name!r}")


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Unlike Jinja's own it escapes nothing for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _reason(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return first if len(first) <= _LONGEST_REASON else first[:_LONGEST_REASON] + " …"
