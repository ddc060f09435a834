"""The estimate beside the reference's own prompts, some of which are made to be odd."""

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from pydantic import ValidationError

from models.checkpoint import Checkpoint
from service.cost import estimate
from service.encoding import read_model
from service.errors import ServiceError
from service.gateway_model import GatewayModel
from steelyard.schema import ScoreOutcomesRequest, ScoreRequest
from tests.conformance.ixc_requests import conversations_of, forms, together
from tests.conformance.visualprm import request_of
from tests.golden import IXC_REWARD, TINY_IXC_REWARD, TINY_VISUAL_PRM, VISUAL_PRM, read_lines
from tests.service.test_cost import encoded, store

# Of the tiny tokenizers, whose thousand pieces are half as long as the released one's.
LEAST = 0.7
# What an estimate may be above twice the tokens: of short prompts most is what surrounds them.
SLACK = 100


def step_requests() -> Iterator[ScoreRequest]:
    for case in read_lines(VISUAL_PRM / "cases.jsonl"):
        yield request_of(case, VISUAL_PRM)


def outcome_requests() -> Iterator[ScoreRequest]:
    for case in read_lines(IXC_REWARD / "cases.jsonl"):
        # Videos, and prompts without their template, are said in other ways.
        if case["type"].startswith("video") or isinstance(case.get("conversation"), str):
            continue
        conversations = conversations_of(case)
        if not all((IXC_REWARD / name).exists() for _, names in conversations for name in names):
            continue
        others = [forms(turns, names, IXC_REWARD) for turns, names in conversations]
        for body in (together(conversations, IXC_REWARD), *(body for way in others for _, body in way)):
            # One has a role that is none of the wire's.
            with suppress(ValidationError):
                yield ScoreOutcomesRequest.model_validate(body)


@pytest.mark.parametrize(
    ("model", "requests"),
    [
        (read_model("prm", Checkpoint(TINY_VISUAL_PRM), None), step_requests),
        (read_model("orm", Checkpoint(TINY_IXC_REWARD), None), outcome_requests),
    ],
    ids=["visualprm", "ixc_reward"],
)
def test_the_references_prompts_are_estimated_within_a_factor(
    model: GatewayModel, requests: Callable[[], Iterator[ScoreRequest]]
) -> None:
    compared = 0
    for request in requests():
        try:
            group = model.ready(request, store())
        except ServiceError:
            continue
        real, guess = encoded(group), estimate(request, model)
        assert real.tiles <= guess.tiles
        assert guess.tokens >= LEAST * real.tokens
        if not guess.tiles and not group.refused:
            assert guess.tokens <= 2 * real.tokens + SLACK
        compared += 1
    assert compared > 20
