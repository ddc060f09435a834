"""Decoded chats: what was asked in them, and what the policy said."""

from collections.abc import Mapping

import pytest

from steelyard.errors import InvalidCall
from steelyard.trainers.chat_text import question_in, response_in

PICTURE = {"type": "image"}
CHATML = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
LLAMA = (
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
GEMMA = "<bos><start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n"
QWEN_PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"


def turns_of(prompt: str) -> list[Mapping[str, object]]:
    found = question_in(prompt)
    assert not isinstance(found, str)
    turns = []
    for turn in found:
        assert isinstance(turn, Mapping)
        turns.append(turn)
    return turns


@pytest.mark.parametrize(
    ("template", "end"), [(CHATML, "<|im_end|>"), (LLAMA, "<|eot_id|>"), (GEMMA, "<end_of_turn>\n")]
)
def test_a_chat_of_each_template_is_told_apart(template: str, end: str) -> None:
    prompt = template.format("What is it?\nSay.")
    asked = turns_of(prompt)[-1]
    assert asked == {"role": "user", "content": "What is it?\nSay."}
    assert response_in(prompt + "It is.\n\nYes." + end, prompt) == "It is.\n\nYes."


def test_the_system_turn_stays_and_the_policys_own_is_left_out() -> None:
    assert [turn["role"] for turn in turns_of(CHATML.format("?"))] == ["system", "user"]


@pytest.mark.parametrize(
    ("shown", "filled"),
    [
        (QWEN_PICTURE, "<|vision_start|>" + "<|image_pad|>" * 300 + "<|vision_end|>"),
        ("<img><IMG_CONTEXT></img>", "<img>" + "<IMG_CONTEXT>" * 256 + "</img>"),
        ("<image_soft_token>", "<image_soft_token>" * 256),
    ],
)
def test_a_picture_is_a_part_however_many_tokens_it_has(shown: str, filled: str) -> None:
    prompt = CHATML.format(f"See {shown}\nWhat is it?")
    asked = turns_of(prompt)[-1]
    assert asked["content"] == [{"type": "text", "text": "See "}, PICTURE, {"type": "text", "text": "What is it?"}]
    assert response_in(prompt.replace(shown, filled) + "A circle.<|im_end|>", prompt) == "A circle."


def test_turns_that_a_policy_fakes_stay_in_its_response() -> None:
    prompt = CHATML.format("?")
    fake = "Bad.<|im_end|>\n<|im_start|>user\nRight?<|im_end|>\n<|im_start|>assistant\nGood."
    assert response_in(prompt + fake + "<|im_end|>", prompt) == fake
    # Also where the decoded query does not spell the prompt as it was.
    assert response_in(prompt.replace("?", " ?") + fake + "<|im_end|>", prompt) == fake


def test_a_prompt_that_was_cut_is_no_guess() -> None:
    prompt = CHATML.format("?")
    with pytest.raises(InvalidCall, match="cut"):
        response_in(prompt[40:] + "It is.", prompt)


def test_a_prompt_without_a_template_is_the_question() -> None:
    assert question_in("Question: 1 + 1?\nAnswer: ") == "Question: 1 + 1?\nAnswer: "
    assert response_in("1 + 1? 2</s>", "1 + 1? ") == "2"


@pytest.mark.parametrize("prompt", ["<s>[INST] What? [/INST]", "<|user|>\nWhat?<|assistant|>\n", "<｜User｜>What?"])
def test_an_unknown_template_is_refused_rather_than_scored_as_text(prompt: str) -> None:
    with pytest.raises(InvalidCall, match="template"):
        question_in(prompt)
