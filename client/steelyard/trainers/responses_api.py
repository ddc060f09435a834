"""A request and its response in the manner of OpenAI's Responses API, as a sample to be scored."""

from collections.abc import Iterator, Mapping, Sequence

from steelyard.candidates import STEP_SEPARATOR
from steelyard.errors import InvalidCall
from steelyard.trainers.samples import QuestionLike, Sample
from steelyard.trainers.told import told_by

_ROLES = {"developer": "system"}


def sample_of(body: Mapping[str, object]) -> Sample:
    """Of `responses_create_params` and `response`; `question` and `images` beside them go first. Raises InvalidCall."""
    told = told_by(body)
    question = _question(_object(body, "responses_create_params")) if told.question is None else told.asked()
    return Sample(question, told.images, _said(_object(body, "response")))


def _question(params: Mapping[str, object]) -> QuestionLike:
    given = params.get("input")
    if isinstance(given, str):
        return given
    items = _mappings(given, "input")
    turns = [item for item in items if item.get("type", "message") == "message"]
    if len(turns) < len(items):
        raise InvalidCall(
            "an input with calls of tools is no conversation that a reward model reads: give a `question`"
        )
    system = params.get("instructions")
    first = [{"role": "system", "content": system}] if isinstance(system, str) else []
    return [*first, *map(_message, turns)]


def _message(turn: Mapping[str, object]) -> Mapping[str, object]:
    role, content = str(turn.get("role")), turn.get("content")
    if not isinstance(content, str):
        content = [_part(part) for part in _mappings(content, "content")]
    return {"role": _ROLES.get(role, role), "content": content}


def _part(part: Mapping[str, object]) -> Mapping[str, object]:
    """An unknown part keeps its type, by which it is refused later."""
    if part.get("type") in ("input_text", "output_text"):
        return {"type": "text", "text": part.get("text")}
    if part.get("type") == "input_image" and isinstance(part.get("image_url"), str):
        return {"type": "image_url", "image_url": {"url": part["image_url"]}}
    return part


def _said(response: Mapping[str, object]) -> str:
    """What the policy wrote in its messages, a blank line between; calls of tools and reasoning are left out."""
    items = _mappings(response.get("output"), "output")
    texts = [text for item in items if item.get("type") == "message" for text in _texts(item)]
    if not texts:
        raise InvalidCall("the response has no message")
    return STEP_SEPARATOR.join(texts)


def _texts(item: Mapping[str, object]) -> Iterator[str]:
    content = item.get("content")
    if isinstance(content, str):
        yield content
        return
    yield "".join(str(part.get("text") or "") for part in _mappings(content, "content"))


def _object(body: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = body.get(name)
    if not isinstance(value, Mapping):
        raise InvalidCall(f"{name}: an object is needed")
    return value


def _mappings(value: object, name: str) -> Sequence[Mapping[str, object]]:
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise InvalidCall(f"{name}: a list of objects is needed")
    return value
