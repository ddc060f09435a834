"""Samples of one question and its pictures, gathered so that both travel once and are computed once."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

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
    likeness = Likeness()
    questions: dict[Hashable, Question] = {}
    responses: dict[Hashable, dict[Response, list[int]]] = {}
    for place, sample in enumerate(samples):
        question = question_of(sample)
        key = question.turns, likeness.keys(question.pictures)
        questions.setdefault(key, question)
        response = sample.response if isinstance(sample.response, str) else tuple(sample.response)
        responses.setdefault(key, {}).setdefault(response, []).append(place)
    return [part for key, places in responses.items() for part in _parts(questions[key], places)]


def _parts(question: Question, places: dict[Response, list[int]]) -> Iterator[Group]:
    whole = Group(question, tuple(places), tuple(map(tuple, places.values())))
    for start in range(0, len(whole.candidates), MOST_CANDIDATES):
        yield whole.part(start, start + MOST_CANDIDATES)
