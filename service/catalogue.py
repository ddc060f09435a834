"""The models that are served: which one a request means, and what exactly scores for it."""

from collections.abc import Mapping, Sequence

import steelyard
from service.errors import InvalidRequest, OtherWeights, UnknownModel
from service.gateway_model import GatewayModel
from service.job import EngineModel
from steelyard.schema import Provenance, ScoreRequest, ScoreStepsRequest


class Catalogue:
    """Each model twice: as the gateway knows it, and as the engine has loaded it."""

    def __init__(
        self, models: Mapping[str, GatewayModel], loaded: Sequence[EngineModel], *, batch_invariant: bool = False
    ) -> None:
        self.models = dict(models)
        self._batch_invariant = batch_invariant
        self._loaded = {model.name: model for model in loaded}

    def choose(self, request: ScoreRequest) -> GatewayModel:
        """The model that is named, or the only one of the kind that is asked for.

        Raises UnknownModel, InvalidRequest when several could be meant, and OtherWeights.
        """
        kind, words = ("steps", "process") if isinstance(request, ScoreStepsRequest) else ("outcome", "outcome")
        names = [name for name, model in self.models.items() if model.kind == kind]
        if request.model is None and len(names) > 1:
            raise InvalidRequest(f"model: several {words} reward models are served, name one of {', '.join(names)}")
        name = names[0] if request.model is None and names else request.model
        if name not in names:
            called = f" named {name!r}" if name else ""
            there_is = f"there is {', '.join(names)}" if names else "start it with one"
            raise UnknownModel(f"no {words} reward model{called} is served here; {there_is}")
        digest = self._loaded[name].weights
        if request.weights not in (None, digest):
            raise OtherWeights(f"{name} is served with the weights {digest}, not {request.weights}")
        return self.models[name]

    def provenance(self, model: GatewayModel) -> Provenance:
        loaded = self._loaded[model.name]
        return Provenance(
            model=model.name,
            family=model.family,
            revision=model.revision,
            weights=loaded.weights,
            tokenizer=model.tokenizer_digest,
            dtype=loaded.dtype,
            batch_invariant=self._batch_invariant,
            version=steelyard.__version__,
        )
