"""Small tokenizers in InternLM2's settings: one piece for each word of the grammar, bytes for the rest.

python -m demo.tokenizer process|outcome FOLDER
"""

import argparse
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from string import printable
from typing import Literal

from sentencepiece import SentencePieceTrainer

from demo.chains import reason, spoil
from demo.facts import ALL_FACTS
from demo.questions import every_question

Family = Literal["process", "outcome"]

_PIECES = 520
_CHAINS = 4000
_TEMPLATE = ("user", "assistant", "system", "### Question:", "### Solution Process:", "+", "-")
_CHAT = ("<|plugin|>", "<|interpreter|>", "<|action_end|>", "<|action_start|>", "<|im_end|>", "<|im_start|>")
_PICTURE = ("<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>")
_ADDED: Mapping[Family, Sequence[str]] = {"process": (*_CHAT, *_PICTURE), "outcome": _CHAT}
_UNUSED: Mapping[Family, Sequence[str]] = {
    "process": (),
    "outcome": tuple(f"[UNUSED_TOKEN_{number}]" for number in (130, 145, 146)),
}


def write_tokenizer(folder: Path, family: Family) -> None:
    """Train `tokenizer.model` on text of the grammar and describe it in `tokenizer_config.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(_corpus()),
        model_writer=model,
        model_type="bpe",
        vocab_size=_PIECES,
        character_coverage=1.0,
        required_chars="".join(sorted(set(printable) - set(" \t\n\r\x0b\x0c"))),
        user_defined_symbols=list(_UNUSED[family]),
        byte_fallback=True,
        split_digits=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        hard_vocab_limit=False,
        num_threads=1,
        pad_id=-1,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    _write_json(folder / "tokenizer_config.json", _configuration(family))


def _corpus() -> list[str]:
    random = Random(0)
    facts, lines = sorted(ALL_FACTS), list(_TEMPLATE) * _CHAINS
    for question in every_question():
        suited = [found for found in facts if question.suits(found)]
        for _ in range(_CHAINS // len(every_question())):
            chain = reason(question, random.choice(suited), random)
            lines += [question.text, *spoil(chain, random).texts]
    return lines


def _configuration(family: Family) -> dict[str, object]:
    special = {"<unk>": 0, "<s>": 1, "</s>": 2}
    ids = special | {token: _PIECES + index for index, token in enumerate(_ADDED[family])}
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False) | {"special": True}
    return {
        "add_bos_token": True,
        "add_eos_token": False,
        "added_tokens_decoder": {str(number): {"content": token} | flags for token, number in ids.items()},
        "additional_special_tokens": list(_ADDED[family]),
        "auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]},
        "bos_token": "<s>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "</s>",
        "model_max_length": 8192,
        "pad_token": "</s>",
        "tokenizer_class": "InternLM2Tokenizer",
        "unk_token": "<unk>",
    }


def _write_json(path: Path, values: object) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("family", choices=["process", "outcome"])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    write_tokenizer(options.folder, options.family)


if __name__ == "__main__":
    main()
