"""Labels that bring a question along, and settings in their plain form."""

import json

import pytest

from steelyard.errors import InvalidCall
from steelyard.trainers.settings import scorer_of
from steelyard.trainers.told import Told, told_by


def test_a_label_is_an_object_or_its_json() -> None:
    label = {"question": "What?", "images": ["sha256:1", "sha256:2"], "answer": 3}
    assert told_by(label) == told_by(json.dumps(label)) == Told("What?", ("sha256:1", "sha256:2"))
    assert told_by({"images": "a.png"}) == Told(None, ("a.png",))


@pytest.mark.parametrize("label", ["circle", "{not JSON", '{"answer": 1}', "", None, 7, ["a"], "{" * 100_000])
def test_another_label_says_nothing(label: object) -> None:
    assert told_by(label) == Told()


def test_a_label_without_a_question_is_refused_where_one_is_needed() -> None:
    with pytest.raises(InvalidCall, match="question"):
        told_by({"images": []}).asked()
    with pytest.raises(InvalidCall, match="places pictures"):
        told_by({"question": "<image>\nWhat?"}).asked()
    with pytest.raises(InvalidCall, match="text or messages"):
        told_by({"question": 7})


def test_equal_settings_are_one_scorer() -> None:
    assert scorer_of({"url": "http://a", "kind": "outcome"}) is scorer_of({"kind": "outcome", "url": "http://a"})
    assert scorer_of({"url": "http://a"}) is not scorer_of({"url": "http://b"})


@pytest.mark.parametrize(
    "settings", [{"knd": "steps"}, {"kind": "both"}, {"max_tiles": 0}, {"api_key": "x"}, {"model": ["a"]}]
)
def test_a_setting_that_is_none_names_itself(settings: dict[str, object]) -> None:
    with pytest.raises(InvalidCall, match=next(iter(settings))):
        scorer_of(settings)
