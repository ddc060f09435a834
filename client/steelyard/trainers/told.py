"""What a label says besides the truth, where a trainer has no other way to bring a question and its pictures along."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from steelyard.errors import InvalidCall
from steelyard.trainers.picture_sources import listed
from steelyard.trainers.questions import MARKER
from steelyard.trainers.samples import PictureSource, QuestionLike


@dataclass(frozen=True, slots=True)
class Told:
    """The question, when it is there, and the pictures."""

    question: "QuestionLike | None" = None
    images: tuple[PictureSource, ...] = ()

    def asked(self) -> QuestionLike:
        """Raises InvalidCall when there is no question, or one that places pictures which are not there."""
        if self.question is None:
            raise InvalidCall('a label needs the question: {"question": …, "images": […]}, as an object or as its JSON')
        if isinstance(self.question, str) and MARKER in self.question and not self.images:
            raise InvalidCall(f"a label's question places pictures by {MARKER}, and its `images` has none")
        return self.question


def told_by(label: object) -> Told:
    """A mapping with `question` and `images`, or its JSON; any other label says nothing. Raises InvalidCall."""
    if isinstance(label, str) and label.lstrip().startswith("{"):
        try:
            label = json.loads(label)
        except (ValueError, RecursionError):
            return Told()
    if not isinstance(label, Mapping):
        return Told()
    question = label.get("question")
    if question is not None and not isinstance(question, str | list | tuple):
        raise InvalidCall(f"a label's question is a text or messages, not {type(question).__name__}")
    return Told(cast("QuestionLike | None", question), tuple(listed(label.get("images"))))
