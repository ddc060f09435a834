"""ms-swift's four forms, called as its trainer and its sampler call them."""

import asyncio
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import steelyard.trainers.swift
from steelyard.errors import InvalidCall
from steelyard.trainers import NotScored, Options, Scorer
from steelyard.trainers.swift import AsyncReward, Reward, RewardModelPlugin, StepReward
from tests.client.trainers.asked import CLOSE, CONTROL, PICTURE, QUESTION, RESPONSES, scores, steps


@dataclass
class Request:
    """swift's InferRequest, as far as it is read."""

    messages: list[dict[str, str]]
    images: list[str]


def messages(response: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"<image>\n{QUESTION}"}, {"role": "assistant", "content": response}]


def columns(responses: list[str]) -> dict[str, Any]:
    return {
        "messages": [messages(text) for text in responses],
        "images": [[{"bytes": None, "path": PICTURE}] for _ in responses],
        "solution": ["circle"] * len(responses),
        "trainer_state": None,
    }


def made(kind: Any, scorer: Scorer) -> Any:  # noqa: ANN401
    """An instance as swift makes it, of a class as a plug-in has it."""
    return type("Mine", (kind,), {"scorer": scorer})(args=None)


@pytest.fixture
def scorer(scoring: Callable[[Options], Scorer]) -> Scorer:
    return scoring(Options(control_tokens="refuse"))


def test_orm_scores_a_batch_of_completions(url: str, scorer: Scorer) -> None:
    found = made(Reward, scorer)(RESPONSES, **columns(RESPONSES))
    assert found == pytest.approx(scores(url), abs=CLOSE)


def test_async_orm_is_a_coroutine_function_and_outlives_its_event_loop(url: str, scorer: Scorer) -> None:
    reward = made(AsyncReward, scorer)
    assert asyncio.iscoroutinefunction(reward.__call__)
    for _ in range(2):
        found = asyncio.run(reward(RESPONSES, **columns(RESPONSES)))
        assert found == pytest.approx(scores(url), abs=CLOSE)


def test_prm_gives_the_scores_of_the_steps(url: str, scorer: Scorer) -> None:
    requests = [Request(messages(text), [PICTURE]) for text in RESPONSES]
    found = made(StepReward, scorer)(requests, ground_truths=["circle"] * 2, request_config=None)
    for one, wanted in zip(found, steps(url), strict=True):
        assert one == pytest.approx(wanted.step_scores, abs=CLOSE)
    assert made(Reward, scorer)(requests, request_config=None) == pytest.approx(scores(url), abs=CLOSE)


def test_a_reward_model_plugin_reads_rows(url: str, scorer: Scorer) -> None:
    plugin = type("Mine", (RewardModelPlugin,), {"scorer": scorer})(model=None, template=None)
    rows = [{"messages": messages(text), "images": [PICTURE], "solution": "circle"} for text in RESPONSES]
    assert plugin(inputs=rows, **columns(RESPONSES)) == pytest.approx(scores(url), abs=CLOSE)


@pytest.mark.parametrize("kind", [Reward, StepReward])
def test_a_response_without_a_score_is_an_exception_since_swift_adds_none_up_as_0(scorer: Scorer, kind: Any) -> None:  # noqa: ANN401
    requests = [Request(messages(text), [PICTURE]) for text in (RESPONSES[0], CONTROL)]
    with pytest.raises(NotScored, match="1: refused"):
        made(kind, scorer)(requests)


@pytest.mark.parametrize("given", [{}, {"messages": "What?"}, {"messages": [[{"role": "user", "content": "?"}]] * 3}])
def test_columns_that_do_not_fit_are_refused(scorer: Scorer, given: dict[str, Any]) -> None:
    with pytest.raises((InvalidCall, ValueError)):
        made(Reward, scorer)(RESPONSES, **given)


def test_a_row_that_the_policy_does_not_end_is_refused(scorer: Scorer) -> None:
    with pytest.raises(InvalidCall, match="last message"):
        made(StepReward, scorer)([Request(messages("?")[:1], [PICTURE])])


def test_the_module_is_no_plugin_itself() -> None:
    """swift would put its folder on the path, where `trl.py` would hide TRL."""
    spec = importlib.util.spec_from_file_location("_swift_external_ab12", steelyard.trainers.swift.__file__)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError, match="no plug-in"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
