"""What a growing trajectory keeps from call to call, as a name: its jobs should meet the same caches again."""

import hashlib

from service.gateway_model import ReadyGroup
from steelyard.schema import ScoreOutcomesRequest, ScoreRequest, ScoreStepsRequest, TextPart


def opening_of(model: str, request: ScoreRequest, group: ReadyGroup) -> str:
    """Equal for the same model, first picture and first thing asked; 64 hexadecimal digits."""
    first = group.pictures or next((one.pictures for one in group.candidates if one.pictures), ())
    parts = (model, *(first[0].digests if first else ()), _first_text(request))
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()


def _first_text(request: ScoreRequest) -> str:
    """The question, or the first user's turn."""
    if isinstance(request, ScoreStepsRequest):
        return request.question
    assert isinstance(request, ScoreOutcomesRequest)
    messages = request.conversations[0].messages if request.conversations else request.messages or []
    content = next((message.content for message in messages if message.role == "user"), "")
    if isinstance(content, str):
        return content
    return "\0".join(part.text for part in content if isinstance(part, TextPart))
