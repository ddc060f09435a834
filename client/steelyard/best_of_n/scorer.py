"""The reward model's word on one solution at a time; what the solutions share is in the server's cache."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steelyard.best_of_n.candidates import Worth
from steelyard.best_of_n.chat_format import Asked
from steelyard.best_of_n.search import Reward
from steelyard.blending import Normalize
from steelyard.client import AsyncClient
from steelyard.errors import (
    Conflict,
    InvalidCall,
    InvalidKey,
    NotAllowed,
    SteelyardError,
    UnknownModel,
    UnknownRoute,
)
from steelyard.rank_schema import RankedCandidate, RankResponse
from steelyard.schema import Aggregate, ControlTokens, Provenance, ServedModel
from steelyard.served import meant

# What the next call would be told, too.
_HOPELESS = (InvalidCall, InvalidKey, NotAllowed, UnknownModel, UnknownRoute, Conflict)
_UNBOUNDED: tuple[Aggregate, ...] = ("sum",)


@dataclass(frozen=True, slots=True)
class Scoring:
    """By what solutions are scored: one served model, or a blend by weight."""

    model: str | None = None
    blend: Mapping[str, float] | None = None
    normalize: Normalize = "zscore"
    aggregate: Aggregate = "mean"
    control_tokens: ControlTokens = "parse"
    max_tiles: int | None = None


class Scorer:
    """Pins the weights that it finds at first: a search never mixes the numbers of two."""

    def __init__(self, client: AsyncClient, scoring: Scoring) -> None:
        self._client = client
        self._scoring = scoring
        self._weights: dict[str, str] = {}
        self.provenance: tuple[Provenance, ...] = ()

    async def find(self) -> Reward:
        """How scores are to be read. Raises SteelyardError when the server is away or the model is not clear."""
        scoring = self._scoring
        served = {model.name: model for model in (await self._client.models()).data}
        names = list(scoring.blend) if scoring.blend is not None else [_choose(served, scoring.model)]
        for name in names:
            if name not in served:
                raise InvalidCall(f"no model {name!r} is served; the server has {', '.join(served) or 'none'}")
        self.provenance = tuple(served[name].provenance for name in names)
        self._weights = {provenance.model: provenance.weights for provenance in self.provenance}
        if scoring.blend is not None:
            return Reward("blend", dict(scoring.blend), scoring.normalize)
        kind = served[names[0]].kind
        return Reward(kind, bounded=kind == "steps" and scoring.aggregate not in _UNBOUNDED)

    async def weigh(self, asked: Asked, solution: str | Sequence[str]) -> Worth:
        """A solution as a text, or as the steps that it has grown by. Raises what no other solution would escape."""
        scoring = self._scoring
        try:
            answer = await self._client.rank(
                asked.question,
                asked.pictures,
                [solution],
                model=None if scoring.blend is not None else next(iter(self._weights)),
                blend=scoring.blend,
                # Within a group of one there is nothing to compare with: the blend is made of all, later.
                normalize="none",
                aggregate=scoring.aggregate,
                weights=self._weights,
                max_tiles=scoring.max_tiles,
                control_tokens=scoring.control_tokens,
            )
        except _HOPELESS:
            raise
        except SteelyardError as error:
            return Worth("not_scored", detail=str(error))
        return _worth(answer, answer.results[0])


def _worth(answer: RankResponse, result: RankedCandidate) -> Worth:
    steps = next((tuple(one.step_scores) for one in result.models.values() if one.step_scores is not None), None)
    return Worth(
        status=result.status,
        score=result.score,
        detail=result.detail,
        own={name: one.score for name, one in result.models.items() if one.score is not None},
        step_scores=steps,
        computed_tokens=sum(model.usage.computed_tokens for model in answer.models.values()),
        cached_tokens=sum(model.usage.cached_tokens for model in answer.models.values()),
    )


def _choose(served: Mapping[str, ServedModel], name: str | None) -> str:
    """The named one, the only one, or the only one that scores steps. Raises InvalidCall."""
    if name is not None:
        return name
    found = meant(list(served.values()), None)
    if len(found) == 1:
        return found[0].name
    raise InvalidCall(f"reward_model: several could be meant; the server has {', '.join(served) or 'none'}")
