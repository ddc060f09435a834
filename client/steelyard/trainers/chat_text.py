"""A decoded chat, special tokens and all, as the turns of which its template made it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from steelyard.errors import InvalidCall
from steelyard.trainers.samples import QuestionLike

# What stands for a picture in a decoded prompt: one token or, after a processor's work, as many as it has patches.
_PAD = r"<\|image_pad\|>|<IMG_CONTEXT>|<image_soft_token>|<\|image\|>|<start_of_image>"
_PADS = re.compile(rf"(?:{_PAD}|<image>)+")
_PICTURE = re.compile(
    rf"(?:<\|vision_start\|>|<img>|<start_of_image>)?(?:{_PAD})+(?:<\|vision_end\|>|</img>|<end_of_image>)?\n?"
)
# Tokens of templates that are not known here.
_FOREIGN = re.compile(r"<\|[^\s<>|]{1,40}\|>|<｜|\[INST\]")
_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "</s>")
_ROLES = {"model": "assistant"}


@dataclass(frozen=True, slots=True)
class Template:
    """How a turn begins, with its role as the pattern's group, and how it ends."""

    opening: re.Pattern[str]
    end: str

    def turns(self, chat: str) -> Iterator[tuple[str, str]]:
        """Roles and what they say, the last one's end included when there is one."""
        openings = list(self.opening.finditer(chat))
        for opening, following in zip(openings, [*openings[1:], None], strict=True):
            said = chat[opening.end() : following.start() if following else len(chat)]
            yield _ROLES.get(opening[1], opening[1]), said


TEMPLATES = (
    Template(re.compile(r"<\|im_start\|>(\w+)\n"), "<|im_end|>"),
    Template(re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n"), "<|eot_id|>"),
    Template(re.compile(r"<start_of_turn>(\w+)\n"), "<end_of_turn>"),
)


def question_in(prompt: str) -> QuestionLike:
    """The turns of a prompt that ends where the policy is to speak; pictures as `{"type": "image"}` parts.

    A prompt without a chat template is the question. Raises InvalidCall for a template that is not known here.
    """
    template = _template_of(prompt)
    if template is None:
        return prompt
    turns = [(role, said.rstrip("\n").removesuffix(template.end)) for role, said in template.turns(prompt)]
    if turns and turns[-1][0] == "assistant":
        turns.pop()
    return [{"role": role, "content": _content(said)} for role, said in turns]


def response_in(query: str, prompt: str) -> str:
    """What the policy said: what follows the prompt in the query, without the tokens that end it.

    The query is the prompt as it was decoded, its pictures filled up, and the response. Raises InvalidCall when it does
    not begin with the prompt, as after a prompt that was cut.
    """
    end_of_prompt = _after_text(query, prompt)
    response = query[_after_openings(query, prompt) if end_of_prompt is None else end_of_prompt :]
    while (end := next((end for end in _ENDS if response.rstrip("\n").endswith(end)), None)) is not None:
        response = response.rstrip("\n").removesuffix(end)
    return response


def _after_text(query: str, prompt: str) -> int | None:
    """Where the prompt ends in a query that begins with it, as many tokens as a picture may have there."""
    place = 0
    for at, piece in enumerate(_PADS.split(prompt)):
        if at:
            filled = _PADS.match(query, place)
            if filled is None:
                return None
            place = filled.end()
        if not query.startswith(piece, place):
            return None
        place += len(piece)
    return place


def _after_openings(query: str, prompt: str) -> int:
    """Where the prompt's last turn begins in the query: a response that writes turns of its own does not move it."""
    template = _template_of(prompt)
    if template is not None:
        count = len(template.opening.findall(prompt))
        found = list(template.opening.finditer(query))
        if len(found) >= count:
            return found[count - 1].end()
    raise InvalidCall("the query does not begin with its prompt, which may have been cut: its response is not known")


def _template_of(prompt: str) -> Template | None:
    for template in TEMPLATES:
        if template.opening.search(prompt):
            return template
    if foreign := _FOREIGN.search(prompt):
        raise InvalidCall(
            f"the prompt's chat template, with {foreign[0]!r}, is not one of ChatML, Llama 3 and Gemma: "
            'give the question in the label, {"question": …, "images": […]}'
        )
    return None


def _content(said: str) -> str | list[Mapping[str, object]]:
    texts = _PICTURE.split(said)
    if len(texts) == 1:
        return said
    parts: list[Mapping[str, object]] = []
    for place, text in enumerate(texts):
        if place:
            parts.append({"type": "image"})
        if text:
            parts.append({"type": "text", "text": text})
    return parts
