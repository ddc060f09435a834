"""A process of its own that says, as JSON, what transformers makes of a checkpoint's configuration and tokenizer.

`python -P describe.py < {"directory": …, "probes": […]}`: transformers takes seconds to import, and would bring torch.
"""

import json
import sys
from typing import Any


def describe(directory: str, probes: list[list[dict[str, str]]]) -> dict[str, object]:
    """Raises whatever transformers raises."""
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    text = config.get_text_config()
    if not tokenizer.chat_template:
        return {"error": "it has no chat template, which says how a conversation becomes one text"}
    if not tokenizer.is_fast or tokenizer.split_special_tokens:
        return {"error": "its tokenizer is none that the tokenizers library runs as it is"}
    return {
        "model_type": config.model_type,
        "architecture": _architecture(config.model_type),
        "labels": config.num_labels,
        "positions": getattr(text, "max_position_embeddings", None),
        "vocabulary": getattr(text, "vocab_size", None),
        "tokenizer": tokenizer.backend_tokenizer.to_str(),
        "template": tokenizer.get_chat_template(),
        "special_tokens": dict(tokenizer.special_tokens_map),
        "probes": [_encode(tokenizer, probe) for probe in probes],
    }


def _architecture(model_type: str) -> str | None:
    """The class that AutoModelForSequenceClassification loads."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

    return MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.get(model_type)


def _encode(tokenizer: Any, conversation: list[dict[str, str]]) -> list[int] | str:  # noqa: ANN401
    """Its ids, or why the template refuses it."""
    try:
        ids: list[int] = tokenizer.apply_chat_template(conversation, tokenize=True, return_dict=False)
    except Exception as error:  # noqa: BLE001 - a template may raise anything
        return _reason(error)
    return ids


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def main() -> None:
    # As if torch were not there: transformers looks for it once, and nothing here computes.
    sys.modules["torch"] = None  # type: ignore[assignment]
    asked = json.load(sys.stdin)
    try:
        described = describe(asked["directory"], asked["probes"])
    except Exception as error:  # noqa: BLE001 - told to whoever asked
        described = {"error": _reason(error)}
    sys.stdout.write("\n" + json.dumps(described))


if __name__ == "__main__":
    main()
