"""Steps, answers and verdicts from a policy's text."""

import pytest

from evaluation.solutions import is_right, split_steps
from steelyard.best_of_n import final_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Answer: 3", "3"),
        ("So.\nFinal answer: **B**.", "B"),
        ("Answer: 1\n\nNo, wait.\n\nAnswer: 2", "2"),
        ("answer : (C)", "C"),
        ("### Answer:\n42", "42"),
        ("The answer is 3.", None),
        ("Answer: ...", None),
    ],
)
def test_the_last_answer_counts_without_its_markup(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("Red", "red.", True),
        ("3.0", 3, True),
        ("1,000", "1000", True),
        ("3", "4", False),
        (None, "3", False),
        ("3", None, False),
        ("nan", "nan", True),
    ],
)
def test_answers_are_compared_as_numbers_where_they_are_numbers(
    answer: str | None, expected: str | int | None, right: bool
) -> None:
    assert is_right(answer, expected) is right


def test_steps_are_split_on_blank_lines_of_any_kind() -> None:
    assert split_steps("a\r\n\r\nb\n \t\n\n c \nd\n\n") == ["a", "b", "c \nd"]


def test_many_blank_lines_are_read_in_no_time() -> None:
    assert split_steps("\n" * 100_000) == []
    assert final_answer("*" * 100_000 + "\n" * 100_000) is None
