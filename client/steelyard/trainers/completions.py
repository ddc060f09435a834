"""What the policy said, as one text."""

from collections.abc import Iterator, Mapping

from steelyard.candidates import STEP_SEPARATOR
from steelyard.errors import InvalidCall


def text_of_completion(completion: object) -> str:
    """A text as it is; of messages, what the assistant says in them, a blank line between. Raises InvalidCall."""
    if isinstance(completion, str):
        return completion
    if not isinstance(completion, list | tuple) or not all(isinstance(message, Mapping) for message in completion):
        raise InvalidCall(f"a completion is a text or a list of messages, not {type(completion).__name__}")
    return STEP_SEPARATOR.join(text for message in completion for text in _said(message))


def _said(message: Mapping[str, object]) -> Iterator[str]:
    """The text of a turn of the assistant, unless it holds none, like one that only calls a tool."""
    content = message.get("content")
    if message.get("role") == "assistant" and content:
        parts = content if isinstance(content, list | tuple) else [content]
        texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
        yield "".join(str(text) for text in texts if text)
