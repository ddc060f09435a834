"""The ranking call: what it sends, and that both clients rank through the real server."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from steelyard import AsyncClient, Client
from steelyard.cli import main
from steelyard.errors import IdReused, InvalidCall, InvalidPicture
from steelyard.exchange import Answer, Send
from steelyard.rank_schema import RankResponse
from tests.client.test_calls import RED, Play, lost
from tests.service.running import Running, shared

CIRCLE = Path(__file__).parents[2] / "examples" / "circle.png"
CANDIDATES = ["The picture shows a circle.\n\nIt is red.", ["A square.", "It is blue."], "A triangle."]
BLEND = {"visualprm": 0.7, "ixc_reward": 0.3}
NOBODY = RankResponse(id="i", normalize="none", best=None, ranking=[], results=[], models={})


class Ranked(Play):
    """Answers every ranking with nobody."""

    def _answer(self, send: Send) -> Any:  # noqa: ANN401
        reply = super()._answer(send)
        if send.path == "/rank" and isinstance(reply, Answer) and reply.status == 200:
            return Answer(200, {}, NOBODY.model_dump_json().encode())
        return reply


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Running:
    return shared(request.session)


def test_only_what_the_caller_said_is_sent_and_an_id() -> None:
    play = Ranked()
    play.run(play.calls.rank("Which?", [], ["x"]))
    (body,) = play.bodies("/rank")
    assert len(body.pop("id")) == 32
    defaults = {"aggregate": "mean", "control_tokens": "parse", "priority": "online", "weights": {}}
    assert body == {"question": "Which?", "images": [], "candidates": ["x"], **defaults}
    assert play.sent[0].timeout_s == 60


def test_messages_take_the_questions_place_and_pictures_go_up_once() -> None:
    play = Ranked()
    part = {"type": "image_url", "image_url": {"url": RED.content}}
    play.run(
        play.calls.rank([{"role": "user", "content": [part]}], [RED.content], ["x"], blend=BLEND, normalize="rank")
    )
    assert play.paths == ["/images", "/rank"]
    (body,) = play.bodies("/rank")
    assert body["messages"][0]["content"][0]["image_url"]["url"] == RED.id
    assert (body["images"], body["blend"], "question" in body) == ([RED.id], BLEND, False)


def test_a_picture_that_keeps_vanishing_travels_with_the_ranking() -> None:
    play = Ranked(None, lost(RED.id), None, lost(RED.id))
    play.run(play.calls.rank("Which?", [RED.content], ["x"]))
    assert play.paths == ["/images", "/rank", "/images", "/rank", "/rank"]
    assert json.loads(play.sent[-1].content)["images"] != [RED.id]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"question": 7}, InvalidCall),
        ({"images": "circle.png"}, InvalidPicture),
        ({"candidates": []}, InvalidCall),
        ({"blend": {}}, InvalidCall),
        ({"blend": BLEND, "model": "visualprm"}, InvalidCall),
        ({"timeout_s": 0}, InvalidCall),
    ],
)
def test_what_cannot_be_a_ranking_is_not_sent(fields: dict[str, Any], error: type[Exception]) -> None:
    play = Ranked()
    with pytest.raises(error):
        play.run(play.calls.rank(**{"question": "?", "images": [], "candidates": ["x"]} | fields))
    assert play.sent == []


def test_both_clients_rank_alike(server: Running) -> None:
    with Client(server.url) as client:
        one = client.rank("Which shape is red?", [CIRCLE], CANDIDATES, blend=BLEND, id="both clients")

    async def ask() -> RankResponse:
        async with AsyncClient(server.url) as client:
            return await client.rank("Which shape is red?", [CIRCLE], CANDIDATES, blend=BLEND, id="both clients")

    assert asyncio.run(ask()) == one
    assert sorted(one.ranking) == [0, 1, 2]
    with Client(server.url) as client, pytest.raises(IdReused):
        client.rank("Which shape is red?", [CIRCLE], CANDIDATES, model="visualprm", id="both clients")


def test_the_command_ranks_by_a_blend(server: Running, capfd: pytest.CaptureFixture[str]) -> None:
    group = ("--question", "Which shape is red?", "--candidate", "A circle.\n\nIt is red.", "--candidate", "A square.")
    blend = ("--blend", "visualprm=0.7", "--blend", "ixc_reward=0.3", "--url", server.url)
    assert main(["rank", "--image", str(CIRCLE), *group, *blend]) == 0
    table = capfd.readouterr().out
    assert table.count("★") == 1
    assert "(visualprm 0." in table
    assert main(["rank", *group, "--candidate", "word " * 9000, *blend, "--json"]) == 3
    answer = RankResponse.model_validate_json(capfd.readouterr().out)
    assert (answer.results[2].status, answer.normalize) == ("too_long", "zscore")
    assert main(["rank", *group, *blend, "--model", "visualprm"]) == 1
    assert "--model and --blend" in capfd.readouterr().err


@pytest.mark.parametrize("share", ["a", "a=", "=1", "a=0", "a=nan", "a=x"])
def test_a_share_of_a_blend_is_a_name_and_a_weight(share: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["rank", "--question", "?", "--candidate", "x", "--blend", share])
    assert "--blend" in capfd.readouterr().err
