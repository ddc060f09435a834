"""The routes of jobs, against the real server process."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from steelyard.schema import BatchJob, JobCursor, JobRow, ScoreStepsResponse, StoredUpload
from tests.service.running import Running, refused, running, same_scores, scored, until

NDJSON = {"content-type": "application/x-ndjson"}
KEYS = ("first-key", "second-key")
LINE_BYTES, BODY_BYTES = 2000, 3_000_000
NOWHERE = "0" * 32


@pytest.fixture(scope="module")
def strict() -> Iterator[Running]:
    """A server with keys and small limits, which forgets soon."""
    keys = (option for key in KEYS for option in ("--api-key", key))
    limits = ("--job-line-bytes", str(LINE_BYTES), "--job-groups", "100", "--max-body-bytes", str(BODY_BYTES))
    with running(*keys, *limits, "--jobs-bytes", "200000", "--job-ttl-s", "3") as server:
        yield server


@pytest.fixture
def member(strict: Running) -> Iterator[httpx2.Client]:
    with strict.client(headers={"Authorization": f"Bearer {KEYS[0]}"}) as client:
        yield client


def steps(number: int, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"question": f"Question {number}?", "candidates": ["It is red.\n\nYes.", "No."]} | fields


def outcomes(number: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"Question {number}?"}], "candidates": ["Red.", "Blue."]}


def body(*groups: object) -> bytes:
    return b"".join(json.dumps(group).encode() + b"\n" for group in groups)


def begun(answer: httpx2.Response) -> BatchJob:
    assert answer.status_code == 202, answer.text[:500]
    return BatchJob.model_validate_json(answer.content)


def create(client: httpx2.Client, *groups: object, query: str = "") -> BatchJob:
    return begun(client.post("/jobs" + query, content=body(*groups), headers=NDJSON))


def look(client: httpx2.Client, job: str) -> BatchJob:
    answer = client.get(f"/jobs/{job}")
    assert answer.status_code == 200
    return BatchJob.model_validate_json(answer.content)


def page(client: httpx2.Client, job: str, query: str = "") -> tuple[list[JobRow], JobCursor]:
    answer = client.get(f"/jobs/{job}/results{query}")
    assert answer.status_code == 200, answer.text[:500]
    assert answer.headers["content-type"] == "application/x-ndjson"
    *rows, last = answer.content.decode().splitlines()
    return [JobRow.model_validate_json(row) for row in rows], JobCursor.model_validate_json(last)


def finish(client: httpx2.Client, job: str) -> list[JobRow]:
    until(lambda: look(client, job).status == "done", "the job's end")
    rows, cursor = page(client, job)
    assert cursor.done
    return rows


def test_a_job_scores_both_kinds_of_groups_as_their_routes_do(api: httpx2.Client) -> None:
    job = create(api, *(group for n in range(10) for group in (steps(n), outcomes(n))))
    assert (job.status in ("running", "done"), job.groups, job.durable) == (True, 20, False)
    rows = {row.index: row for row in finish(api, job.id)}
    assert sorted(rows) == [*range(20)]
    for n in range(10):
        answer = rows[2 * n].answer
        assert isinstance(answer, ScoreStepsResponse)
        assert same_scores(answer, scored(api.post("/score_steps", json=steps(n))))
        other = rows[2 * n + 1].answer
        assert other is not None
        assert other.object == "outcome_scores"
        assert [result.status for result in other.results] == ["ok", "ok"]


def test_a_group_that_is_refused_has_a_row_with_the_error(api: httpx2.Client) -> None:
    gone = "sha256:" + "0" * 64
    job = create(api, steps(0, images=[gone]), steps(1), steps(2, model="nobody"))
    rows = sorted(finish(api, job.id), key=lambda row: row.index)
    assert [row.status for row in rows] == ["refused", "ok", "refused"]
    assert [row.error.code for row in rows if row.error] == ["unknown_image", "unknown_model"]
    assert rows[0].error is not None
    assert gone in rows[0].error.message
    state = look(api, job.id)
    assert (state.done, state.failed) == (3, 2)


def test_a_candidate_without_a_score_is_null_in_its_row(api: httpx2.Client) -> None:
    job = create(api, steps(0, candidates=["fine", "word " * 5000]))
    (row,) = finish(api, job.id)
    assert row.answer is not None
    assert [(result.status, result.score is None) for result in row.answer.results] == [
        ("ok", False),
        ("too_long", True),
    ]


def test_chunks_are_appended_once_and_the_last_one_closes(api: httpx2.Client) -> None:
    job = create(api, query="?open=true")
    assert (job.status, job.groups) == ("open", 0)
    for _ in range(2):
        chunk = api.post(f"/jobs/{job.id}/groups?first=0", content=body(steps(0), steps(1)), headers=NDJSON)
        assert (begun(chunk).status, begun(chunk).groups) == ("open", 2)
    gap = api.post(f"/jobs/{job.id}/groups?first=3", content=body(steps(3)), headers=NDJSON)
    assert "begins with group 2" in refused(gap, 409, "groups_missing")
    for _ in range(2):
        last = api.post(f"/jobs/{job.id}/groups?first=2&close=true", content=body(steps(2)), headers=NDJSON)
        assert begun(last).groups == 3
    assert sorted(row.index for row in finish(api, job.id)) == [0, 1, 2]
    late = api.post(f"/jobs/{job.id}/groups?first=3", content=body(steps(3)), headers=NDJSON)
    refused(late, 409, "job_closed")


def test_a_cursor_leads_through_the_rows_and_repeats_them(api: httpx2.Client) -> None:
    job = create(api, *map(steps, range(5)))
    whole = finish(api, job.id)
    first, cursor = page(api, job.id, "?limit=2")
    assert (first, cursor.done) == (whole[:2], False)
    rest, end = page(api, job.id, f"?cursor={cursor.cursor}&limit=3")
    assert (rest, end.done) == (whole[2:], True)
    assert page(api, job.id, f"?cursor={cursor.cursor}&limit=3") == (rest, end)
    assert page(api, job.id, f"?cursor={end.cursor}") == ([], end)


def test_a_page_waits_for_the_first_row(api: httpx2.Client, server: Running) -> None:
    with server.stopped_engine():
        job = create(api, steps(0))
        assert page(api, job.id, "?wait=0.1") == ([], JobCursor(cursor="0", done=False))
    rows, cursor = page(api, job.id, "?wait=30")
    assert ([row.status for row in rows], cursor.done) == (["ok"], True)


def test_a_cancelled_job_starts_nothing_more_and_keeps_its_rows(api: httpx2.Client, server: Running) -> None:
    job = create(api, steps(0), query="?open=true")
    until(lambda: look(api, job.id).done == 1, "the first row")
    with server.stopped_engine():
        api.post(f"/jobs/{job.id}/groups?first=1", content=body(*map(steps, range(1, 60))), headers=NDJSON)
        for _ in range(2):
            answer = api.delete(f"/jobs/{job.id}")
            assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    rows, cursor = page(api, job.id)
    assert ([row.index for row in rows], cursor.done) == ([0], True)
    other = create(api, steps(0))
    finish(api, other.id)
    assert look(api, job.id).done == 1


def test_a_job_is_made_from_an_upload(api: httpx2.Client) -> None:
    content = body(steps(0), steps(1))
    stored = StoredUpload.model_validate_json(api.put("/uploads", content=content).content)
    assert (stored.id, stored.bytes) == ("sha256:" + hashlib.sha256(content).hexdigest(), len(content))
    job = begun(api.post("/jobs", json={"upload": stored.id}))
    assert len(finish(api, job.id)) == 2
    refused(api.post("/jobs", json={"upload": "sha256:" + "0" * 64}), 404, "unknown_upload")
    refused(api.post("/jobs", json={"upload": "x"}), 422, "invalid_request")


def test_a_job_belongs_to_its_key(strict: Running, member: httpx2.Client) -> None:
    job = create(member, steps(0), query="?open=true")
    upload = member.put("/uploads", content=body(steps(0))).json()["id"]
    with strict.client(headers={"Authorization": f"Bearer {KEYS[1]}"}) as other:
        for answer in (
            other.get(f"/jobs/{job.id}"),
            other.get(f"/jobs/{job.id}/results"),
            other.delete(f"/jobs/{job.id}"),
            other.post(f"/jobs/{job.id}/groups?first=1", content=body(steps(1)), headers=NDJSON),
        ):
            refused(answer, 404, "unknown_job")
        refused(other.post("/jobs", json={"upload": upload}), 404, "unknown_upload")
    with strict.client() as nobody:
        refused(nobody.get(f"/jobs/{job.id}"), 401, "invalid_key")
    assert look(member, job.id).groups == 1


def test_a_job_is_forgotten_after_its_time(member: httpx2.Client) -> None:
    job = create(member, steps(0))
    keeper = create(member, steps(0))

    def forgotten() -> bool:
        look(member, keeper.id)
        # Looking would be a use: another key's look is none.
        return member.get("/models").status_code == 200 and keeper_is_old(member, keeper)

    until(forgotten, "more than the time to live")
    refused(member.get(f"/jobs/{job.id}"), 404, "unknown_job")
    assert look(member, keeper.id).done == 1


def keeper_is_old(client: httpx2.Client, job: BatchJob) -> bool:
    """Whether the time to live of what was not used since `job` was made is over."""
    return look(client, job.id).expires_at > job.expires_at + 3.5


# Hostile input


def test_a_malformed_line_is_named_and_nothing_of_its_chunk_is_taken(api: httpx2.Client) -> None:
    job = create(api, query="?open=true")
    for line, word in (
        (b"{", "EOF"),
        (b"3", "Input should be"),
        (b"[]", "Input should be"),
        (b"null", "Input should be"),
        (b'{"question": "?"}', "candidates: Field required"),
        (b'{"question": "?", "candidates": []}', "candidates: "),
        (b'{"question": "?", "candidates": ["x"], "wrong": 1}', "wrong: unknown field"),
        (b'{"messages": [], "question": "?", "candidates": ["x"]}', "question: unknown field"),
        (b'{"conversations": []}', "conversations: "),
        (json.dumps(steps(0, candidates=["x"] * 1025)).encode(), "candidates: 1025, the limit is 1024"),
        (b"[" * 100_000, "recursion"),
        (b"\xff\xfe", "line 7: "),
    ):
        chunk = body(*map(steps, range(5))) + b"\n" + line + b"\n" + body(steps(6))
        answer = api.post(f"/jobs/{job.id}/groups?first=0", content=chunk, headers=NDJSON)
        message = refused(answer, 422, "invalid_request")
        assert message.startswith("line 7: ")
        assert word in message
        assert look(api, job.id).groups == 0
        refused(api.post("/jobs", content=chunk, headers=NDJSON), 422, "invalid_request")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/jobs?opne=true"),
        ("POST", "/jobs?open=perhaps"),
        ("POST", f"/jobs/{NOWHERE}/groups"),
        ("POST", f"/jobs/{NOWHERE}/groups?first=-1"),
        ("POST", f"/jobs/{NOWHERE}/groups?first=1e3"),
        ("GET", f"/jobs/{NOWHERE}/results?cursor=x"),
        ("GET", f"/jobs/{NOWHERE}/results?cursor=-1"),
        ("GET", f"/jobs/{NOWHERE}/results?limit=0"),
        ("GET", f"/jobs/{NOWHERE}/results?limit=10001"),
        ("GET", f"/jobs/{NOWHERE}/results?wait=31"),
        ("GET", f"/jobs/{NOWHERE}/results?wait=nan"),
    ],
)
def test_a_query_that_makes_no_sense_is_a_422(api: httpx2.Client, method: str, path: str) -> None:
    refused(api.request(method, path, headers=NDJSON if method == "POST" else {}), 422, "invalid_request")


@pytest.mark.parametrize("job", [NOWHERE, "x", "*", "expiry", "..%2f..", "%00", "é", "A" * 32, "0" * 5000])
def test_a_wrong_id_is_unknown(api: httpx2.Client, job: str) -> None:
    for answer in (api.get(f"/jobs/{job}"), api.delete(f"/jobs/{job}"), api.get(f"/jobs/{job}/results")):
        assert answer.status_code == 404
    answer = api.post(f"/jobs/{job}/groups?first=0", content=body(steps(0)), headers=NDJSON)
    assert answer.status_code == 404


def test_another_media_type_is_refused(api: httpx2.Client) -> None:
    for media_type in ("text/plain", "", "application/x-ndjsonx"):
        answer = api.post("/jobs", content=body(steps(0)), headers={"content-type": media_type})
        assert "application/x-ndjson" in refused(answer, 422, "invalid_request")


def test_nothing_at_all_is_a_job_that_is_done(api: httpx2.Client) -> None:
    for nothing in (b"", b"\n\n \r\n"):
        job = begun(api.post("/jobs", content=nothing, headers=NDJSON))
        assert (job.status, job.groups) == ("done", 0)


def test_windows_line_ends_and_a_last_line_without_one_are_fine(api: httpx2.Client) -> None:
    lines = [json.dumps(steps(n)).encode() for n in range(3)]
    job = begun(api.post("/jobs", content=b"\r\n".join(lines), headers=NDJSON))
    assert len(finish(api, job.id)) == 3


def test_a_line_of_100_megabytes_is_refused_as_a_body(api: httpx2.Client) -> None:
    answer = api.post("/jobs", content=b"x" * 100_000_000, headers=NDJSON)
    refused(answer, 413, "body_too_large")


def test_a_million_tiny_lines_are_refused_at_once(api: httpx2.Client) -> None:
    answer = api.post("/jobs", content=b'{"question":"","candidates":["x"]}\n' * 1_000_000, headers=NDJSON)
    assert "50000 lines" in refused(answer, 413, "job_too_large")
    answer = api.post("/jobs", content=b"{}\n" * 50_000, headers=NDJSON)
    assert refused(answer, 422, "invalid_request").startswith("line 1: ")


def test_sizes_beyond_their_limits_are_refused(member: httpx2.Client) -> None:
    long = member.post("/jobs", content=body(steps(0), steps(1, question="x" * LINE_BYTES)), headers=NDJSON)
    assert refused(long, 413, "job_too_large").startswith("line 2: ")
    many = member.post("/jobs", content=body(*map(steps, range(101))), headers=NDJSON)
    assert "limit of 100" in refused(many, 413, "job_too_large")
    full = member.put("/uploads", content=b"x" * 250_000)
    assert full.headers["retry-after"]
    refused(full, 429, "overloaded")


def test_the_routes_are_described(api: httpx2.Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    assert {"/jobs", "/jobs/{job}", "/jobs/{job}/groups", "/jobs/{job}/results", "/uploads"} <= set(paths)
    named = {parameter["name"] for parameter in paths["/jobs/{job}/results"]["get"]["parameters"]}
    assert named == {"job", "cursor", "limit", "wait"}
