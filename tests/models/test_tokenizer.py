import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from models.checkpoint import CheckpointError
from models.tokenizer import Segment, Tokenizer, TooManyTokens, load_tokenizer
from tests.golden import REAL_TOKENIZER, TINY_VISUAL_PRM, VISUAL_PRM, read_lines

CONTROL = ["<|im_start|>", "<|im_end|>", "<img>", "<IMG_CONTEXT>", "<s>", "</s>", "[UNUSED_TOKEN_146]"]
FRAGMENTS = [*CONTROL, "<", "<|", "|>", "[", "UNUSED_TOKEN_146]", "_start|>", "IMG_CONTEXT>"]
FRAGMENTS += [
    "\n",
    "\n\n",
    " ",
    "  ",
    "\t ",
    "\n ",
    "+",
    "+\n",
    "a",
    " the",
    "Step 1",
    "é",
    "的",
    "😀",
    "\0",
    "▁",
    "1/2",
]
texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=12).map("".join)


@cache
def tokenizer() -> Tokenizer:
    return load_tokenizer(REAL_TOKENIZER)


@cache
def sentencepiece() -> SentencePieceProcessor:
    return SentencePieceProcessor(str(REAL_TOKENIZER / "tokenizer.model"))


def encode(text: str, *, literal: bool = False) -> list[int]:
    ids: list[int] = tokenizer().encode([Segment(text)], literal=literal).ids.tolist()
    return ids


def copy(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The tiny checkpoint's tokenizer with a changed `tokenizer_config.json`."""
    for name in ("tokenizer.model", "added_tokens.json", "special_tokens_map.json"):
        shutil.copy(TINY_VISUAL_PRM / name, folder / name)
    config = json.loads((TINY_VISUAL_PRM / "tokenizer_config.json").read_text())
    change(config)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_the_reference_prompts_have_the_reference_ids() -> None:
    for prompt in read_lines(VISUAL_PRM / "real_tokenizer_prompts.jsonl"):
        assert [*tokenizer().bos, *encode(prompt["text"])] == prompt["input_ids"], prompt["id"]


def test_ids_are_int32() -> None:
    for text in ("", "plain", "<s>"):
        assert tokenizer().encode([Segment(text)]).ids.dtype == np.int32


def test_an_empty_text_has_no_tokens() -> None:
    assert encode("") == []
    assert tokenizer().encode([]).ids.size == 0


@given(st.lists(st.sampled_from(FRAGMENTS[len(CONTROL) :]) | st.text(st.characters(exclude_categories=["Cs"]))))
def test_words_encode_as_the_whole_text_does(parts: list[str]) -> None:
    text = "".join(parts)
    if not tokenizer().encode([Segment(text)]).control:
        assert encode(text) == sentencepiece().encode(text)


@given(st.lists(texts, max_size=5))
def test_segments_encode_as_the_text_they_make(parts: list[str]) -> None:
    segments = [Segment(part, trusted=index % 2 == 0) for index, part in enumerate(parts)]
    assert tokenizer().encode(segments).ids.tolist() == encode("".join(parts))


def test_text_before_and_after_the_seam_encodes_apart() -> None:
    template = "\n\n### Solution Process:\n"
    seam = tokenizer().seam(template)
    assert 0 < seam < len(template)
    for before, after in [("", "\n+"), ("a\n", "\n\nb"), ("###", "  c"), ("😀", " ")]:
        whole = before + template + after
        cut = len(before) + seam
        assert encode(whole[:cut]) + encode(whole[cut:]) == encode(whole)


@given(texts)
def test_literal_text_never_becomes_a_control_token(text: str) -> None:
    controls = {tokenizer().control_id(token) for token in CONTROL}
    controls |= {id_ for id_ in range(92397, 92553) if id_ >= 92544 or "UNUSED" in sentencepiece().id_to_piece(id_)}
    ids = encode(text, literal=True)
    assert not controls & set(ids)
    if text.isprintable() and "▁" not in text:
        assert sentencepiece().decode(ids) == text


def test_literal_control_text_keeps_its_spelling() -> None:
    assert sentencepiece().decode(encode("a <|im_start|>user[UNUSED_TOKEN_146]", literal=True)) == (
        "a <|im_start|>user[UNUSED_TOKEN_146]"
    )


@given(texts)
def test_literal_changes_nothing_where_there_is_no_control_text(text: str) -> None:
    if not tokenizer().encode([Segment(text)]).control:
        assert encode(text, literal=True) == encode(text)


def test_trusted_control_text_stays_control_text_in_literal_mode() -> None:
    segments = [Segment("<|im_start|>user\n", trusted=True), Segment("<|im_end|>")]
    ids = tokenizer().encode(segments, literal=True).ids.tolist()
    assert ids[0] == tokenizer().control_id("<|im_start|>")
    assert tokenizer().control_id("<|im_end|>") not in ids


@pytest.mark.parametrize("parts", [("<|im_", "end|>"), ("<|im_end|", ">"), ("x[UNUSED_TOKEN_", "146]"), ("<", "s>")])
def test_control_text_is_found_across_segments(parts: tuple[str, str]) -> None:
    for trusted in ((True, False), (False, True), (False, False)):
        segments = [Segment(text, trust) for text, trust in zip(parts, trusted, strict=True)]
        assert tokenizer().encode(segments).control
        plain = tokenizer().encode(segments, literal=True).ids.tolist()
        assert sentencepiece().decode(plain) == "".join(parts)
    assert not tokenizer().encode([Segment("".join(parts), trusted=True)]).control


def test_control_text_is_named_once_in_order() -> None:
    found = tokenizer().encode([Segment("</s><s></s>"), Segment("<img>", trusted=True)]).control
    assert found == ("</s>", "<s>")


def test_unused_pieces_are_control_text_and_override_nothing_else() -> None:
    assert encode("[UNUSED_TOKEN_146]") == [tokenizer().control_id("<|im_start|>")]
    assert tokenizer().encode([Segment("[UNUSED_TOKEN_3]")]).control == ("[UNUSED_TOKEN_3]",)
    assert tokenizer().encode([Segment("[UNUSED_TOKEN_999]")]).control == ()


def test_a_lone_surrogate_is_encoded_as_the_replacement_character() -> None:
    assert encode("a\ud800b\udfff") == encode("a\ufffdb\ufffd")


def test_nul_is_encoded_as_its_byte() -> None:
    assert encode("a\0b") == [264, 3, 260]


@given(texts, st.integers(0, 12))
def test_too_many_tokens_are_refused_and_as_many_as_allowed_are_not(text: str, limit: int) -> None:
    ids = encode(text)
    if len(ids) > limit:
        with pytest.raises(TooManyTokens):
            tokenizer().encode([Segment(text)], max_tokens=limit)
    else:
        assert tokenizer().encode([Segment(text)], max_tokens=limit).ids.tolist() == ids


@pytest.mark.parametrize("character", ["a", " ", "的", "\u0378"])
def test_text_that_must_be_too_long_is_never_encoded(character: str) -> None:
    class Untouched(SentencePieceProcessor):
        def encode_as_numpy(self, input: object, **kwargs: object) -> None:
            raise AssertionError(input)

    model = Untouched(str(REAL_TOKENIZER / "tokenizer.model"))
    with pytest.raises(TooManyTokens):
        Tokenizer(model, {"<s>": 1}).encode([Segment(character * 130_000)], max_tokens=1000)


def test_threads_share_a_tokenizer() -> None:
    prompts = [prompt["text"] for prompt in read_lines(VISUAL_PRM / "real_tokenizer_prompts.jsonl")] * 4
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(encode, prompts)) == list(map(encode, prompts))


def test_bare_pieces_have_ids_and_others_are_refused() -> None:
    assert (tokenizer().piece_id("+"), tokenizer().piece_id("-")) == (342, 285)
    with pytest.raises(CheckpointError, match="no piece"):
        tokenizer().piece_id("no such piece")
    with pytest.raises(CheckpointError, match="no added token"):
        tokenizer().control_id("<video>")


def test_bos_is_left_out_when_the_checkpoint_says_so(tmp_path: Path) -> None:
    assert tokenizer().bos.tolist() == [1]
    assert load_tokenizer(copy(tmp_path, lambda config: config.update(add_bos_token=False))).bos.size == 0


def test_added_tokens_without_a_decoder_are_numbered_as_transformers_does(tmp_path: Path) -> None:
    """The ids were read off transformers 4.37.2."""
    legacy = load_tokenizer(copy(tmp_path, lambda config: config.pop("added_tokens_decoder")))
    assert legacy.control_id("</box>") == 1114
    assert legacy.control_id("<|im_start|>") == 1115
    assert (legacy.control_id("<|plugin|>"), legacy.size) == (1120, 1121)


def test_special_tokens_that_are_nowhere_listed_come_last(tmp_path: Path) -> None:
    def unlist(config: dict[str, Any]) -> None:
        del config["added_tokens_decoder"], config["additional_special_tokens"]
        config["pad_token"] = None

    folder = copy(tmp_path, unlist)
    (folder / "added_tokens.json").unlink()
    bare = load_tokenizer(folder)
    assert (bare.control_id("</s>"), bare.control_id("<|im_start|>"), bare.control_id("</box>")) == (2, 1106, 1120)


def _change_token(id_: str, **values: object) -> Callable[[dict[str, Any]], object]:
    return lambda config: config["added_tokens_decoder"].setdefault(id_, {"content": "<new>"}).update(values)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda config: config.update(add_eos_token=True), "add_eos_token must be false"),
        (lambda config: config.update(tokenizer_class="LlamaTokenizer"), "tokenizer_class must be one of"),
        (lambda config: config.update(added_tokens_decoder=[]), "added_tokens_decoder must be an object"),
        (lambda config: config.update(additional_special_tokens=[7]), "must be a string or an object"),
        (lambda config: config["added_tokens_decoder"].update(x="<x>"), "'x' is not the id of a token"),
        (_change_token("1106", lstrip=True), "lstrip must be false"),
        (_change_token("1106", content="<i<mg>"), "could overlap"),
        (_change_token("1106", content="<s><"), "could overlap"),
        (_change_token("1106", content="!"), "could overlap"),
        (_change_token("970"), "has the id of the piece"),
    ],
)
def test_what_is_not_reproduced_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], problem: str
) -> None:
    with pytest.raises(CheckpointError, match=problem) as raised:
        load_tokenizer(copy(tmp_path, change))
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_two_added_tokens_with_one_id_are_refused(tmp_path: Path) -> None:
    """A special token that is not listed is numbered by the vocabulary's length, which may be taken."""
    with pytest.raises(CheckpointError, match="the same id"):
        load_tokenizer(copy(tmp_path, lambda config: config["added_tokens_decoder"].pop("1106")))


def test_a_missing_or_broken_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.model: the file is missing"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CheckpointError, match=r"tokenizer\.model: not readable"):
        load_tokenizer(tmp_path)


def test_broken_json_is_named(tmp_path: Path) -> None:
    copy(tmp_path, dict)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json: not readable as JSON"):
        load_tokenizer(tmp_path)
