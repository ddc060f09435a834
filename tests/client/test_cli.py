"""The command as a person or a script runs it: a real process against the real server."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from steelyard.arguments import AGGREGATES
from steelyard.cli import main
from steelyard.errors import InvalidCall
from steelyard.schema import Aggregate, ScoreOutcomesResponse, ScoreStepsResponse, ServedModel, ServedModels
from steelyard.served import choose
from tests.client.answers import PROVENANCE, serves
from tests.client.scripted import Said, Seen, says, scripted
from tests.service.running import PATIENCE_S, Running, running, shared

ROOT = Path(__file__).parents[2]
CIRCLE = ROOT / "examples" / "circle.png"
COMMAND = [sys.executable, "-c", "import sys; from steelyard.cli import main; sys.exit(main())"]
QUESTION = ("--question", "Which shape is red?")
GROUP = (*QUESTION, "--candidate", "A circle.\n\nIt is red.", "--candidate", "A square.")


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Running:
    return shared(request.session)


def environment(url: str, **more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("STEELYARD_", "PYTHONIO"))}
    paths = {"PYTHONPATH": str(ROOT / "client"), "STEELYARD_URL": url, "COLUMNS": "80"}
    return inherited | paths | more


def steelyard(url: str, *arguments: str, given: bytes = b"", **more: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    ended = subprocess.run(
        [*COMMAND, *arguments], input=given, env=environment(url, **more), capture_output=True, check=False, cwd="/"
    )
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


class Prompt:
    """The command run in this process, which is quicker."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def run(self, url: str, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        code = main([*arguments, "--url", url])
        written, complaint = self._capfd.readouterr()
        return code, written, complaint


@pytest.fixture
def prompt(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Prompt:
    monkeypatch.setenv("COLUMNS", "80")
    return Prompt(capfd)


def test_a_group_is_drawn_as_a_table(server: Running) -> None:
    code, table, complaint = steelyard(server.url, "score", "--image", str(CIRCLE), *GROUP, PYTHONIOENCODING="ascii")
    assert (code, complaint) == (0, "")
    question, blank, *rows = table.splitlines()
    assert (question, blank) == ("  Which shape is red?", "")
    assert [row[0] for row in rows].count("★") == 1
    assert rows[0][0] == "★"
    assert {row.rpartition("▌  ")[2] for row in rows} == {"A circle.", "It is red.", "A square."}
    assert "\x1b" not in table


def test_json_is_the_answer_of_the_wire(prompt: Prompt, server: Running) -> None:
    code, text, _ = prompt.run(server.url, "score", *GROUP, "--aggregate", "last", "--json")
    answer = ScoreStepsResponse.model_validate_json(text)
    assert (code, len(text.splitlines())) == (0, 1)
    assert [result.score for result in answer.results] == [
        list(result.step_scores or [])[-1] for result in answer.results
    ]


def test_candidates_come_from_stdin_too_and_cannot_command_the_terminal(server: Running) -> None:
    lines = "\n".join(map(json.dumps, ["\x1b[31mred", ["one", "two"]])) + "\n\n"
    code, table, _ = steelyard(server.url, "score", *GROUP, "--candidates-file", "-", given=lines.encode())
    assert code == 0
    assert r"\x1b[31mred" in table
    assert "\x1b" not in table
    assert len(table.splitlines()) == 2 + 6


def test_a_candidate_without_a_score_is_its_own_exit_code(prompt: Prompt, server: Running) -> None:
    code, table, complaint = prompt.run(server.url, "score", *GROUP, "--candidate", "word " * 5000)
    assert (code, complaint) == (3, "")
    assert "  2  too_long: " in table.splitlines()[-1]


def test_the_models_are_listed(prompt: Prompt, server: Running) -> None:
    code, table, complaint = prompt.run(server.url, "models")
    assert (code, complaint) == (0, "")
    assert table.splitlines()[0].split() == ["visualprm", "steps", "visual_prm", "float32"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--model", "other"), "there is no 'other'; the server has visualprm (steps)"),
        (("--image", "nowhere.png"), "'nowhere.png': there is no such file"),
        (("--candidates-file", "/nowhere"), "--candidates-file /nowhere: No such file"),
        (("--candidates-file", str(CIRCLE)), "circle.png:1: neither a JSON string nor a list of them"),
        (("--max-tiles", "65"), "max_tiles: "),
    ],
)
def test_an_error_is_one_line(prompt: Prompt, server: Running, arguments: tuple[str, ...], word: str) -> None:
    code, table, complaint = prompt.run(server.url, "score", *GROUP, *arguments)
    assert (code, table) == (1, "")
    assert complaint.startswith("steelyard: ")
    assert len(complaint.splitlines()) == 1
    assert word in complaint


def test_a_server_that_is_not_one_is_one_line_and_no_traceback() -> None:
    with scripted(says(502, b"<html>\n\x1b[31mBad gateway</html>")) as server:
        code, _, complaint = steelyard(server.url, "models")
    assert (code, len(complaint.splitlines())) == (1, 1)
    assert complaint.startswith("steelyard: no error object of a Steelyard server, but ")


@pytest.mark.parametrize("line", ["3", "[]", "[3]", "null", "{", '{"a": "b"}', "[" * 100_000])
def test_a_line_that_is_no_candidate_is_named(prompt: Prompt, tmp_path: Path, line: str) -> None:
    file = tmp_path / "candidates.jsonl"
    file.write_text(f'"fine"\n\n{line}\n')
    code, _, complaint = prompt.run("http://127.0.0.1:1", "score", *QUESTION, "--candidates-file", str(file))
    assert (code, complaint) == (1, f"steelyard: {file}:3: neither a JSON string nor a list of them\n")


def test_a_file_without_candidates_is_an_error(prompt: Prompt) -> None:
    code, _, complaint = prompt.run("http://127.0.0.1:1", "score", *QUESTION, "--candidates-file", "/dev/null")
    assert (code, "there is no candidate in it" in complaint) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [(), ("score",), ("score", *QUESTION), ("score", *GROUP, "--aggregate", "median"), ("models", "--timeout", "-1")],
)
def test_wrong_usage_is_its_own_exit_code(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: " in capsys.readouterr().err


def test_outcomes_are_asked_for_where_the_model_scores_them(prompt: Prompt) -> None:
    with scripted(serves_outcomes) as server:
        text = ("--candidate", "a\n\nb", "--image", str(CIRCLE))
        code, table, _ = prompt.run(server.url, "score", *QUESTION, *text)
        refused = prompt.run(server.url, "score", *QUESTION, *text, "--aggregate", "min")
    body = server.seen[2].json
    assert (code, server.seen[2].path) == (0, "/score_outcomes")
    assert body["candidates"] == ["a\n\nb"]
    assert body["messages"] == [{"role": "user", "content": "Which shape is red?"}]
    assert len(body["images"]) == 1
    assert "★ 0  -3.50  ▐██████████▌  a" in table
    assert (refused[0], "--aggregate: orm scores whole answers" in refused[2]) == (1, True)


def test_a_terminal_gets_colours_unless_it_says_no(server: Running) -> None:
    for more, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        terminal, end = pty.openpty()
        command = [*COMMAND, "score", *GROUP]
        ended = subprocess.run(command, env=environment(server.url, **more), stdout=end, check=False)
        os.close(end)
        assert ended.returncode == 0
        assert (b"\x1b[1m" in os.read(terminal, 65536)) is coloured
        os.close(terminal)


def test_a_closed_pipe_and_an_interrupt_are_quiet(server: Running) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    options = {"env": environment(server.url), "stderr": subprocess.PIPE}
    closed = subprocess.run([*COMMAND, "score", *GROUP], stdout=writing, check=False, **options)  # type: ignore[call-overload]
    os.close(writing)
    assert (closed.returncode, closed.stderr) == (141, b"")
    with server.stopped_engine():
        waiting = subprocess.Popen([*COMMAND, "score", *QUESTION, "--candidate", "interrupted"], **options)  # type: ignore[call-overload]
        server.await_waiting(1)
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(PATIENCE_S) == 130
    assert waiting.stderr.read() == b""
    waiting.stderr.close()


def test_a_full_disk_is_one_line(server: Running) -> None:
    with open("/dev/full", "wb") as full:
        command = [*COMMAND, "models"]
        ended = subprocess.run(
            command, env=environment(server.url), stdout=full, stderr=subprocess.PIPE, check=False, text=True
        )
    assert ended.returncode == 1
    assert ended.stderr == "steelyard: the output cannot be written: No space left on device\n"


def test_the_table_in_the_documentation_is_what_the_demo_model_prints(
    prompt: Prompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    candidates = (
        "I see a circle.\n\nThe color is green.\n\nAnswer: circle",
        "The color is green.\n\nThe picture shows a triangle.\n\nAnswer: triangle",
    )
    texts = [argument for text in (*candidates, "word " * 9000) for argument in ("--candidate", text)]
    question = ("--question", "what is the green shape?")
    with running("--model", f"visualprm={ROOT / 'demo' / 'visualprm'}") as server:
        code, table, _ = prompt.run(server.url, "score", "--image", str(CIRCLE), *question, *texts)
    assert code == 3
    for page in ("docs/client.md", "README.md"):
        assert table.rpartition("\n  2  ")[0] in (ROOT / page).read_text(encoding="utf-8")
    assert table in (ROOT / "docs" / "client.md").read_text(encoding="utf-8")


def test_the_example_runs(server: Running) -> None:
    command = [sys.executable, str(ROOT / "examples" / "score_with_client.py")]
    ended = subprocess.run(command, env=environment(server.url), capture_output=True, check=True, text=True)
    assert ended.stdout.splitlines()[-1] == "8 groups more"


def test_the_version_is_said() -> None:
    assert steelyard("", "--version") == (0, "steelyard 0.1.0\n", "")


def model(name: str, kind: str) -> ServedModel:
    fields = {"name": name, "kind": kind, "family": "f", "provenance": PROVENANCE}
    return ServedModel.model_validate(fields | {"limits": {"max_tokens": 1, "max_tiles": 1}})


def serves_outcomes(seen: Seen) -> Said:
    listed = ServedModels(data=[model("orm", "outcome")])
    return Said(200, listed.model_dump_json().encode()) if seen.path == "/models" else serves(seen)


def test_the_model_is_the_named_the_only_or_the_only_one_for_steps() -> None:
    prm, other, orm = model("prm", "steps"), model("other", "steps"), model("orm", "outcome")
    assert choose([prm, orm], None) == prm
    assert choose([orm], None) == orm
    assert choose([prm, other, orm], "orm") == orm
    for models, name in (([prm, other], None), ([orm, model("orm2", "outcome")], None), ([prm], "nil"), ([], None)):
        with pytest.raises(InvalidCall, match="--model: "):
            choose(models, name)


def test_the_command_line_knows_the_aggregates_of_the_wire() -> None:
    assert get_args(Aggregate) == AGGREGATES


def test_the_answer_of_outcomes_is_json_too(prompt: Prompt) -> None:
    with scripted(serves_outcomes) as server:
        code, text, _ = prompt.run(server.url, "score", *QUESTION, "--candidate", "x", "--json")
    assert code == 0
    assert ScoreOutcomesResponse.model_validate_json(text).results[0].score == -3.5
