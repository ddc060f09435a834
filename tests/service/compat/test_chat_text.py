"""Chats that policies' templates made, taken apart without a server."""

import pytest

from service.compat.chat_text import Turn, looks_templated, read_answered, read_chat
from service.errors import InvalidRequest

SYSTEM, ASK, REPLY = Turn("system", "Be brief."), Turn("user", "What is it?\n\n2 + 2"), "It is 4.\n\nAnswer: 4\n"
# The templates of policies that are trained: the chat as a tokenizer decodes it, its special tokens left in.
TEMPLATES = {
    "qwen": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is it?\n\n2 + 2<|im_end|>\n"
        "<|im_start|>assistant\n",
        "<|im_end|>\n<|endoftext|><|endoftext|>",
    ),
    "internlm": (
        "<s><|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is it?\n\n2 + 2<|im_end|>\n"
        "<|im_start|>assistant\n",
        "<|im_end|></s>",
    ),
    "ixc": (
        "[UNUSED_TOKEN_146]system\nBe brief.[UNUSED_TOKEN_145]\n[UNUSED_TOKEN_146]user\nWhat is it?\n\n2 + 2"
        "[UNUSED_TOKEN_145]\n[UNUSED_TOKEN_146]assistant\n",
        "[UNUSED_TOKEN_145]\n",
    ),
    "llama 3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user"
        "<|end_header_id|>\n\nWhat is it?\n\n2 + 2<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|><|finetune_right_pad_id|>",
    ),
    "llama 4": (
        "<|begin_of_text|><|header_start|>system<|header_end|>\n\nBe brief.<|eot|><|header_start|>user<|header_end|>"
        "\n\nWhat is it?\n\n2 + 2<|eot|><|header_start|>assistant<|header_end|>\n\n",
        "<|eot|>",
    ),
    "phi": (
        "<|system|>\nBe brief.<|end|>\n<|user|>\nWhat is it?\n\n2 + 2<|end|>\n<|assistant|>\n",
        "<|end|>\n<|endoftext|>",
    ),
    "glm": (
        "[gMASK]<sop><|system|>\nBe brief.<|user|>\nWhat is it?\n\n2 + 2<|assistant|>\n",
        "",
    ),
    "deepseek": (
        "<｜begin▁of▁sentence｜>Be brief.<｜User｜>What is it?\n\n2 + 2<｜Assistant｜>",
        "<｜end▁of▁sentence｜>",
    ),
    "vicuna": ("<s>Be brief. USER: What is it?\n\n2 + 2 ASSISTANT: ", "</s>"),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_chat_is_its_turns_and_its_answer(name: str) -> None:
    prompt, end = TEMPLATES[name]
    chat = read_chat(prompt + REPLY + end)
    assert chat is not None
    assert chat.turns == (SYSTEM, ASK)
    assert chat.answer == REPLY


@pytest.mark.parametrize("name", TEMPLATES)
def test_with_its_prompt_known_the_rest_is_the_answer_whatever_it_looks_like(name: str) -> None:
    prompt, end = TEMPLATES[name]
    faked = f"4{end}{prompt}5"
    chat = read_answered(prompt + faked + end, prompt)
    assert chat is not None
    assert chat.turns == (SYSTEM, ASK)
    assert chat.answer == faked


@pytest.mark.parametrize(
    ("prompt", "turns"),
    [
        ("[INST] Hi [/INST]", (Turn("user", "Hi"),)),
        (
            "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
            (Turn("user", "Hi"),),
        ),
    ],
)
def test_templates_without_a_system_turn(prompt: str, turns: tuple[Turn, ...]) -> None:
    chat = read_chat(prompt + "4</s>")
    assert chat is not None
    assert (chat.turns, chat.answer) == (turns, "4")


def test_a_turn_of_the_user_last_is_no_answer() -> None:
    chat = read_chat("<|im_start|>user\nHi<|im_end|>\n")
    assert chat is not None
    assert (chat.turns, chat.answer) == ((Turn("user", "Hi"),), None)


def test_an_answer_that_ended_at_once_is_empty_and_one_that_was_cut_off_is_whole() -> None:
    opened = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert [chat.answer for text in ("<|im_end|>", "one\n\n") if (chat := read_chat(opened + text))] == ["", "one\n\n"]


@pytest.mark.parametrize(
    ("in_prompt", "in_text"),
    [
        (
            "<|vision_start|><|image_pad|><|vision_end|>",
            "<|vision_start|>" + "<|image_pad|>" * 64 + "<|vision_end|>",
        ),
        ("<image>\n", "<img>" + "<IMG_CONTEXT>" * 256 + "</img>\n"),
        ("<start_of_image>", "<start_of_image>" + "<image_soft_token>" * 256 + "<end_of_image>"),
        ("[IMG]", "[IMG][IMG][IMG_BREAK][IMG][IMG][IMG_END]"),
    ],
)
def test_a_picture_is_dropped_from_what_was_asked_however_many_tokens_it_has(in_prompt: str, in_text: str) -> None:
    prompt = "<|im_start|>user\n{}Which shape?<|im_end|>\n<|im_start|>assistant\n"
    answer = "An <image> of a circle."
    chat = read_answered(prompt.format(in_text) + answer, prompt.format(in_prompt))
    assert chat is not None
    assert (chat.turns, chat.answer, chat.shown) == ((Turn("user", "Which shape?"),), answer, True)


def test_a_prompt_without_a_template_is_the_question() -> None:
    chat = read_answered("What is 2 + 2? It is 4.</s>", "What is 2 + 2?")
    assert chat is not None
    assert (chat.turns, chat.answer, chat.shown) == ((Turn("user", "What is 2 + 2?"),), " It is 4.", False)


def test_what_begins_otherwise_or_has_another_template_is_not_guessed() -> None:
    assert read_answered("another text", "a text") is None
    assert read_answered("<|turn|>me: hi<|turn|>you: ho", "<|turn|>me: hi<|turn|>you:") is None
    assert looks_templated("<|turn|>me: hi")
    assert not looks_templated("a < b | c > d and <b>bold</b>")
    assert read_chat("no template at all") is None


def test_a_speaker_that_no_model_knows_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="'tool'"):
        read_chat("<|im_start|>tool\n7<|im_end|>\n<|im_start|>assistant\n7")


@pytest.mark.parametrize("piece", ["<|im_end|>", "\n", "<|im_start|>", "<image>", "<|", "USER: ", " [INST]", "</s> "])
def test_a_long_text_of_one_piece_takes_no_long_time(piece: str) -> None:
    text = piece * (2**20 // len(piece))
    chat = read_answered(text, text[: len(text) // 2])
    assert chat is None or chat.turns[0].role in ("user", "system")
