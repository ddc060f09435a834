"""Neighbouring records share what they ask, and only that."""

from pathlib import Path

from steelyard.data.columns import Columns, Reading
from steelyard.data.records import Item, Record

COLUMNS = Columns("steps", Path(), question="question", images="image", response="response")


def read(*rows: tuple[str, object, str]) -> list[Item]:
    reading = Reading(COLUMNS)
    items: list[Item] = []
    for index, (question, image, response) in enumerate(rows):
        found = reading.items(Record(index, "", {"question": question, "image": image, "response": response}))
        assert isinstance(found, list)
        items += found
    return items


def test_the_prompt_of_neighbours_is_one() -> None:
    first, second, third = read(("Q", b"one", "a"), ("Q", b"one", "b"), ("Q", b"one", "a"))
    assert first.prompt is second.prompt is third.prompt
    assert first.key == third.key != second.key


def test_another_question_or_picture_is_another_prompt() -> None:
    rows = [("Q", b"one", "a"), ("Q", b"two", "a"), ("Q", None, "a"), ("R", None, "a"), ("Q", b"one", "a")]
    *others, again = read(*rows)
    assert len({item.key for item in others}) == len({item.prompt.key for item in others}) == 4
    assert (again.key, again.prompt.key) == (others[0].key, others[0].prompt.key)
    assert [item.key for item in others] == [read(row)[0].key for row in rows[:-1]]
