"""The specification of a call: a shipped one by its name, or the caller's own, checked once."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec

from pydantic import BaseModel, ValidationError

from service.body import describe
from service.errors import InvalidRequest
from steelyard.rewards import SHIPPED, Specification
from steelyard.verify_schema import NameOrSpecification

_MOST_BYTES = 2**16
_KEPT = 256


@dataclass(frozen=True, slots=True)
class Known:
    """A valid specification: as JSON with every default spelt out, and what its items must bring."""

    content: bytes
    name: str | None
    digest: str
    math_verify: str | None
    served_models: tuple[str, ...]
    needs_truth: bool

    @property
    def needs_preload(self) -> bool:
        """Whether it compares mathematics."""
        return self.math_verify is not None


class _Given(BaseModel):
    specification: NameOrSpecification


@lru_cache(_KEPT)
def read_specification(given: bytes) -> Known:
    """A specification as it stands in a body. Raises InvalidRequest that names the term at fault."""
    if len(given) > _MOST_BYTES:
        raise InvalidRequest(f"specification: {len(given)} bytes, the limit is {_MOST_BYTES}")
    try:
        specification = _Given.model_validate_json(b'{"specification":' + given + b"}").specification
    except ValidationError as error:
        raise InvalidRequest(describe(error)) from None
    if not isinstance(specification, str):
        return _known(None, specification)
    if specification not in SHIPPED:
        raise InvalidRequest(f"specification: {specification[:64]!r} is none that is shipped; {_names(SHIPPED)} are")
    return _known(specification, SHIPPED[specification])


def _known(name: str | None, specification: Specification) -> Known:
    math_verify = None
    if specification.may_take_long:
        if find_spec("math_verify") is None:
            raise InvalidRequest("specification: it compares mathematics, and this server has no math-verify")
        math_verify = metadata.version("math-verify")
    content = specification.model_dump_json().encode()
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    return Known(content, name, digest, math_verify, specification.served_models, needs_truth=specification.needs_truth)


def _names(specifications: Mapping[str, Specification]) -> str:
    return ", ".join(specifications)
