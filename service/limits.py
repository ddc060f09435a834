"""How much of everything one call may hold: counted before anything is done for it."""

from collections.abc import Sequence

from service.errors import InvalidRequest
from service.settings import Settings
from service.step_model import count_steps
from steelyard.schema import (
    FramesPart,
    ImagePart,
    Message,
    ScoreOutcomesRequest,
    ScoreRequest,
    ScoreStepsRequest,
)


def check_counts(request: ScoreRequest, settings: Settings) -> None:
    """Raises InvalidRequest that names the field, its count and the limit."""
    if isinstance(request, ScoreStepsRequest):
        _check("candidates", request.size, settings.max_candidates)
        _check("images", len(request.images), settings.max_images)
        for index, candidate in enumerate(request.candidates):
            _check(f"candidates.{index}", count_steps(candidate), settings.max_candidate_steps, "steps")
    elif isinstance(request, ScoreOutcomesRequest):
        conversations = request.conversations
        _check("candidates" if conversations is None else "conversations", request.size, settings.max_candidates)
        if conversations is None:
            _check_pictures("", request.messages or (), request.images, settings)
        for index, conversation in enumerate(conversations or ()):
            _check_pictures(f"conversations.{index}.", conversation.messages, conversation.images, settings)


def _check_pictures(where: str, messages: Sequence[Message], images: Sequence[str], settings: Settings) -> None:
    parts = (part for message in messages if not isinstance(message.content, str) for part in message.content)
    held = sum(len(part.frames) if isinstance(part, FramesPart) else isinstance(part, ImagePart) for part in parts)
    _check(f"{where}images", len(images) + held, settings.max_images, "with those of the messages' parts")


def _check(field: str, count: int, limit: int, what: str = "") -> None:
    if count > limit:
        raise InvalidRequest(f"{field}: {count}{' ' if what else ''}{what}, the limit is {limit}")
