"""What a generator is asked, and everything that it may do wrong."""

import asyncio
import base64
import contextlib
import json
from typing import Any

import pytest

from steelyard.best_of_n import (
    Asked,
    ChatEndpoint,
    Decoding,
    Draw,
    Drawn,
    GeneratorFailed,
    GeneratorGone,
    GeneratorRefused,
)
from steelyard.best_of_n import chat as chat_module
from steelyard.best_of_n.chat_format import request_of
from steelyard.errors import InvalidCall
from steelyard.pictures import picture_of
from steelyard.retry import Retry
from tests.client.scripted import Reaction, Said, hangs_up, says, scripted

RED = picture_of(b"\x89PNG red")
QUICK = Retry(max_retries=2, first_s=0.0)


def completion(text: str | None, **fields: Any) -> bytes:  # noqa: ANN401
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"} | fields
    return json.dumps({"choices": [choice], "usage": {"completion_tokens": 7}}).encode()


def draw(url: str, asked: Draw | None = None, *, one_step: bool = False, **options: Any) -> Drawn:  # noqa: ANN401
    async def once() -> Drawn:
        endpoint = ChatEndpoint(f"{url}/v1", "m", retry=QUICK, **options)
        try:
            return await endpoint.draw(Asked("Which?", (RED,)), asked or Draw(0, 5), one_step=one_step)
        finally:
            await endpoint.aclose()

    return asyncio.run(once())


def test_pictures_the_question_and_the_seed_are_sent() -> None:
    with scripted(says(200, completion("It is red.\n\nAnswer: red"))) as policy:
        found = draw(
            policy.url, api_key="key", decoding=Decoding(temperature=0.5, system="Be brief.", more={"top_p": 1})
        )
    assert found == Drawn("It is red.\n\nAnswer: red", 7, finish="stop")
    (seen,) = policy.seen
    assert (seen.path, seen.headers["authorization"]) == ("/v1/chat/completions", "Bearer key")
    body = seen.json
    system, user = body.pop("messages")
    assert system == {"role": "system", "content": "Be brief."}
    picture, text = user["content"]
    assert picture["image_url"]["url"] == "data:image/png;base64," + base64.b64encode(RED.content).decode()
    assert text["text"].startswith("Which?\n\nReason step by step")
    assert body == {"model": "m", "temperature": 0.5, "max_tokens": 2048, "stream": False, "seed": 5, "top_p": 1}


def test_a_solution_is_continued_from_an_assistants_turn() -> None:
    with scripted(says(200, completion("Next.", stop_reason="\n\n"))) as policy:
        found = draw(policy.url, Draw(3, None, ("One.", "Two."), 1), one_step=True)
    assert (found.text, found.ended) == ("Next.", False)
    body = policy.seen[0].json
    assert body["messages"][-1] == {"role": "assistant", "content": "One.\n\nTwo.\n\n"}
    assert (body["continue_final_message"], body["add_generation_prompt"], body["stop"]) == (True, False, ["\n\n"])
    assert "seed" not in body


@pytest.mark.parametrize(
    ("said", "text", "ended"),
    [
        (completion("Last.", stop_reason=None), "Last.", True),
        (completion("Cut", stop_reason=None, finish_reason="length"), "Cut", False),
        (completion("Untold."), "Untold.", None),
        # It does not know `stop`: what stands behind the first step is another step's.
        (completion("\nOne.\n\nTwo.", stop_reason=None), "One.", False),
        (completion("", stop_reason=None), "", True),
        (completion(None), "", None),
    ],
)
def test_one_step_is_taken_and_whether_more_is_to_come(said: bytes, text: str, ended: bool | None) -> None:
    with scripted(says(200, said)) as policy:
        found = draw(policy.url, one_step=True)
    assert (found.text, found.ended) == (text, ended)


def test_tokens_that_are_not_told_are_estimated() -> None:
    said = json.dumps({"choices": [{"message": {"content": "four bytes a token"}}]}).encode()
    with scripted(says(200, said)) as policy:
        assert draw(policy.url) == Drawn("four bytes a token", 5, estimated=True)


@pytest.mark.parametrize("failure", [says(429, retry_after="0"), says(500), says(503), hangs_up])
def test_an_endpoint_that_is_overloaded_or_away_is_asked_again(failure: Reaction) -> None:
    with scripted(failure, failure, says(200, completion("x"))) as policy:
        assert draw(policy.url).text == "x"
        assert len(policy.seen) == 3


@pytest.mark.parametrize(
    ("reaction", "error", "message"),
    [
        (says(500, b"out of memory"), GeneratorFailed, "answers 500: out of memory"),
        (hangs_up, GeneratorFailed, "was not reached"),
        (says(400, b"too long"), GeneratorRefused, "answers 400: too long"),
        (says(401, b"no key"), GeneratorGone, "answers 401: no key"),
        (says(404, b"no such model"), GeneratorGone, "answers 404"),
        (says(200, b"<html>"), GeneratorFailed, "no chat completion: <html>"),
        (says(200, b'{"choices": []}'), GeneratorRefused, "no choices"),
        (says(200, b'{"choices": [{"message": "x"}]}'), GeneratorFailed, "no chat completion"),
        (says(200, b"\xff\xfe" * 200), GeneratorFailed, "no chat completion"),
        (says(200, b"zip", content_encoding="gzip"), GeneratorFailed, "."),
        (says(302, b"", location="http://elsewhere/"), GeneratorRefused, "answers 302"),
    ],
)
def test_what_a_generator_does_wrong_is_told(reaction: Reaction, error: type[Exception], message: str) -> None:
    with scripted(reaction) as policy, pytest.raises(error, match=message) as raised:
        draw(policy.url)
    assert type(raised.value) is error


def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_module, "_MOST_BYTES", 1000)
    with scripted(lambda _: Said(200, b"x" * 2000)) as policy, pytest.raises(GeneratorFailed, match="more than 1000"):
        draw(policy.url)


async def test_an_answer_that_trickles_in_is_given_up_in_time() -> None:
    gone = asyncio.Event()

    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"x")
                await writer.drain()
                # Never silent for long, so that only the whole time can be what is up.
                await asyncio.sleep(0.01)
        writer.close()
        gone.set()

    async with await asyncio.start_server(trickle, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        endpoint = ChatEndpoint(f"http://{host}:{port}/v1", "m", timeout_s=0.3)
        try:
            with pytest.raises(GeneratorFailed, match=r"no answer within 0\.3 s"):
                await endpoint.draw(Asked("?"), Draw(0, None), one_step=False)
            await asyncio.wait_for(gone.wait(), 10)
        finally:
            await endpoint.aclose()


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "nowhere", "http://[::1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidCall, match="generator"):
        ChatEndpoint(url, "m")


def test_markers_place_pictures_for_the_generator_too() -> None:
    decoding = Decoding(instruction="")
    asked = Asked("First <image> then <image>?", (RED, picture_of(b"GIF8")))
    body: dict[str, Any] = request_of(asked, Draw(0, None), "m", decoding, one_step=False)
    (message,) = body["messages"]
    shown = [part.get("text", "picture") for part in message["content"]]
    assert shown == ["First ", "picture", " then ", "picture", "?"]
    with pytest.raises(InvalidCall, match="2 <image> markers for 1 pictures"):
        request_of(Asked("<image><image>", (RED,)), Draw(0, None), "m", decoding, one_step=False)
