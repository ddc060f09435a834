"""Candidates from an OpenAI-compatible endpoint."""

import base64
import json
from pathlib import Path

import pytest

from evaluation.candidates import read_questions
from evaluation.sample import main
from tests.client.scripted import Reaction, Said, Scripted, Seen, hangs_up, says, scripted
from tests.evaluation.made_up import Line, finish, write_lines, write_picture


def asked_for(folder: Path) -> Path:
    picture = write_picture(folder)
    lines = [
        {"id": "a", "question": "How many?", "image": picture, "answer": "3", "form": "count"},
        {"id": "b", "question": "Which colour?", "answer": "Red"},
    ]
    return write_lines(folder / "questions.jsonl", lines)


def sample(folder: Path, policy: Scripted, *more: object) -> int:
    out = folder / "candidates.jsonl"
    arguments = (
        "--endpoint",
        f"{policy.url}/v1",
        "--model",
        "m",
        "--questions",
        asked_for(folder),
        "--n",
        2,
        "--out",
        out,
    )
    return finish(main, *arguments, "--in-flight", 2, *more)


def candidates(folder: Path) -> list[Line]:
    return [json.loads(line) for line in (folder / "candidates.jsonl").read_text(encoding="utf-8").splitlines()]


def completes(text: str | None) -> Said:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return Said(body=json.dumps({"id": "1", "object": "chat.completion", "choices": [choice]}).encode())


def counts(seen: Seen) -> Said:
    """A policy that knows both answers, and counts wrongly the second time."""
    assert (seen.method, seen.path) == ("POST", "/v1/chat/completions")
    if seen.json["messages"][0]["content"][-1]["text"].startswith("How many?"):
        return completes(f"I count.\n\nThey are three.\n \nAnswer: {3 + seen.json['seed']}")
    return completes("It is red.\n\n**Answer:** red.")


def test_answers_become_steps_an_answer_and_a_verdict(tmp_path: Path) -> None:
    with scripted(counts) as policy:
        assert sample(tmp_path, policy) == 0
    first, second = candidates(tmp_path)
    assert list(read_questions(tmp_path / "candidates.jsonl", None)[0]) == ["a", "b"]
    assert first["candidates"] == [
        {"steps": ["I count.", "They are three.", "Answer: 3"], "answer": "3", "correct": True},
        {"steps": ["I count.", "They are three.", "Answer: 4"], "answer": "4", "correct": False},
    ]
    assert [one["correct"] for one in second["candidates"]] == [True, True]
    assert sorted(seen.json["seed"] for seen in policy.seen) == [0, 0, 1, 1]


def test_a_picture_goes_as_a_data_url_before_the_question(tmp_path: Path) -> None:
    with scripted(counts) as policy:
        assert sample(tmp_path, policy) == 0
    parts = next(parts for seen in policy.seen if len(parts := seen.json["messages"][0]["content"]) == 2)
    head, _, content = parts[0]["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(content) == (tmp_path / "shapes.png").read_bytes()
    assert parts[1]["text"].startswith("How many?")


def test_what_was_sampled_before_a_stop_is_not_asked_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted(counts, counts, says(401, b"no key"), counts) as policy:
        assert sample(tmp_path, policy, "--in-flight", 1) == 1
        assert "401: no key; 2 samples are kept" in capsys.readouterr().err
        assert not (tmp_path / "candidates.jsonl").exists()
        assert sample(tmp_path, policy, "--in-flight", 1) == 0
        assert len(policy.seen) == 5
    assert len(candidates(tmp_path)) == 2


@pytest.mark.parametrize("failure", [says(429, retry_after="0"), says(500), says(503), hangs_up])
def test_an_endpoint_that_is_overloaded_or_away_is_asked_again(tmp_path: Path, failure: Reaction) -> None:
    with scripted(failure, counts) as policy:
        assert sample(tmp_path, policy) == 0
        assert len(policy.seen) == 5


def test_an_endpoint_that_stays_away_is_given_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted(hangs_up) as policy:
        assert sample(tmp_path, policy, "--retry-for", 0.1) == 1
    assert "the generator was not reached" in capsys.readouterr().err


def test_what_is_no_completion_is_quoted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted(says(200, b"<html>")) as policy:
        assert sample(tmp_path, policy) == 1
    assert "no chat completion: <html>" in capsys.readouterr().err


def test_an_empty_answer_is_no_candidate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted(lambda seen: completes(None) if seen.json["seed"] == 1 else counts(seen)) as policy:
        assert sample(tmp_path, policy) == 0
    assert [len(line["candidates"]) for line in candidates(tmp_path)] == [1, 1]
    assert "2 without an answer" in capsys.readouterr().out


def test_a_request_that_is_refused_costs_a_candidate_and_is_asked_again_next_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with scripted(says(400, b"too long"), counts) as policy:
        assert sample(tmp_path, policy) == 0
        assert sum(len(line["candidates"]) for line in candidates(tmp_path)) == 3
        assert "1 requests were refused; the first: the generator answers 400: too long" in capsys.readouterr().err
        assert sample(tmp_path, policy) == 0
    assert sum(len(line["candidates"]) for line in candidates(tmp_path)) == 4


def test_an_endpoint_that_refuses_everything_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted(says(422, b"no seed, please")) as policy:
        assert sample(tmp_path, policy) == 1
    assert "every request was refused" in capsys.readouterr().err
    assert not (tmp_path / "candidates.jsonl").exists()
