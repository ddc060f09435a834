"""TRL's rows as it calls for them: columns, conversations and pictures in its forms become the right samples."""

import asyncio
import inspect
import io
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
from PIL import Image

from steelyard import Client, Retry
from steelyard.errors import InvalidCall
from steelyard.trainers.completions import text_of_completion
from steelyard.trainers.options import Options
from steelyard.trainers.trl import AsyncRewardFunction, RewardFunction
from tests.client.scripted import says, scripted
from tests.service.running import Running, shared

QUESTION = "Which shape is red?"
SAID = ["I see a circle.\n\nIt is red.", "A square."]
MESSAGES: list[Mapping[str, object]] = [{"role": "user", "content": QUESTION}]


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Running:
    return shared(request.session)


def picture() -> Image.Image:
    """Another object every time."""
    return Image.linear_gradient("L").resize((32, 32)).convert("RGB")


def content() -> bytes:
    file = io.BytesIO()
    picture().save(file, "PNG")
    return file.getvalue()


def talked(text: str) -> list[Mapping[str, object]]:
    return [{"role": "assistant", "content": text}]


def shown() -> list[dict[str, object]]:
    """A prompt as TRL makes it of an `image` column."""
    return [{"role": "user", "content": [{"type": "image", "image": picture()}, {"type": "text", "text": QUESTION}]}]


@pytest.mark.parametrize(
    "given",
    [
        {"prompts": [QUESTION] * 2, "completions": SAID, "image": [picture(), picture()]},
        {"prompts": [QUESTION] * 2, "completions": SAID, "images": [[picture()], [content()]]},
        {"prompts": [QUESTION] * 2, "completions": SAID, "image": [{"bytes": content(), "path": None}] * 2},
        {"prompts": [MESSAGES] * 2, "completions": [talked(text) for text in SAID], "image": [picture(), picture()]},
        {"prompts": [shown(), shown()], "completions": [talked(text) for text in SAID], "image": [picture()] * 2},
    ],
)
def test_a_row_is_scored_as_its_question_picture_and_completion(server: Running, given: dict[str, Any]) -> None:
    reward = RewardFunction(server.url)
    rewards = reward(completion_ids=[[1], [2]], trainer_state=object(), answer=["circle"] * 2, **given)
    with Client(server.url) as client:
        direct = client.score_steps(QUESTION, [content()], SAID, control_tokens="literal").results
    assert rewards == pytest.approx([result.score for result in direct], abs=1e-5)
    reward.scorer.close()


def test_columns_may_have_other_names_and_rows_no_picture(server: Running) -> None:
    reward = RewardFunction(server.url, question_column="asked", image_column="seen")
    rewards = reward(prompts=["Think first."] * 2, completions=SAID, asked=[QUESTION] * 2, seen=[None, []])
    with Client(server.url) as client:
        direct = client.score_steps(QUESTION, [], SAID, control_tokens="literal").results
    assert rewards == pytest.approx([result.score for result in direct], abs=1e-5)
    with pytest.raises(InvalidCall, match=r"no column 'seen'; it has \['answer'\]"):
        reward(prompts=["x"], completions=["y"], answer=["z"])
    reward.scorer.close()


def test_an_outcome_model_rewards_conversations(server: Running) -> None:
    reward = AsyncRewardFunction(server.url, options=Options(kind="outcome"), name="outcome")
    turns: list[Mapping[str, object]]
    turns = [*MESSAGES, *talked("The circle."), {"role": "user", "content": "Sure?"}]

    async def run() -> list[float | None]:
        async with reward.scorer:
            return await reward(prompts=[turns] * 2, completions=[talked(text) for text in SAID])

    with Client(server.url) as client:
        direct = client.score_outcomes(turns, SAID, control_tokens="literal").results
    assert asyncio.run(run()) == pytest.approx([result.score for result in direct], abs=1e-5)


def test_what_has_no_score_is_none_and_is_counted_and_explained() -> None:
    metrics: list[tuple[str, float]] = []
    columns: list[tuple[str, list[str]]] = []
    with scripted(says(502)) as down:
        reward = RewardFunction(down.url, name="prm", retry=Retry(max_retries=0))
        rewards = reward(
            prompts=["a", "b"],
            completions=["x", "y"],
            log_metric=lambda *metric: metrics.append(metric),
            log_extra=lambda *column: columns.append(column),
        )
        reward.scorer.close()
    assert rewards == [None, None]
    assert metrics == [("prm/unscored", 1.0)]
    ((name, reasons),) = columns
    assert name == "prm_status"
    assert all(reason.startswith("status_502: ") for reason in reasons)


def test_trl_sees_a_name_and_which_form_is_to_be_awaited() -> None:
    reward = pickle.loads(pickle.dumps(RewardFunction("http://127.0.0.1:1", name="prm")))
    assert reward.__name__ == "prm"
    assert not inspect.iscoroutinefunction(reward.__call__)
    assert inspect.iscoroutinefunction(AsyncRewardFunction("http://127.0.0.1:1").__call__)


def test_a_completion_with_tools_is_what_the_assistant_says() -> None:
    turns = [
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "content": "42"},
        {"role": "assistant", "content": [{"type": "text", "text": "It is "}, {"type": "text", "text": "42."}]},
        {"role": "assistant", "content": "Done."},
    ]
    assert text_of_completion(turns) == "It is 42.\n\nDone."
    assert text_of_completion([]) == ""


@pytest.mark.parametrize("wrong", [None, 7, ["x"]])
def test_a_completion_that_is_none_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidCall, match="a completion is"):
        text_of_completion(wrong)
