"""One question as a picture."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from evaluation import showcase
from evaluation.steps_svg import Shown, colour, draw_steps
from tests.evaluation.made_up import finish, questions, write_lines
from tests.service.running import shared


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_a_question_of_a_file_is_scored_and_drawn(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    file = write_lines(tmp_path / "candidates.jsonl", questions(tmp_path))
    url = shared(request.session).url
    assert finish(showcase.main, "--candidates", file, "--line", 3, "--url", url, "--out", tmp_path / "out") == 0
    svg = (tmp_path / "out" / "showcase.svg").read_text(encoding="utf-8")
    asked = questions(tmp_path)[2]
    assert asked["question"] in texts(svg)
    assert sum(text.startswith("Answer: ") for text in texts(svg)) == 4
    assert {"right", "wrong"} <= set(texts(svg))
    assert sum("★" in text for text in texts(svg)) == 1


def test_the_best_stands_first_and_what_has_no_score_last() -> None:
    shown = [
        Shown(0.2, [("low", 0.2)], correct=False),
        Shown(None, [("none", None)], correct=True, unscored="too_long"),
        Shown(0.9, [("a <b> & c", 0.9)], correct=True),
    ]
    found = [text for text in texts(draw_steps("Which?", None, shown)) if text not in ("right", "wrong")]
    assert found == ["Which?", "★ 0.90", "0.90", "a <b> & c", "0.20", "0.20", "low", "too_long", "", "none"]


def test_colours_run_from_red_to_green_and_grey_is_no_score() -> None:
    red, yellow, green = (colour(value) for value in (0.0, 0.5, 1.0))
    assert (red, yellow, green) == ("#f4a39a", "#fae9a0", "#9ed8a5")
    assert colour(None) not in (red, yellow, green)
    assert colour(2.0) == green


def test_a_line_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_lines(tmp_path / "candidates.jsonl", questions(tmp_path, count=2))
    arguments = ("--candidates", file, "--line", 3, "--url", "http://127.0.0.1:9", "--out", tmp_path / "out")
    assert finish(showcase.main, *arguments) == 1
    assert "--line 3" in capsys.readouterr().err
