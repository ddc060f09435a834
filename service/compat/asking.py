"""What a foreign body asks: groups of answers to the same turns, and the request that each is for a kind of model."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from pydantic import ValidationError

from service.body import describe
from service.compat.choice import Choice
from service.compat.step_dialogue import read_dialogue
from service.errors import InvalidRequest
from service.gateway_model import GatewayModel
from service.step_question import question_of
from steelyard.schema import (
    Candidate,
    Content,
    Conversation,
    ImagePart,
    Message,
    ScoreOutcomesRequest,
    ScoreRequest,
    ScoreStepsRequest,
    TextPart,
)


@dataclass(frozen=True, slots=True)
class Group:
    """Answers to the same turns; `places` are their indices among the caller's items.

    An answer of None is a conversation that somebody else than the assistant ends. `images` come before the turns.
    """

    messages: tuple[Message, ...]
    answers: tuple[Content | None, ...]
    places: tuple[int, ...]
    images: tuple[str, ...] = ()


def gather(groups: Sequence[Group]) -> Sequence[Group]:
    """Those that ask the same become one, so that what they share is sent and computed once."""
    if len(groups) == 1:
        return groups
    gathered: dict[str, list[Group]] = {}
    for group in groups:
        key = json.dumps([[message.model_dump() for message in group.messages], group.images])
        gathered.setdefault(key, []).append(group)
    return [
        Group(
            same[0].messages,
            tuple(answer for group in same for answer in group.answers),
            tuple(place for group in same for place in group.places),
            same[0].images,
        )
        for same in gathered.values()
    ]


def request_for(group: Group, model: GatewayModel, choice: Choice) -> ScoreRequest:
    """Raises InvalidRequest for what a model of this kind cannot be asked."""
    try:
        return _steps(group, model.name, choice) if model.kind == "steps" else _outcomes(group, model.name, choice)
    except ValidationError as error:
        raise InvalidRequest(describe(error)) from None


def text_of(content: Content) -> str:
    """Parts joined as they are. Raises InvalidRequest when there is a picture among them."""
    if isinstance(content, str):
        return content
    texts = [part.text for part in content if isinstance(part, TextPart)]
    if len(texts) < len(content):
        raise InvalidRequest("a process reward model sees pictures in its question alone: all later turns are text")
    return "".join(texts)


def _steps(group: Group, name: str, choice: Choice) -> ScoreStepsRequest:
    """The policy's system turn is left out: the model has one of its own."""
    question, images, candidates = _solutions(group)
    return ScoreStepsRequest(
        question=question,
        images=images,
        candidates=candidates,
        aggregate=choice.aggregate or "mean",
        max_steps=choice.max_steps,
        model=name,
        weights=choice.weights,
        max_tiles=choice.max_tiles,
        control_tokens=choice.control_tokens,
        priority=choice.priority_class,
        deadline_ms=choice.deadline_ms,
    )


def _solutions(group: Group) -> tuple[str, list[str], list[Candidate]]:
    """The question, its pictures and the candidates."""
    answers = [None if answer is None else text_of(answer) for answer in group.answers]
    texts = [answer for answer in answers if answer is not None]
    if len(texts) < len(answers):
        raise InvalidRequest("a process reward model scores an answer: the last turn must be the assistant's")
    turns = [message for message in group.messages if message.role != "system"]
    if not turns:
        return "", [*group.images], [*texts]
    if any(turn.role != ("user", "assistant")[index % 2] for index, turn in enumerate(turns)) or not len(turns) % 2:
        raise InvalidRequest("a process reward model scores what an assistant answers to a user, turn about")
    asked, images = question_of(turns[0].content, group.images)
    users, assistants = [asked, *(text_of(turn.content) for turn in turns[2::2])], turns[1::2]
    dialogues = [read_dialogue(users, [*(text_of(turn.content) for turn in assistants), text]) for text in texts]
    read = [dialogue for dialogue in dialogues if dialogue is not None]
    if len(read) == len(texts):
        return read[0][0], images, [steps for _, steps in read]
    if assistants:
        raise InvalidRequest("a process reward model takes one question and one answer, not a longer conversation")
    return asked, images, [*texts]


def _outcomes(group: Group, name: str, choice: Choice) -> ScoreOutcomesRequest:
    if choice.aggregate is not None or choice.max_steps is not None:
        raise InvalidRequest(f"aggregate, max_steps: {name} is an outcome reward model, its answers have no steps")
    texts = [answer for answer in group.answers if isinstance(answer, str)]
    messages, leading = _leading(group.messages)
    images = [*group.images, *leading]
    whole = None
    if len(texts) < len(group.answers):
        whole = [Conversation(messages=[*messages, *_turn_of(answer)], images=images) for answer in group.answers]
    return ScoreOutcomesRequest(
        messages=messages if whole is None else None,
        candidates=texts if whole is None else None,
        images=images if whole is None else [],
        conversations=whole,
        model=name,
        weights=choice.weights,
        max_tiles=choice.max_tiles,
        control_tokens=choice.control_tokens,
        priority=choice.priority_class,
        deadline_ms=choice.deadline_ms,
    )


def _leading(messages: Sequence[Message]) -> tuple[list[Message], list[str]]:
    """The turns without the pictures that open the first user's, which then stand where the model's authors put them.

    Nothing is moved when other pictures stand elsewhere.
    """
    first = next((index for index, message in enumerate(messages) if message.role == "user"), None)
    content = [] if first is None else messages[first].content
    if first is None or isinstance(content, str):
        return [*messages], []
    lead = list(takewhile(lambda part: isinstance(part, ImagePart), content))
    before, after = messages[:first], messages[first + 1 :]
    others = [content[len(lead) :], *(message.content for message in (*before, *after))]
    if any(isinstance(part, ImagePart) for parts in others if not isinstance(parts, str) for part in parts):
        return [*messages], []
    turn = Message(role="user", content="".join(part.text for part in content if isinstance(part, TextPart)))
    return [*before, turn, *after], [part.image_url.url for part in lead if isinstance(part, ImagePart)]


def _turn_of(answer: Content | None) -> Sequence[Message]:
    return () if answer is None else (Message(role="assistant", content=answer),)
