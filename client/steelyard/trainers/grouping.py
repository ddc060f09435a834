"""Samples of one question and its pictures, gathered so that both travel once and are computed once."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

from steelyard.trainers.picture_sources import Likeness
from steelyard.trainers.questions import Question, question_of
from steelyard.trainers.samples import Response, Sample

# What a server takes in one group unless it is told otherwise.
MOST_CANDIDATES = 1024


@dataclass(frozen=True, slots=True)
class Group:
    """A question with the different responses to it, and the places that each of these has among the samples."""

    question: Question
    candidates: tuple[Response, ...]
    places: tuple[tuple[int, ...], ...]

    def halves(self) -> tuple["Group", "Group"]:
        middle = len(self.candidates) // 2
        return self.part(0, middle), self.part(middle, len(self.candidates))

    def part(self, start: int, stop: int) -> "Group":
        return Group(self.question, self.candidates[start:stop], self.places[start:stop])


def gather(samples: Sequence[Sample]) -> list[Group]:
    """Groups in the order in which their first samples come. Raises InvalidCall."""
    keys = _Keys()
    questions: dict[Hashable, Question] = {}
    responses: dict[Hashable, dict[Response, list[int]]] = {}
    # Held, so that no object's identity is given to another.
    held = list(samples)
    for place, sample in enumerate(held):
        key, question = keys.of(sample)
        questions.setdefault(key, question)
        response = sample.response if isinstance(sample.response, str) else tuple(sample.response)
        responses.setdefault(key, {}).setdefault(response, []).append(place)
    return [part for key, places in responses.items() for part in _parts(questions[key], places)]


class _Keys:
    """Questions by what they say and show; the same text or objects again are not read again."""

    def __init__(self) -> None:
        self._likeness = Likeness()
        # Objects by their identity: the samples outlive this.
        self._read: dict[Hashable, tuple[Hashable, Question]] = {}

    def of(self, sample: Sample) -> tuple[Hashable, Question]:
        asked = sample.question if isinstance(sample.question, str) else id(sample.question)
        identity = asked, tuple(map(id, sample.images))
        if identity not in self._read:
            question = question_of(sample)
            shown = self._likeness.keys(question.pictures)
            question = replace(question, pictures=self._likeness.firsts(shown))
            self._read[identity] = (question.turns, shown), question
        return self._read[identity]


def _parts(question: Question, places: dict[Response, list[int]]) -> Iterator[Group]:
    whole = Group(question, tuple(places), tuple(map(tuple, places.values())))
    for start in range(0, len(whole.candidates), MOST_CANDIDATES):
        yield whole.part(start, start + MOST_CANDIDATES)
