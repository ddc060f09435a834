"""Jobs by the two clients and by the command, against the real server."""

import json
from pathlib import Path
from typing import Any

import pytest

from steelyard import AsyncClient, Client
from steelyard.cli import main
from steelyard.errors import BadAnswer, GroupsMissing, InvalidCall, InvalidRequest, UnknownJob
from steelyard.schema import BatchJob, JobRow, ScoreStepsRequest
from tests.client.scripted import Said, forwards, forwards_and_hangs_up, hangs_up, says, scripted
from tests.client.test_calls import Play
from tests.service.running import Running, shared, until

GONE = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Running:
    return shared(request.session)


def group(number: int, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"question": f"Question {number}?", "candidates": ["Yes.", "No."]} | fields


def rows_of(client: Client, job: str, limit: int = 3) -> list[JobRow]:
    """All of them, page by page."""
    rows: list[JobRow] = []
    cursor, done = "0", False
    while not done:
        page = client.job_results(job, cursor, limit=limit, wait_s=20)
        rows += page.rows
        cursor, done = page.cursor, page.done
    return rows


# The calls


def test_a_job_from_groups_in_every_form(server: Running) -> None:
    request = ScoreStepsRequest(question="Größe?", candidates=["x"])
    with Client(server.url) as client:
        job = client.create_job([group(0), json.dumps(group(1)), json.dumps(group(2)).encode() + b"\n", request])
        assert (job.groups, job.status in ("running", "done")) == (4, True)
        rows = rows_of(client, job.id)
        assert client.job(job.id).status == "done"
    assert sorted(row.index for row in rows) == [0, 1, 2, 3]
    assert {row.status for row in rows} == {"ok"}


async def test_the_same_for_tasks(server: Running) -> None:
    async with AsyncClient(server.url) as client:
        job = await client.create_job([group(0)], open=True)
        assert (job.status, job.groups) == ("open", 1)
        for _ in range(2):
            assert (await client.append_groups(job.id, [group(1)], 1)).groups == 2
        with pytest.raises(GroupsMissing):
            await client.append_groups(job.id, [group(3)], 3)
        page = await client.job_results(job.id, wait_s=20)
        assert (page.rows[0].status, page.done) == ("ok", False)
        assert (await client.cancel_job(job.id)).status == "cancelled"
        with pytest.raises(UnknownJob):
            await client.job("0" * 32)
        with pytest.raises(InvalidRequest, match="line 2: "):
            await client.create_job([group(0), {"question": 3}])


def test_a_chunk_whose_answer_was_lost_is_there_once(server: Running) -> None:
    through = forwards(server.url)
    with (
        scripted(through, forwards_and_hangs_up(server.url), through) as proxy,
        Client(proxy.url) as client,
    ):
        job = client.create_job([group(0), group(1)])
        assert [seen.path.partition("?")[0] for seen in proxy.seen[1:]] == [f"/jobs/{job.id}/groups"] * 2
        assert job.groups == 2


@pytest.mark.parametrize("bad", ["", "{}\n{}", {"a": {1, 2}}, {"a": float("nan")}])
def test_what_is_no_line_of_json_is_not_sent(bad: Any) -> None:  # noqa: ANN401
    play = Play()
    with pytest.raises(InvalidCall):
        play.run(play.calls.create_job([bad]))
    assert play.sent == []


@pytest.mark.parametrize("content", [b"", b'{"index":0}\n', b'{"cursor":"1","done":true}', b"<html>"])
def test_a_page_that_is_cut_off_is_no_page(content: bytes) -> None:
    play = Play(Said(200, content))
    with pytest.raises(BadAnswer):
        play.run(play.calls.job_results("0" * 32))


def test_a_long_poll_has_its_time_and_ids_are_quoted() -> None:
    play = Play(Said(200, b'{"cursor":"0","done":false}\n'))
    play.run(play.calls.job_results("a/b?", "c&d", limit=5, wait_s=30))
    (sent,) = play.sent
    assert sent.path == "/jobs/a%2Fb%3F/results?cursor=c%26d&limit=5&wait=30"
    assert sent.timeout_s == 90


# The command


class Prompt:
    def __init__(self, url: str, capfd: pytest.CaptureFixture[str]) -> None:
        self._url = url
        self._capfd = capfd

    def run(self, *arguments: str, url: str | None = None) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        code = main(["jobs", *arguments, "--url", url or self._url])
        written, complaint = self._capfd.readouterr()
        return code, written, complaint

    def job(self, *arguments: str) -> BatchJob:
        code, written, _ = self.run(*arguments, "--json")
        assert code == 0
        return BatchJob.model_validate_json(written)


@pytest.fixture
def prompt(server: Running, capfd: pytest.CaptureFixture[str]) -> Prompt:
    return Prompt(server.url, capfd)


def write(path: Path, *groups: object) -> str:
    path.write_text("\n\n".join(json.dumps(each) for each in groups) + "\n")
    return str(path)


def indices(path: Path) -> list[int]:
    return [JobRow.model_validate_json(line).index for line in path.read_text().splitlines()]


def test_a_file_is_submitted_followed_and_fetched(prompt: Prompt, tmp_path: Path) -> None:
    file, out = write(tmp_path / "groups.jsonl", *map(group, range(2500))), tmp_path / "rows.jsonl"
    job = prompt.job("submit", file)
    assert job.groups == 2500
    code, written, complaint = prompt.run("results", job.id, "--out", str(out), "--follow")
    assert (code, written, complaint) == (0, "", "")
    assert sorted(indices(out)) == [*range(2500)]
    code, line, _ = prompt.run("status", job.id)
    assert (code, line) == (0, f"{job.id}  done, 2,500 of 2,500 groups\n")
    assert prompt.run("results", job.id)[1] == out.read_text()


def test_a_submitted_file_is_not_submitted_twice(prompt: Prompt, tmp_path: Path) -> None:
    file = write(tmp_path / "groups.jsonl", group(0))
    first = prompt.job("submit", file)
    code, written, complaint = prompt.run("submit", file, "--json")
    assert (code, BatchJob.model_validate_json(written).id) == (0, first.id)
    assert "was submitted before" in complaint
    (tmp_path / "groups.jsonl.job").write_text(json.dumps({"job": "0" * 32}))
    assert prompt.job("submit", file).id not in (first.id, "0" * 32)


def test_an_interrupted_submission_goes_on_at_the_servers_count(
    prompt: Prompt, server: Running, tmp_path: Path
) -> None:
    file = write(tmp_path / "groups.jsonl", *map(group, range(2500)))
    through = forwards(server.url)
    with scripted(through, through, says(500, b"")) as proxy:
        assert prompt.run("submit", file, url=proxy.url)[0] == 1
    begun = json.loads((tmp_path / "groups.jsonl.job").read_text())["job"]
    assert prompt.job("status", begun).groups == 1000
    job = prompt.job("submit", file)
    assert (job.id, job.groups, job.status in ("running", "done")) == (begun, 2500, True)


def test_rows_go_on_where_they_ended_and_an_unfinished_page_is_cut_off(
    prompt: Prompt, server: Running, tmp_path: Path
) -> None:
    out = tmp_path / "rows.jsonl"
    with Client(server.url) as client:
        job = client.create_job([group(0)], open=True)
        until(lambda: client.job(job.id).done == 1, "a row")
        assert prompt.run("results", job.id, "--out", str(out))[0] == 0
        assert indices(out) == [0]
        with out.open("a") as file:
            file.write('{"index": 1, "stat')
        client.append_groups(job.id, [group(1), group(2)], 1, close=True)
    for _ in range(2):
        assert prompt.run("results", job.id, "--out", str(out), "--follow")[0] == 0
        assert sorted(indices(out)) == [0, 1, 2]


def test_rows_are_not_mixed_with_another_files(prompt: Prompt, tmp_path: Path) -> None:
    one, other = (prompt.job("submit", write(tmp_path / f"{n}.jsonl", group(n))) for n in range(2))
    out = tmp_path / "rows.jsonl"
    out.write_text("mine\n")
    code, _, complaint = prompt.run("results", one.id, "--out", str(out))
    assert (code, out.read_text()) == (1, "mine\n")
    assert "not this job's" in complaint
    out.unlink()
    assert prompt.run("results", one.id, "--out", str(out), "--follow")[0] == 0
    assert prompt.run("results", other.id, "--out", str(out))[0] == 1
    out.write_text("")
    code, _, complaint = prompt.run("results", one.id, "--out", str(out))
    assert (code, "it has lost rows" in complaint) == (1, True)


def test_a_row_without_scores_is_its_own_exit_code(prompt: Prompt, tmp_path: Path) -> None:
    for fields in ({"images": [GONE]}, {"candidates": ["fine", "word " * 5000]}):
        file = write(tmp_path / f"{len(str(fields))}.jsonl", group(0, **fields))
        assert prompt.run("results", prompt.job("submit", file).id, "--follow")[0] == 3


def test_the_line_at_fault_is_named_by_its_place_in_the_file(prompt: Prompt, tmp_path: Path) -> None:
    file = write(tmp_path / "groups.jsonl", *map(group, range(1500)), {"question": "?"})
    code, written, complaint = prompt.run("submit", file)
    assert (code, written) == (1, "")
    assert complaint.startswith(f"steelyard: {file}:3001: candidates: Field required")
    assert len(complaint.splitlines()) == 1


def test_a_file_that_is_not_there_leaves_no_job(prompt: Prompt, tmp_path: Path) -> None:
    code, _, complaint = prompt.run("submit", str(tmp_path / "none"), url="http://127.0.0.1:1")
    assert (code, "No such file" in complaint) == (1, True)
    assert [*tmp_path.iterdir()] == []


def test_a_job_is_cancelled(prompt: Prompt, server: Running) -> None:
    with Client(server.url) as client:
        job = client.create_job([], open=True)
    code, line, _ = prompt.run("cancel", job.id)
    assert (code, line) == (0, f"{job.id}  cancelled, 0 of 0 groups\n")
    code, _, complaint = prompt.run("cancel", "0" * 32)
    assert (code, complaint.startswith("steelyard: there is no such job")) == (1, True)


@pytest.mark.parametrize("arguments", [(), ("submit",), ("status",), ("results", "x", "--out"), ("submit", "x", "y")])
def test_wrong_usage_is_2(prompt: Prompt, arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        prompt.run(*arguments)
    assert ended.value.code == 2


def test_a_server_that_hangs_up_is_asked_again() -> None:
    with scripted(hangs_up, says(200, b'{"cursor":"0","done":true}\n')) as proxy, Client(proxy.url) as client:
        assert client.job_results("0" * 32).done
