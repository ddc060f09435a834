"""`steelyard filter` against a gateway: what is kept, in which form, and what bad input becomes."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from steelyard.schema import StepScores
from tests.client.answers import steps
from tests.client.data.running import Ended, Served, digest_server, filtered, read_lines, records, write_lines
from tests.client.scripted import Said, Seen, forwards, refuses, scripted
from tests.service.running import Running, shared

GONE = "sha256:" + "0" * 64
CIRCLE = Path(__file__).parents[3] / "examples" / "circle.png"


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with digest_server() as served:
        yield served


@pytest.fixture(scope="module")
def url(server: Served) -> str:
    return server.url


def run(url: str, folder: Path, rows: list[Any], *options: str) -> tuple[Ended, list[dict[str, Any]]]:
    out = folder / "out.jsonl"
    ended = filtered(url, write_lines(folder / "in.jsonl", rows), out, *options)
    return ended, read_lines(out) if out.exists() else []


def rejects(folder: Path) -> list[dict[str, Any]]:
    return read_lines(folder / "out.jsonl.rejects.jsonl")


# What is kept


def test_a_threshold_keeps_what_has_it_and_the_summary_counts(url: str, tmp_path: Path) -> None:
    ended, everything = run(url, tmp_path, records(40))
    least = sorted(row["score"] for row in everything)[25]
    (tmp_path / "out.jsonl").unlink()
    ended, kept = run(url, tmp_path, records(40), "--min-score", str(least))
    assert kept == [row for row in everything if row["score"] >= least]
    assert "40 records, 40 candidates: 40 scored" in ended.out
    assert "15 rows in" in ended.out
    summary = json.loads((tmp_path / "out.jsonl.summary.json").read_text())
    assert (summary["scored"], summary["written"], summary["statuses"]) == (40, 15, {"ok": 40})
    assert [each["count"] for each in summary["histogram"]] == [
        sum(low / 10 <= row["score"] < (low + 1) / 10 for row in everything) for low in range(10)
    ]


def test_the_best_of_each_question_wherever_it_stands(url: str, tmp_path: Path) -> None:
    rows = sorted(records(40), key=lambda row: str(row["response"]))
    _, everything = run(url, tmp_path, rows)
    (tmp_path / "out.jsonl").unlink()
    _, best = run(url, tmp_path, rows, "--top", "1")
    for row in best:
        assert row["score"] == max(each["score"] for each in everything if each["question"] == row["question"])
    assert len(best) == 10


def test_copies_are_scored_once_and_dropped_when_asked(server: Served, url: str, tmp_path: Path) -> None:
    rows = records(300, together=1)
    rows = [*rows, *(row | {"id": 1000} for row in rows)]
    before = server.groups()
    ended, everything = run(url, tmp_path, rows)
    assert server.groups() - before == 300
    assert "600 scored (300 copies of others)" in ended.out
    assert [row["score"] for row in everything[300:]] == [row["score"] for row in everything[:300]]
    (tmp_path / "out.jsonl").unlink()
    _, kept = run(url, tmp_path, rows, "--deduplicate")
    assert kept == everything[:300]


def test_of_a_list_of_candidates_the_chosen_are_left(url: str, tmp_path: Path) -> None:
    rows = [{"question": f"Q{n}?", "answers": ["Yes.", ["First.", "Then."], "No."]} for n in range(5)]
    _, everything = run(url, tmp_path, rows, "--candidates", "answers")
    (tmp_path / "out.jsonl").unlink()
    _, best = run(url, tmp_path, rows, "--candidates", "answers", "--top", "2")
    for whole, cut in zip(everything, best, strict=True):
        order = sorted(range(3), key=lambda index: (-whole["score"][index], index))[:2]
        assert cut["candidate_index"] == sorted(order)
        assert cut["answers"] == [whole["answers"][index] for index in sorted(order)]
        assert cut["step_scores"] == [whole["step_scores"][index] for index in sorted(order)]


def test_pairs_are_trls_preferences(url: str, tmp_path: Path) -> None:
    rows = [{"question": f"Q{n % 10}?", "response": f"It is {n}."} for n in range(40)]
    _, everything = run(url, tmp_path, rows)
    (tmp_path / "out.jsonl").unlink()
    ended, pairs = run(url, tmp_path, rows, "--as", "pairs")
    assert len(pairs) == 10
    for pair in pairs:
        assert list(pair) == ["prompt", "chosen", "rejected", "score_chosen", "score_rejected"]
        own = {row["response"]: row["score"] for row in everything if row["question"] == pair["prompt"]}
        assert own[pair["chosen"]] == pair["score_chosen"] == max(own.values())
        assert own[pair["rejected"]] == pair["score_rejected"] == min(own.values())
    (tmp_path / "out.jsonl").unlink()
    margins = sorted(pair["score_chosen"] - pair["score_rejected"] for pair in pairs)
    _, wide = run(url, tmp_path, rows, "--as", "pairs", "--margin", str(margins[4]))
    assert len(wide) == 6
    assert ended.code == 0


def test_step_labels_are_trls_process_rewards(url: str, tmp_path: Path) -> None:
    _, everything = run(url, tmp_path, records(12))
    (tmp_path / "out.jsonl").unlink()
    _, labelled = run(url, tmp_path, records(12), "--as", "step-labels", "--label-threshold", "0.4")
    assert labelled == [
        {
            "prompt": row["question"],
            "completions": row["response"].split("\n\n"),
            "labels": [score >= 0.4 for score in row["step_scores"]],
        }
        for row in everything
    ]
    assert {label for row in labelled for label in row["labels"]} == {True, False}


def test_scores_alone(url: str, tmp_path: Path) -> None:
    rows = [*records(3), "no JSON"]
    ended, scores = run(url, tmp_path, rows, "--as", "scores", "--skip-bad")
    assert [(row["record"], row["candidate"], row["score_status"]) for row in scores] == [
        (0, 0, "ok"),
        (1, 0, "ok"),
        (2, 0, "ok"),
        (3, 0, "malformed"),
    ]
    assert scores[3]["score"] is None
    assert ended.code == 3


def test_conversations_by_an_outcome_model_on_the_real_server(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    server: Running = shared(request.session)
    rows = [
        {
            "messages": [
                {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": f"Shape {n}?"}]},
                {"role": "assistant", "content": f"A circle, {n}."},
            ],
            "images": [str(CIRCLE)],
        }
        for n in range(3)
    ]
    ended, kept = run(server.url, tmp_path, rows, "--messages", "messages", "--model", "ixc_reward")
    assert ended.code == 0, ended.err
    assert all(isinstance(row["score"], float) and "step_scores" not in row for row in kept)
    (tmp_path / "out.jsonl").unlink()
    _, steps_kept = run(server.url, tmp_path, rows, "--messages", "messages")
    assert all(len(row["step_scores"]) == 1 for row in steps_kept)
    labels = ("--model", "ixc_reward", "--as", "step-labels", "--overwrite")
    ended, left = run(server.url, tmp_path, rows, "--messages", "messages", *labels)
    assert (ended.code, "scores whole answers" in ended.err) == (1, True)
    assert left == steps_kept


# Bad input


@pytest.mark.parametrize(
    ("bad", "status", "complaint"),
    [
        ('{"question": "Q?", ', "malformed", "line 4 is not JSON"),
        ('["list"]', "malformed", "line 4 is no JSON object but a list"),
        ('{"question": "\xff"', "malformed", "line 4 is not JSON"),
        ({"question": 3, "response": "x"}, "wrong_type", "question: a text, not a int"),
        ({"question": "Q?", "response": None}, "wrong_type", "response: a candidate is a text or a list of steps"),
        ({"question": "Q?"}, "missing_column", "no column 'response'; there are 'question'"),
        ({"question": "Q?", "response": "x", "images": ["no.png"]}, "bad_picture", "there is no such file"),
        ({"question": "Q?", "response": "x", "images": [3]}, "wrong_type", "a picture is a path"),
    ],
)
def test_a_bad_record_ends_the_run_or_is_skipped(
    url: str, bad: str | Mapping[str, object], status: str, complaint: str, tmp_path: Path
) -> None:
    rows = [*records(2), "", bad, {"question": "Last?", "response": "Yes.", "images": [str(CIRCLE)]}]
    ended, _ = run(url, tmp_path, rows)
    assert (ended.code, complaint in ended.err) == (1, True), ended.err
    assert "line 4: " in ended.err
    ended, kept = run(url, tmp_path, rows, "--resume", "--skip-bad")
    assert (ended.code, [row["question"] for row in kept]) == (3, ["Question 0?", "Question 0?", "Last?"])
    (rejected,) = rejects(tmp_path)
    assert (rejected["record"], rejected["status"], rejected["place"]) == (2, status, "line 4")
    assert complaint in rejected["detail"]
    assert f"1 {status}" in ended.out


def test_a_missing_column_names_those_that_there_are(url: str, tmp_path: Path) -> None:
    ended, _ = run(url, tmp_path, records(1), "--response", "answer")
    assert (ended.code, "no column 'answer'; there are 'id', 'question', 'response'" in ended.err) == (1, True)
    assert not (tmp_path / "out.jsonl.journal").exists()


@pytest.mark.parametrize("rows", [[], ["", " "]])
def test_an_empty_file_is_an_error(url: str, rows: list[str], tmp_path: Path) -> None:
    ended, _ = run(url, tmp_path, rows)
    assert (ended.code, "is empty" in ended.err) == (1, True)


def test_columns_that_are_there_already_are_not_replaced(url: str, tmp_path: Path) -> None:
    ended, _ = run(url, tmp_path, [row | {"score": 1} for row in records(1)])
    assert (ended.code, "a column 'score' already" in ended.err) == (1, True)
    ended, kept = run(url, tmp_path, [row | {"score": 1} for row in records(1)], "--prefix", "prm_")
    assert (ended.code, kept[0]["score"], kept[0]["prm_score_status"]) == (0, 1, "ok")


def test_one_of_a_group_that_is_refused_leaves_its_neighbours_their_scores(url: str, tmp_path: Path) -> None:
    rows = [
        {"question": "Q?", "response": "Fine."},
        {"question": "Q?", "response": "word " * 9000},
        {"question": "Q?", "response": "half a pair \ud800"},
        {"question": "Q?", "response": "Well."},
        {"question": "Other?", "response": "Gone.", "images": [GONE]},
    ]
    ended, kept = run(url, tmp_path, rows)
    assert ended.code == 3
    assert [row["score_status"] for row in kept] == ["ok", "too_long", "invalid_call", "ok", "unknown_image"]
    assert [row["score"] is None for row in kept] == [False, True, True, False, True]
    assert [row["status"] for row in rejects(tmp_path)] == ["too_long", "invalid_call", "unknown_image"]
    (tmp_path / "out.jsonl").unlink()
    ended, kept = run(url, tmp_path, rows, "--no-images", "--min-score", "0")
    assert [row["response"] for row in kept] == ["Fine.", "Well.", "Gone."]


# A server that fails


def answers(status: str, score: float | None) -> Said:
    result = StepScores(index=0, status=status, score=score, retryable=score is None)
    return Said(200, steps(result).model_dump_json().encode())


def test_what_may_be_tried_again_is_then_and_by_resume(url: str, tmp_path: Path) -> None:
    served = forwards(url)
    asked: list[str] = []

    def fails_for_two(seen: Seen) -> Said | None:
        if seen.path != "/score_steps":
            return served(seen)
        question = seen.json["question"]
        asked.append(question)
        if question == "Question 2?" or (question == "Question 1?" and asked.count(question) == 1):
            return answers("failed", None)
        return served(seen)

    with scripted(fails_for_two) as proxy:
        ended, kept = run(proxy.url, tmp_path, records(4, together=1))
    assert (ended.code, [row["score_status"] for row in kept]) == (4, ["ok", "ok", "failed", "ok"])
    assert (asked.count("Question 1?"), asked.count("Question 2?")) == (2, 3)
    assert "1 of them may be scored by --resume" in ended.out
    assert rejects(tmp_path)[0]["retryable"]
    with scripted(served) as proxy:
        ended, kept = run(proxy.url, tmp_path, records(4, together=1), "--resume")
        assert sum(seen.path == "/score_steps" for seen in proxy.seen) == 1
    assert (ended.code, [row["score_status"] for row in kept]) == (0, ["ok"] * 4)
    assert not (tmp_path / "out.jsonl.rejects.jsonl").exists()
    assert not (tmp_path / "out.jsonl.journal").exists()


@pytest.mark.parametrize(("status", "code"), [(401, "invalid_key"), (409, "other_weights")])
def test_what_is_wrong_with_the_server_ends_the_run(url: str, status: int, code: str, tmp_path: Path) -> None:
    served, refused = forwards(url), refuses(status, code)
    with scripted(lambda seen: refused(seen) if seen.path == "/score_steps" else served(seen)) as proxy:
        ended, kept = run(proxy.url, tmp_path, records(4))
    assert (ended.code, code in ended.err, kept) == (1, True, [])
    ended, kept = run(url, tmp_path, records(4), "--resume")
    assert (ended.code, len(kept)) == (0, 4)


def test_an_answer_without_the_scores_that_it_claims_is_none(url: str, tmp_path: Path) -> None:
    served = forwards(url)
    lies = answers("ok", None)
    with scripted(lambda seen: lies if seen.path == "/score_steps" else served(seen)) as proxy:
        ended, _ = run(proxy.url, tmp_path, records(1))
    assert (ended.code, "the status ok and the score None" in ended.err) == (1, True)


def test_wrong_usage_is_2(url: str, tmp_path: Path) -> None:
    for options in (["--top", "0"], ["--min-score", "nan"], ["--as", "other"], ["--concurrency", "x"]):
        assert run(url, tmp_path, records(1), *options)[0].code == 2
    for options in (
        ["--as", "pairs", "--top", "2"],
        ["--question", "a", "--messages", "b"],
        ["--resume", "--overwrite"],
    ):
        assert run(url, tmp_path, records(1), *options)[0].code == 1
