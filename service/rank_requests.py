"""What each model of a ranking is asked: one question or conversation, in the form that its kind takes."""

import hashlib
from collections.abc import Iterator, Mapping

from models.encoded import MarkerCount
from models.ixc_reward.prompt import MARKER as MESSAGE_MARKER
from models.visual_prm.prompt import MARKER as QUESTION_MARKER
from models.visual_prm.steps import SEPARATOR
from service.errors import InvalidRequest
from service.gateway_model import GatewayModel
from service.step_question import marked, parts_of, question_of
from steelyard.rank_schema import RankRequest
from steelyard.schema import (
    Candidate,
    ImagePart,
    ImageURL,
    Message,
    Part,
    ScoreOutcomesRequest,
    ScoreRequest,
    ScoreStepsRequest,
    TextPart,
)


class _StepsToRank(ScoreStepsRequest):
    ranked: str


class _OutcomesToRank(ScoreOutcomesRequest):
    ranked: str


def asked_of(model: GatewayModel, request: RankRequest, ids: Mapping[str, str]) -> ScoreRequest:
    """The model's part of the ranking; `ids` are those of pictures that the request carries itself.

    Its id stands for the ranking's and the model's, and what it asks differs wherever the ranking does, so that an id
    that is used again for another ranking is refused as it is for any other body. Raises InvalidRequest for what this
    kind of model cannot be asked.
    """
    # What was validated as a ranking is valid as its parts.
    options = ScoreRequest.model_construct(
        model=model.name,
        weights=request.weights.get(model.name),
        max_tiles=request.max_tiles,
        control_tokens=request.control_tokens,
        priority=request.priority,
        deadline_ms=request.deadline_ms,
        id=None if request.id is None else _digest(f"{request.id}\0{model.name}"),
    )
    ranked = "" if request.id is None else _digest(request.model_dump_json())
    if model.kind == "steps":
        question, images = _as_question(request, ids)
        steps = {"question": question, "candidates": request.candidates, "aggregate": request.aggregate}
        return _StepsToRank.model_construct(**dict(options) | steps | {"images": images, "ranked": ranked})
    messages, images = _as_messages(request, ids)
    answers = {"messages": messages, "candidates": list(map(_text, request.candidates))}
    return _OutcomesToRank.model_construct(**dict(options) | answers | {"images": images, "ranked": ranked})


def references(request: RankRequest) -> list[str]:
    """Every picture as the request names or carries it, but for videos' frames."""
    contents = (message.content for message in request.messages or ())
    parts = (part for content in contents if not isinstance(content, str) for part in content)
    return [*request.images, *(part.image_url.url for part in parts if isinstance(part, ImagePart))]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _text(candidate: Candidate) -> str:
    return candidate if isinstance(candidate, str) else SEPARATOR.join(candidate)


def _as_question(request: RankRequest, ids: Mapping[str, str]) -> tuple[str, list[str]]:
    """The question and its pictures. Raises InvalidRequest for a conversation that is more than a user's turn."""
    images = [ids.get(reference, reference) for reference in request.images]
    if request.question is not None:
        return request.question, images
    turns = list(request.messages or ())
    if [turn.role for turn in turns] != ["user"]:
        raise InvalidRequest("messages: a process reward model takes a single user turn; or send a question")
    parts = parts_of(_with_ids(turns[0], ids).content)
    markers = sum(part.text.count(MESSAGE_MARKER) for part in parts if isinstance(part, TextPart))
    if not markers:
        return question_of([*parts], images)
    if markers != len(images):
        raise InvalidRequest(f"messages: {MarkerCount('the messages have', MESSAGE_MARKER, markers, len(images))}")
    waiting = iter(images)
    return marked([shown for part in parts for shown in _at_markers(part, waiting)])


def _at_markers(part: Part, waiting: Iterator[str]) -> list[Part]:
    """The part, with the next pictures of those that wait where its markers stand."""
    if not isinstance(part, TextPart):
        return [part]
    first, *texts = part.text.split(MESSAGE_MARKER)
    pictures = [(ImagePart(image_url=ImageURL(url=next(waiting))), TextPart(text=text)) for text in texts]
    return [TextPart(text=first), *(shown for pair in pictures for shown in pair)]


def _as_messages(request: RankRequest, ids: Mapping[str, str]) -> tuple[list[Message], list[str]]:
    """The conversation and the pictures that its markers place. Raises InvalidRequest."""
    images = [ids.get(reference, reference) for reference in request.images]
    if request.messages is not None:
        return [_with_ids(message, ids) for message in request.messages], images
    assert request.question is not None
    markers = request.question.count(QUESTION_MARKER) if images else 0
    if not markers:
        return [Message(role="user", content=request.question)], images
    if markers != len(images):
        raise InvalidRequest(f"question: {MarkerCount('the question has', QUESTION_MARKER, markers, len(images))}")
    first, *texts = request.question.split(QUESTION_MARKER)
    content: list[Part] = [TextPart(text=first)]
    for image, text in zip(images, texts, strict=True):
        content += [ImagePart(image_url=ImageURL(url=image)), TextPart(text=text)]
    return [Message(role="user", content=content)], []


def _with_ids(message: Message, ids: Mapping[str, str]) -> Message:
    if isinstance(message.content, str):
        return message
    return Message(role=message.role, content=[_with_id(part, ids) for part in message.content])


def _with_id(part: Part, ids: Mapping[str, str]) -> Part:
    if not isinstance(part, ImagePart):
        return part
    return ImagePart(image_url=ImageURL(url=ids.get(part.image_url.url, part.image_url.url)))
