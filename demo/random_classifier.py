"""Reward models of random weights as transformers saves them: tiny, of any architecture, to try the server with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

BOS, EOS, START, END = "<s>", "</s>", "<|start|>", "<|end|>"
# The template writes the first token itself, and so would the tokenizer: whoever lets both do it has it twice.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|start|>{{ message['role'] }}\n"
    "{{ message['content'] | trim }}<|end|>\n{% endfor %}"
)
_TEXT = "Which shape is red? The circle is red, I think, and the square next to it is blue. Yes. No. How many sides?"
_WIDTH, _LAYERS, _HEADS, _POSITIONS = 32, 2, 4, 512


def write_tokenizer(directory: Path, *, template: str | None = TEMPLATE, pad: str | None = EOS) -> int:
    """A byte-level tokenizer of few merges with a chat template; returns how many ids it has."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    alphabet, special = ByteLevel.alphabet(), [BOS, EOS, START, END]
    trainer = BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([_TEXT] * 2, trainer)
    tokenizer.post_processor = TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
    make: Callable[..., Any] = PreTrainedTokenizerFast
    fast = make(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=pad)
    fast.chat_template = template
    fast.save_pretrained(directory)
    return len(fast)


def write_model(directory: Path, architecture: str, vocabulary: int, **settings: object) -> None:
    """Random weights for a class of transformers, whose configuration takes the usual names for its sizes."""
    import torch
    import transformers

    model_class = getattr(transformers, architecture)
    defaults = {
        "vocab_size": vocabulary,
        "hidden_size": _WIDTH,
        "intermediate_size": 2 * _WIDTH,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _HEADS // 2,
        "head_dim": _WIDTH // _HEADS,
        "max_position_embeddings": _POSITIONS,
        "num_labels": 1,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 1,
        # Large enough for scores that differ.
        "initializer_range": 0.2,
    }
    torch.manual_seed(0)
    model_class(model_class.config_class(**(defaults | settings))).save_pretrained(directory)


def write_checkpoint(directory: Path, architecture: str = "LlamaForSequenceClassification") -> Path:
    """Both; returns the directory."""
    write_model(directory, architecture, write_tokenizer(directory))
    return directory
