"""From a request for a ranking to its answer: every model is asked at once, and what they say is blended."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence

from service.answer import rank
from service.errors import IdReused, InvalidRequest
from service.flight import all_attended, all_groups
from service.gateway_model import GatewayModel
from service.images import ImageStore
from service.limits import check_counts
from service.rank_requests import asked_of, references
from service.scoring import Scoring
from service.settings import Settings
from steelyard.blending import Normalize, blend
from steelyard.rank_schema import OwnScore, RankedCandidate, RankingModel, RankRequest, RankResponse
from steelyard.schema import CandidateScore, ScoredGroup, ScoreRequest

# What the models made of one candidate, by their names.
Own = dict[str, OwnScore]


class Ranker:
    """Ranks for callers; a ranking is as many groups as it has models, accepted together or not at all."""

    def __init__(self, scoring: Scoring, images: ImageStore, settings: Settings) -> None:
        self._scoring = scoring
        self._images = images
        self._settings = settings

    async def rank(self, request: RankRequest, caller: str) -> RankResponse:
        """Raises ServiceError when a model's group is refused: without its scores there is no ranking."""
        shares = self._shares(request)
        models = [self._scoring.catalogue.models[name] for name in shares]
        try:
            flights = self._scoring.open_together(await self._parts(request, models), caller)
            with all_attended(flights):
                # The first that fails ends the ranking, and the others are dropped with it.
                groups = await all_groups(flights)
        except IdReused:
            raise IdReused(f"the id {request.id!r} was used for another ranking not long ago") from None
        normalize: Normalize = request.normalize or ("zscore" if request.blend else "none")
        results = _results(shares, [flight.results for flight in flights], len(request.candidates), normalize)
        ranking = rank(results)
        return RankResponse(
            id=request.id or uuid.uuid4().hex,
            normalize=normalize,
            best=ranking[0] if ranking else None,
            ranking=ranking,
            results=results,
            models={m.name: _part_of(m, shares[m.name], group) for m, group in zip(models, groups, strict=True)},
        )

    def _shares(self, request: RankRequest) -> dict[str, float]:
        """Each model's weight in the sum. Raises UnknownModel and InvalidRequest."""
        catalogue = self._scoring.catalogue
        shares = request.blend or {request.model if request.model is not None else self._default(): 1.0}
        for name in shares:
            catalogue.named(name)
        for name in request.weights:
            if name not in shares:
                raise InvalidRequest(f"weights: {name!r} is not among the models that are to rank")
        return dict(shares)

    def _default(self) -> str:
        """The only model, or the only one that scores steps. Raises InvalidRequest."""
        catalogue = self._scoring.catalogue
        meant = catalogue.meant(("steps",))
        if len(meant) != 1:
            raise InvalidRequest(f"model: several are served, name one or a blend of {', '.join(catalogue.models)}")
        return meant[0].name

    async def _parts(self, request: RankRequest, models: Sequence[GatewayModel]) -> list[ScoreRequest]:
        """What each model is asked. Raises what `asked_of`, `check_counts` and the image store raise."""
        parts = [asked_of(model, request, {}) for model in models]
        for part in parts:
            check_counts(part, self._settings)
        if len(models) == 1:
            return parts
        ids = await asyncio.to_thread(self._images.intern, references(request))
        return [asked_of(model, request, ids) for model in models] if ids else parts


def _results(
    shares: Mapping[str, float], by_model: Sequence[Sequence[CandidateScore]], size: int, normalize: Normalize
) -> list[RankedCandidate]:
    """A result a candidate; the blend is over those that every model scored, and no other has a number."""
    own: list[Own] = [{} for _ in range(size)]
    for name, results in zip(shares, by_model, strict=True):
        for result in results:
            own[result.index][name] = OwnScore.model_construct(**dict(result))
    scored = [index for index, each in enumerate(own) if all(one.score is not None for one in each.values())]
    columns = {name: [one.score for index in scored if (one := own[index][name]).score is not None] for name in shares}
    scores = dict(zip(scored, blend(columns, shares, normalize), strict=True))
    return [_result(index, each, scores.get(index)) for index, each in enumerate(own)]


def _result(index: int, own: Own, score: float | None) -> RankedCandidate:
    """Without a score it has the status of a model that did not score it, of one that will not rather than may yet."""
    if score is not None:
        details = [f"{name}: {one.detail}" for name, one in own.items() if one.detail]
        return RankedCandidate(index=index, status="ok", score=score, detail="; ".join(details) or None, models=own)
    failed = {name: one for name, one in own.items() if one.score is None}
    name, worst = min(failed.items(), key=lambda item: bool(item[1].retryable))
    return RankedCandidate(
        index=index,
        status=worst.status,
        retryable=bool(worst.retryable),
        detail=f"{name}: {worst.detail}" if worst.detail else name,
        models=own,
    )


def _part_of(model: GatewayModel, share: float, group: ScoredGroup) -> RankingModel:
    return RankingModel(
        kind=model.kind,
        weight=share,
        usage=group.usage,
        provenance=group.provenance,
        timings_ms=group.timings_ms,
    )
