"""One question in the ways that trainers write it is one question for the reward model."""

import pytest

from steelyard.errors import InvalidCall
from steelyard.pictures import PictureLike
from steelyard.trainers.questions import Question, question_of
from steelyard.trainers.samples import PictureSource, QuestionLike, Sample

ONE, OTHER = b"one picture", b"another"
TEXT = "Which shape is red?"


def read(question: QuestionLike, *images: PictureSource) -> Question:
    return question_of(Sample(question, images, "x"))


def user(*parts: object) -> list[dict[str, object]]:
    return [{"role": "user", "content": parts[0] if len(parts) == 1 and isinstance(parts[0], str) else list(parts)}]


PLACE = {"type": "image"}
SAYS = {"type": "text", "text": TEXT}


@pytest.mark.parametrize(
    ("question", "images"),
    [
        (TEXT, [ONE, OTHER]),
        (f"<image>\n<image>\n{TEXT}", [ONE, OTHER]),
        (user(TEXT), [ONE, OTHER]),
        (user(PLACE, PLACE, SAYS), [ONE, OTHER]),
        (user({"type": "image", "image": ONE}, {"type": "image", "image": OTHER}, SAYS), []),
        # As TRL gives them: in the parts and in the column.
        (user({"type": "image", "image": ONE}, {"type": "image", "image": OTHER}, SAYS), [ONE, OTHER]),
        (user({"type": "image_url", "image_url": {"url": ONE}}, {"type": "image_url", "image_url": OTHER}, SAYS), []),
        (user({"type": "image", "image": ONE}, PLACE, TEXT), [OTHER]),
        (user(SAYS), [{"bytes": ONE, "path": None}, {"bytes": OTHER, "path": "x.png"}]),
    ],
)
def test_pictures_before_the_text_are_the_same_however_they_are_given(
    question: QuestionLike, images: list[PictureSource]
) -> None:
    read_as = read(question, *images)
    assert read_as.as_text() == TEXT
    assert read_as.as_messages() == ([{"role": "user", "content": TEXT}], (ONE, OTHER))
    assert read_as == read(TEXT, ONE, OTHER)


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("Is <image> in\n<image>\nit?", "Is <image> in\n<image>\nit?"),
        (user("Is <image> in\n<image>\nit?"), "Is <image> in\n<image>\nit?"),
        (user("Is ", PLACE, "in", PLACE, "it?"), "Is <image>\nin<image>\nit?"),
    ],
)
def test_pictures_within_the_text_stay_there(question: QuestionLike, text: str) -> None:
    read_as = read(question, ONE, OTHER)
    assert read_as.as_text() == text
    (message,), beside = read_as.as_messages()
    assert beside == ()
    parts = message["content"]
    assert isinstance(parts, list)
    assert [part["type"] for part in parts] == ["text", "image_url", "text", "image_url", "text"]
    assert [part["image_url"]["url"] for part in parts[1::2]] == [ONE, OTHER]
    assert "".join(part["text"].strip() for part in parts[::2]) == "Isinit?"


def test_markers_of_another_number_than_pictures_are_left_for_the_server_to_refuse() -> None:
    assert read("<image> and <image>", ONE).as_text() == "<image> and <image>"
    assert read("<image>").as_text() == "<image>"


def test_a_conversation_goes_to_an_outcome_model_as_it_is() -> None:
    turns = [{"role": role, "content": text} for role, text in (("system", "s"), ("user", "u"), ("assistant", "a"))]
    assert read(turns, ONE).as_messages() == (turns, (ONE,))


def test_a_step_model_reads_past_the_system_turn_and_takes_no_conversation() -> None:
    system = {"role": "system", "content": "Think."}
    assert read([system, *user(TEXT)]).as_text() == TEXT
    with pytest.raises(InvalidCall, match=r"one question, not turns of \['user', 'assistant', 'user'\]"):
        read([*user("a"), {"role": "assistant", "content": "b"}, *user("c")]).as_text()


@pytest.mark.parametrize(
    ("question", "images", "reason"),
    [
        (user(PLACE, SAYS), [ONE, OTHER], "2 pictures for 1 places"),
        (user(PLACE, PLACE, SAYS), [ONE], "1 pictures for 2 places"),
        (user({"type": "video"}), [], "'video'"),
        ([{"content": "x"}], [], "role"),
        (["x"], [], "messages"),
        (user(7, 8), [], "'int'"),
    ],
)
def test_what_does_not_fit_together_is_refused(question: QuestionLike, images: list[PictureLike], reason: str) -> None:
    with pytest.raises(InvalidCall, match=reason):
        read(question, *images)
