"""What a person sees: fitted to the terminal, and unable to command it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.display import columns, visible, wrap
from steelyard.schema import OutcomeScore, StepScores
from steelyard.table import Style, bar, outcome_table, question_lines, step_table
from tests.client.answers import outcomes, steps

PLAIN = Style(80, colours=False)
ANYTHING = st.text(st.characters(), max_size=200)


def two_steps(index: int, first: float, second: float) -> StepScores:
    return StepScores(
        index=index,
        status="ok",
        score=(first + second) / 2,
        step_scores=[first, second],
        step_logits=[0.0, 0.0],
        step_spans=[(0, 3), (5, 8)],
    )


UNSCORED = StepScores(index=2, status="expired", retryable=True, detail="the deadline \x1b[2J passed")
TEXTS = ["one\n\ntwo", "uno\n\ndos", "never"]


def test_the_best_comes_first_and_the_unscored_last() -> None:
    table = step_table(steps(two_steps(0, 0.25, 0.5), two_steps(1, 1.0, 0.75), UNSCORED), TEXTS, PLAIN)
    assert table == [
        "★ 1  0.88   1.00  ▐██████████▌  uno",
        "            0.75  ▐███████▌  ▌  dos",
        "  0  0.38   0.25  ▐██▌       ▌  one",
        "            0.50  ▐█████     ▌  two",
        r"  2  expired (worth another try): the deadline \x1b[2J passed",
    ]


def test_unbounded_scores_have_bars_within_their_group() -> None:
    results = [OutcomeScore(index=index, status="ok", score=score) for index, score in enumerate((-12.5, 3.0, -4.75))]
    assert outcome_table(outcomes(*results), ["a", "b", "c"], PLAIN) == [
        "★ 1    3.00  ▐██████████▌  b",
        "  2   -4.75  ▐█████     ▌  c",
        "  0  -12.50  ▐          ▌  a",
    ]


def test_outcomes_that_tie_and_one_without_a_score() -> None:
    tie = [OutcomeScore(index=index, status="ok", score=1.0) for index in (0, 1)]
    refused = OutcomeScore(index=2, status="refused", retryable=False)
    table = outcome_table(outcomes(*tie, refused), ["a", "b", "c"], PLAIN)
    assert [line[:3] for line in table] == ["★ 0", "  1", "  2"]
    assert table[0].count("█") == table[1].count("█") == 10
    assert table[2] == "  2  refused: not scored"


def test_colours_change_no_letter() -> None:
    answer = steps(two_steps(0, 0.25, 0.5), two_steps(1, 1.0, 0.75), UNSCORED)
    coloured = step_table(answer, TEXTS, Style(80, colours=True))
    assert coloured[0].startswith("\x1b[1m★ 1  0.88\x1b[0m")
    for code in ("\x1b[1m", "\x1b[31m", "\x1b[0m"):
        coloured = [line.replace(code, "") for line in coloured]
    assert coloured == step_table(answer, TEXTS, PLAIN)


@given(ANYTHING)
def test_no_text_commands_a_terminal(text: str) -> None:
    assert visible(text).isprintable()
    assert "".join(wrap(text, 20)).isprintable()


def test_what_was_hidden_is_spelt_out_and_the_rest_is_as_it_was() -> None:
    assert visible("\x1b]0;title\x07 \x9b1m\u202e\u200b\ud800") == r"\x1b]0;title\x07 \x9b1m\u202e\u200b\ud800"
    assert visible("a\tb\u00a0ç 🙂 图片") == "a b ç 🙂 图片"


@given(ANYTHING, st.integers(-5, 60))
def test_lines_fit_and_lose_nothing_but_spaces(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert all(columns(line) <= max(2, width) for line in lines)
    joined = "".join(text.splitlines())
    assert "".join(lines).replace(" ", "") == visible(joined).replace(" ", "")


def test_wide_letters_take_two_columns() -> None:
    assert wrap("图片里有一个圆", 6) == ["图片里", "有一个", "圆"]
    assert columns("e\u0301") == 1


@pytest.mark.parametrize("width", [1, 10, 24, 40, 200])
def test_a_table_fits_where_it_can(width: int) -> None:
    answer = steps(two_steps(0, 0.25, 0.5).model_copy(update={"step_spans": [(0, 60), (62, 90)]}))
    table = step_table(answer, ["a picture " * 6 + "\n\n" + "word " * 20], Style(width, colours=False))
    # The figures and the bar take 32 columns, and a text at least 2.
    assert max(map(columns, table)) <= max(width, 34)
    assert max(map(columns, question_lines("word " * 50, Style(width, colours=False)))) <= max(width, 4)


@given(st.floats(allow_nan=False))
def test_every_bar_is_as_wide(full: float) -> None:
    assert columns(bar(full)) == 12


def test_a_bar_is_exact_to_an_eighth() -> None:
    assert bar(0.0) == "▐          ▌"
    assert bar(1.0) == "▐██████████▌"
    assert bar(0.33) == "▐███▎      ▌"
    assert bar(0.69) == "▐██████▉   ▌"
