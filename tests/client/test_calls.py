"""The scripts themselves, played by hand: what is sent, in which order, and what is made of the replies."""

import base64
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from steelyard.calls import Calls
from steelyard.errors import (
    BadAnswer,
    ConnectionFailed,
    InvalidCall,
    InvalidPicture,
    InvalidRequest,
    SteelyardError,
    Unavailable,
    UnknownImage,
)
from steelyard.exchange import Alone, Answer, Chance, Reply, Script, Send, Wait, Work
from steelyard.pictures import PictureLike, picture_of
from steelyard.retry import Retry
from steelyard.schema import Conversation, ImagePart, ImageURL, Message, ScoreStepsRequest, StoredImage, TextPart
from tests.client.answers import serves
from tests.client.scripted import Said, Seen, refuses

Result = TypeVar("Result")
RED, BLUE = (picture_of(name) for name in (b"red", b"blue"))
QUESTION: tuple[str, list[PictureLike], list[str]] = ("Which?", [], ["x"])


class Play:
    """Plays a script against given replies; time passes only while it waits."""

    def __init__(self, *replies: Said | SteelyardError | None, retry: Retry | None = None) -> None:
        self.now_s = 0.0
        self.sent: list[Send] = []
        self.waits: list[float] = []
        self._replies = list(replies)
        self.calls = Calls(retry or Retry(), chance=Chance(lambda: self.now_s, lambda: 0.5))

    def run(self, script: Script[Result]) -> Result:
        reply: Reply = None
        while True:
            try:
                effect = script.send(reply)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            reply = self._do(effect)

    def bodies(self, path: str) -> list[Any]:
        return [json.loads(send.content) for send in self.sent if send.path == path]

    @property
    def paths(self) -> list[str]:
        return [send.path for send in self.sent]

    def _do(self, effect: Send | Wait | Work | Alone) -> Reply:
        if isinstance(effect, Send):
            return self._answer(effect)
        if isinstance(effect, Wait):
            self.waits.append(effect.seconds)
            self.now_s += effect.seconds
        elif isinstance(effect, Work):
            effect.run()
        else:
            self.run(effect.script)
        return None

    def _answer(self, send: Send) -> Reply:
        self.sent.append(send)
        reply = self._replies.pop(0) if self._replies else None
        if reply is None:
            reply = serves(Seen(send.method, send.path, {}, send.content))
        return Answer(reply.status, reply.headers, reply.body) if isinstance(reply, Said) else reply


def said(status: int, code: str, message: str = "not now", **headers: str) -> Said:
    answer = refuses(status, code, message, **headers)(Seen("", "", {}, b""))
    assert answer is not None
    return answer


BUSY, GONE = said(503, "unavailable"), ConnectionFailed("reset")


def lost(*images: str) -> Said:
    return said(404, "unknown_image", f"not stored here (any more): {', '.join(images)}; send them again")


# What is sent


def test_only_what_the_caller_said_is_sent_and_an_id() -> None:
    play = Play()
    play.run(play.calls.score_steps(*QUESTION))
    (body,) = play.bodies("/score_steps")
    assert len(body.pop("id")) == 32
    defaults = {"mode": "steps", "aggregate": "mean", "control_tokens": "parse", "priority": "train"}
    assert body == {"question": "Which?", "images": [], "candidates": ["x"], **defaults}


def test_every_option_reaches_the_wire() -> None:
    play = Play()
    options: dict[str, Any] = {
        "model": "m",
        "weights": "w",
        "mode": "whole",
        "max_steps": 3,
        "max_tiles": 4,
        "aggregate": "min",
        "control_tokens": "refuse",
        "priority": "online",
        "deadline_ms": 500,
        "id": "mine",
    }
    play.run(play.calls.score_steps("Which?", [], ["x", ("a", "b")], **options))
    (body,) = play.bodies("/score_steps")
    assert body == {"question": "Which?", "images": [], "candidates": ["x", ["a", "b"]], **options}


@pytest.mark.parametrize(
    ("options", "timeout_s"),
    [
        ({}, 930),
        ({"priority": "online"}, 60),
        ({"priority": "batch"}, float("inf")),
        ({"priority": "batch", "deadline_ms": 5000}, 35),
        ({"timeout_s": 7.0}, 7),
    ],
)
def test_an_attempt_lasts_as_long_as_its_deadline_and_some_grace(options: Any, timeout_s: float) -> None:  # noqa: ANN401
    play = Play()
    play.run(play.calls.score_steps(*QUESTION, **options))
    assert [send.timeout_s for send in play.sent] == [timeout_s]


def test_pictures_go_up_before_the_question_and_only_once() -> None:
    play = Play()
    for _ in range(2):
        play.run(play.calls.score_steps("Which?", [RED.content, BLUE.content, RED.content], ["x"]))
    assert play.paths == ["/images", "/images", "/score_steps", "/score_steps"]
    assert [send.content for send in play.sent[:2]] == [RED.content, BLUE.content]
    assert all(body["images"] == [RED.id, BLUE.id, RED.id] for body in play.bodies("/score_steps"))


def test_a_picture_in_a_part_is_sent_like_any_other() -> None:
    play = Play()
    data = "data:;base64," + base64.b64encode(BLUE.content).decode()
    image = Image.new("RGB", (2, 2))
    messages: Sequence[Any] = [
        {"role": "system", "content": "Look."},
        Message(role="user", content=[TextPart(text="It:"), ImagePart(image_url=ImageURL(url=data), type="image_url")]),
        {
            "role": "user",
            "content": (
                {"type": "text", "text": "And:"},
                {"type": "image_url", "image_url": {"url": RED.content}},
                {"type": "video_frames", "frames": [image, RED.id]},
            ),
        },
    ]
    answer = play.run(play.calls.score_outcomes(messages, ["x"], [RED.content]))
    assert answer.results[0].score == -3.5
    assert play.paths == ["/images"] * 3 + ["/score_outcomes"]
    (body,) = play.bodies("/score_outcomes")
    frame = body["messages"][2]["content"][2]["frames"][0]
    assert frame in {picture_of(send.content).id for send in play.sent[:3]} - {RED.id, BLUE.id}
    assert body["images"] == [RED.id]
    assert body["messages"][0] == {"role": "system", "content": "Look."}
    assert body["messages"][1]["content"] == [
        {"type": "text", "text": "It:"},
        {"type": "image_url", "image_url": {"url": BLUE.id}},
    ]
    assert body["messages"][2]["content"] == [
        {"type": "text", "text": "And:"},
        {"type": "image_url", "image_url": {"url": RED.id}},
        {"type": "video_frames", "frames": [frame, RED.id]},
    ]


def test_whole_conversations_bring_their_own_pictures() -> None:
    play = Play()
    turn = {"role": "user", "content": "<ImageHere>"}
    conversations: Sequence[Any] = [
        {"messages": [turn], "images": [RED.content]},
        {"messages": []},
        Conversation(messages=[Message(role="user", content="hi")], images=[BLUE.id]),
    ]
    play.run(play.calls.score_conversations(conversations, model="m"))
    (body,) = play.bodies("/score_outcomes")
    assert body["conversations"] == [
        {"messages": [turn], "images": [RED.id]},
        {"messages": [], "images": []},
        {"messages": [{"role": "user", "content": "hi"}], "images": [BLUE.id]},
    ]
    assert "messages" not in body
    assert play.paths == ["/images", "/score_outcomes"]


# What is refused before anything is sent


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"candidates": []}, "candidates: "),
        ({"candidates": "x"}, "candidates: "),
        ({"candidates": [[]]}, "candidates.0: "),
        ({"candidates": ["x", 3]}, "candidates.1: "),
        ({"question": None}, "question: "),
        ({"question": "half \ud800"}, "surrogate"),
        ({"candidates": ["half \udfff"]}, "surrogate"),
        ({"aggregate": "median"}, "aggregate: "),
        ({"max_tiles": 0}, "max_tiles: "),
        ({"id": ""}, "id: "),
        ({"timeout_s": 0}, "timeout_s: "),
        ({"timeout_s": float("nan")}, "timeout_s: "),
    ],
)
def test_a_call_that_the_wire_does_not_allow_is_never_sent(options: Any, word: str) -> None:  # noqa: ANN401
    play = Play()
    with pytest.raises(InvalidCall, match=word):
        play.run(play.calls.score_steps(**{"question": "q", "images": [RED.content], "candidates": ["x"]} | options))
    assert play.sent == []


@pytest.mark.parametrize(
    "messages",
    [
        "hello",
        None,
        [3],
        [{"role": "robot", "content": "x"}],
        [{"role": "user"}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": RED.id}]}],
        [{"role": "user", "content": [{"type": "audio"}]}],
        [{"role": "user", "content": ["text"]}],
        [{"role": "user", "content": [{"type": "video_frames", "frames": []}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": None}}]}],
    ],
)
def test_malformed_messages_are_never_sent(messages: Any) -> None:  # noqa: ANN401
    play = Play()
    with pytest.raises(InvalidCall):
        play.run(play.calls.score_outcomes(messages, ["x"]))
    with pytest.raises(InvalidCall):
        play.run(play.calls.score_conversations([{"messages": messages}]))
    assert play.sent == []


@pytest.mark.parametrize("conversations", [[], None, [3], [{}], [{"messages": [], "images": RED.id}]])
def test_malformed_conversations_are_never_sent(conversations: Any) -> None:  # noqa: ANN401
    play = Play()
    with pytest.raises(InvalidCall):
        play.run(play.calls.score_conversations(conversations))
    assert play.sent == []


def test_an_id_is_no_picture_to_put() -> None:
    play = Play()
    with pytest.raises(InvalidPicture, match="is an id"):
        play.run(play.calls.put_image(RED.id))


# What comes of the replies


def test_every_attempt_is_the_same_request_under_the_same_id() -> None:
    play = Play(BUSY, GONE, said(429, "overloaded", retry_after="3"), said(504, "deadline_exceeded"))
    assert play.run(play.calls.score_steps(*QUESTION)).results[0].score == 0.5
    assert len({send.content for send in play.sent}) == 1
    assert len(play.sent) == 5
    assert play.waits == [0.25, 0.5, 3 + 1.0, 2.0]


def test_the_last_error_is_raised_when_a_call_is_given_up() -> None:
    play = Play(BUSY, GONE, said(503, "unavailable", "still loading"), retry=Retry(max_retries=2))
    with pytest.raises(Unavailable, match="still loading"):
        play.run(play.calls.score_steps(*QUESTION))
    assert len(play.sent) == 3


def test_the_bound_on_time_counts_from_the_beginning_of_the_call_not_of_each_request() -> None:
    slow = said(503, "unavailable", retry_after="50")
    play = Play(slow, None, slow, retry=Retry(within_s=100))
    with pytest.raises(Unavailable):
        play.run(play.calls.score_steps("Which?", [RED.content], ["x"]))
    assert play.paths == ["/images", "/images", "/score_steps"]


def test_a_refusal_is_not_tried_again() -> None:
    play = Play(said(422, "invalid_request", "images: 3, the limit is 2"))
    with pytest.raises(InvalidRequest, match="the limit is 2"):
        play.run(play.calls.score_steps(*QUESTION))
    assert len(play.sent) == 1


def test_after_a_404_only_the_pictures_that_it_names_are_sent_again() -> None:
    play = Play()
    pictures = [RED.content, BLUE.content]
    play.run(play.calls.score_steps("Which?", pictures, ["x"]))
    play._replies = [lost(BLUE.id)]
    play.run(play.calls.score_steps("Which?", pictures, ["x"]))
    assert play.paths[3:] == ["/score_steps", "/images", "/score_steps"]
    assert play.sent[4].content == BLUE.content
    assert play.sent[3].content == play.sent[5].content


def test_a_picture_that_keeps_vanishing_travels_with_the_question_in_the_end() -> None:
    play = Play(None, None, lost(RED.id), None, lost(RED.id))
    play.run(play.calls.score_steps("Which?", [RED.content, BLUE.content], [RED.id], id="one"))
    assert play.paths == ["/images", "/images", "/score_steps", "/images", "/score_steps", "/score_steps"]
    named, whole = (ScoreStepsRequest.model_validate_json(play.sent[index].content) for index in (-2, -1))
    assert named.images == [RED.id, BLUE.id]
    assert [base64.b64decode(image) for image in whole.images] == [RED.content, BLUE.content]
    assert whole.model_copy(update={"images": named.images}) == named


def test_so_do_the_pictures_in_parts() -> None:
    play = Play(*[None, lost(RED.id)] * 2)
    parts = [
        {"type": "image_url", "image_url": {"url": RED.content}},
        {"type": "video_frames", "frames": [RED.content]},
        {"type": "text", "text": RED.id},
    ]
    play.run(play.calls.score_outcomes([{"role": "user", "content": parts}], ["x"]))
    (message,) = json.loads(play.sent[-1].content)["messages"]
    image, video, text = message["content"]
    assert [base64.b64decode(url) for url in (image["image_url"]["url"], *video["frames"])] == [RED.content] * 2
    assert text["text"] == RED.id


def test_a_picture_that_changed_on_the_way_is_not_taken_for_the_one_that_was_sent() -> None:
    changed = StoredImage(id=BLUE.id, width=1, height=1, bytes=3)
    play = Play(Said(200, changed.model_dump_json().encode()))
    with pytest.raises(BadAnswer, match="changed on the way"):
        play.run(play.calls.put_image(RED.content))


def test_a_404_for_an_id_whose_bytes_the_caller_has_is_the_callers() -> None:
    play = Play(lost(RED.id))
    with pytest.raises(UnknownImage, match=RED.id):
        play.run(play.calls.score_steps("Which?", [RED.id], ["x"]))
    assert play.paths == ["/score_steps"]


def test_a_picture_that_another_call_has_sent_again_meanwhile_is_not_sent_twice() -> None:
    play = Play()
    play.run(play.calls.put_image(RED.content))
    first = play.calls.score_steps("Which?", [RED.content], ["x"])
    work = next(first)
    assert isinstance(work, Work)
    work.run()
    assert isinstance(first.send(None), Send)
    play.run(play.calls.put_image(RED.content))
    answer = lost(RED.id)
    again = first.send(Answer(answer.status, answer.headers, answer.body))
    assert isinstance(again, Send)
    assert again.path == "/score_steps"


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[]", b"null", b'{"object":"outcome_scores"}', b"\xff"])
def test_a_success_that_is_no_answer_is_said_to_be_none(body: bytes) -> None:
    play = Play(Said(200, body))
    with pytest.raises(BadAnswer, match="not the answer of a Steelyard server"):
        play.run(play.calls.score_steps(*QUESTION))


def test_fields_of_a_newer_server_are_passed_over() -> None:
    known = serves(Seen("POST", "/score_steps", {}, b""))
    newer = json.loads(known.body)
    newer["results"][0]["new"] = newer["new"] = 1
    play = Play(Said(200, json.dumps(newer).encode()))
    assert play.run(play.calls.score_steps(*QUESTION)).results[0].score == 0.5


@pytest.mark.parametrize(
    ("reply", "ready"),
    [(Said(200, b'{"status":"ok"}'), True), (Said(503, b'{"status":"unavailable"}'), False), (GONE, False)],
)
def test_ready_asks_once(reply: Said | SteelyardError, ready: bool) -> None:
    play = Play(reply)
    assert play.run(play.calls.ready()) is ready
    assert len(play.sent) == 1


@given(st.lists(st.sampled_from([None, BUSY, GONE, lost(RED.id), lost(BLUE.id), said(500, "internal_error")])))
def test_whatever_comes_a_call_ends_within_its_bounds_and_is_always_the_same(replies: list[Any]) -> None:
    retry = Retry(max_retries=3, within_s=20)
    play = Play(*replies, retry=retry)
    with suppress(SteelyardError):
        play.run(play.calls.score_steps("Which?", [RED.content, BLUE.content], ["x"]))
    bodies = {send.content: json.loads(send.content) for send in play.sent if send.path == "/score_steps"}
    # The same question, in the end with the pictures in it.
    assert len({body.pop("id") for body in bodies.values()}) <= 1
    assert len({json.dumps(body | {"images": len(body["images"])}) for body in bodies.values()}) <= 1
    assert len(bodies) <= 2
    assert len(play.sent) <= (retry.max_retries + 1) * 3 * 3
    assert play.now_s <= retry.within_s
    for image in (RED, BLUE):
        assert play.paths.count("/score_steps") == 0 or image.content in [send.content for send in play.sent]
