"""From what a foreign body asks to numbers alone: every item has one, or the whole call is refused."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastapi import Request
from starlette.requests import ClientDisconnect

from service.catalogue import Catalogue
from service.compat.asking import Group, gather, request_for
from service.compat.choice import Choice
from service.errors import InvalidRequest, NotScored, Unscorable
from service.flight import all_attended, all_groups
from service.gateway_model import GatewayModel
from service.routes import gateway_of, scoring_of, unless_gone
from service.step_model import sigmoid
from steelyard.schema import CandidateScore, ScoreRequest, StepScores

_NAMED = 8


@dataclass(frozen=True, slots=True)
class Weighed:
    """One item's numbers. `score` is the reward as `/score_…` gives it, `bounded` the same between 0 and 1.

    `steps` and `logits` are a process model's, P(+) and log-odds of each step; an outcome model has none.
    """

    score: float
    bounded: float
    steps: tuple[float, ...]
    logits: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Weighing:
    """The items in the caller's order, and what they cost."""

    model: GatewayModel
    items: tuple[Weighed, ...]
    prompt_tokens: int
    cached_tokens: int


def choose(catalogue: Catalogue, name: str | None, kinds: Sequence[str]) -> GatewayModel:
    """The model that is named, or the only one of the first of these kinds that is served; with no kinds, of all.

    Raises UnknownModel, and InvalidRequest when several could be meant.
    """
    if name is not None:
        return catalogue.named(name)
    meant = catalogue.meant(kinds)
    if len(meant) != 1:
        names = ", ".join(model.name for model in meant)
        raise InvalidRequest(f"model: several models could be meant, name one of {names}")
    return meant[0]


async def weigh(
    request: Request, caller: str, model: GatewayModel, choice: Choice, ask: Callable[[], Sequence[Group]], field: str
) -> Weighing:
    """Score all that is asked at once; `ask` runs on a thread. `field` is what the body calls its items.

    Raises what refuses a group, Unscorable and NotScored for an item without a score, and ClientDisconnect.
    """
    scoring, limit = scoring_of(request), gateway_of(request).settings.max_candidates
    groups, requests = await asyncio.to_thread(_requests, ask, model, choice, limit, field)
    flights = scoring.open_together(requests, caller)
    with all_attended(flights):
        answers = await unless_gone(request, all_groups(flights))
    if answers is None:
        # The caller has gone: nobody is left to be answered.
        raise ClientDisconnect
    results = {
        group.places[result.index]: result
        for group, flight in zip(groups, flights, strict=True)
        for result in flight.results
    }
    _check(results, field)
    return Weighing(
        model,
        tuple(_weighed(results[place], choice) for place in sorted(results)),
        prompt_tokens=sum(answer.usage.prompt_tokens for answer in answers),
        cached_tokens=sum(answer.usage.cached_tokens for answer in answers),
    )


def _requests(
    ask: Callable[[], Sequence[Group]], model: GatewayModel, choice: Choice, limit: int, field: str
) -> tuple[Sequence[Group], list[ScoreRequest]]:
    groups = gather(ask())
    count = sum(len(group.places) for group in groups)
    if count > limit:
        raise InvalidRequest(f"{field}: {count}, the limit is {limit}")
    return groups, [request_for(group, model, choice) for group in groups]


def _check(results: dict[int, CandidateScore], field: str) -> None:
    """These bodies have no place for what was not scored. Raises Unscorable and NotScored."""
    missing = [(place, result) for place, result in sorted(results.items()) if result.status != "ok"]
    never = [(place, result) for place, result in missing if not result.retryable]
    if missing:
        told = never or missing
        named = [f"{field}.{place}: {result.status}, {result.detail or 'no reason given'}" for place, result in told]
        more = f"; and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        message = f"no number is made up for what was not scored: {'; '.join(named[:_NAMED])}{more}"
        raise Unscorable(message) if never else NotScored(message)


def _weighed(result: CandidateScore, choice: Choice) -> Weighed:
    assert result.score is not None
    if not isinstance(result, StepScores):
        return Weighed(result.score, sigmoid(result.score), (), ())
    steps = tuple(result.step_scores or ())
    # Of all ways to aggregate only the sum leaves what a probability may be.
    bounded = result.score / len(steps) if choice.aggregate == "sum" else result.score
    return Weighed(result.score, bounded, steps, tuple(result.step_logits or ()))
