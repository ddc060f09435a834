"""The wire of `POST /verify`: rewards that a specification computes, without a model."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from steelyard.rewards import Specification
from steelyard.schema import MOST_ITEMS, Wire, WireRequest

VerifyStatus = Literal["ok", "refused", "too_long", "timed_out", "expired", "failed"]

# Told apart by type, so that a mistake in a term is not also reported as a name that is none.
NameOrSpecification = Annotated[
    Annotated[str, Tag("[name]")] | Annotated[Specification, Tag("[object]")],
    Discriminator(lambda given: "[name]" if isinstance(given, str) else "[object]"),
]


class VerifyItem(WireRequest):
    """A response, and what it is to be compared with."""

    response: str
    truth: str | None = Field(None, description="The solution; null where no term of the specification reads it.")
    served: dict[str, float] | None = Field(None, description="Served model → its score, where a term blends it in.")
    id: str | None = Field(None, min_length=1, max_length=256, description="Yours; comes back with the result.")


class VerifyRequest(WireRequest):
    """Items to be weighed by one specification."""

    specification: NameOrSpecification = Field(description="The name of a shipped one, or an object.")
    items: list[VerifyItem] = Field(min_length=1, max_length=MOST_ITEMS, fail_fast=True)
    time_limit_ms: int | None = Field(
        None, ge=1, le=2**31, description="For each item; null and at most the server's own, 1000 by default."
    )
    deadline_ms: int | None = Field(
        None, ge=1, le=2**53, description="Null: 60 s. What is not begun by then is `expired`."
    )
    id: str | None = Field(None, min_length=1, max_length=256, description="Yours; comes back with the answer.")


class VerifiedItem(Wire):
    """What became of one item; `reward` is null unless `status` is `ok`."""

    index: int
    id: str | None = None
    status: VerifyStatus
    reward: float | None = None
    parts: dict[str, float] = Field({}, description="Each term's own value before its weight, by the term's name.")
    retryable: bool | None = Field(None, description="Whether to try again when there is no reward.")
    detail: str | None = None


class VerifiedBy(Wire):
    """What exactly computed the rewards."""

    name: str | None = Field(description="Of the shipped specification.")
    digest: str = Field(description="Of the specification, every default spelt out.")
    math_verify: str | None = Field(description="The version, where mathematics is compared.")
    version: str


class VerifyTimings(Wire):
    """Milliseconds: until a worker took the first item, and in all."""

    queue: float
    total: float


class VerifyResponse(Wire):
    """One result an item, in the caller's order."""

    id: str
    object: Literal["verification"] = "verification"
    results: list[VerifiedItem]
    specification: VerifiedBy
    timings_ms: VerifyTimings
