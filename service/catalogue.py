"""The models that are served now: which one a request means, and what exactly scores for it."""

from collections.abc import Mapping, Sequence

import steelyard
from service.errors import InvalidRequest, OtherWeights, UnknownModel
from service.gateway_model import GatewayModel
from service.job import EngineModel
from steelyard.schema import ModelLimits, Provenance, ScoreRequest, ScoreStepsRequest, ServedModel


class Catalogue:
    """Each model twice: as the gateway knows it, and as the engine has loaded it, or had when it went to sleep."""

    def __init__(
        self, models: Mapping[str, GatewayModel], loaded: Sequence[EngineModel], *, batch_invariant: bool = False
    ) -> None:
        self._batch_invariant = batch_invariant
        self.replace(models, loaded)

    def replace(self, models: Mapping[str, GatewayModel], loaded: Sequence[EngineModel]) -> None:
        """Serve these from now on."""
        self.models = dict(models)
        self.loaded = {model.name: model for model in loaded}

    def choose(self, request: ScoreRequest) -> GatewayModel:
        """The model that `find` finds. Raises OtherWeights when it is not served with those that the request pins."""
        model = self.find(request)
        digest = self.loaded[model.name].weights
        if request.weights not in (None, digest):
            raise OtherWeights(f"{model.name} is served with the weights {digest}, not {request.weights}")
        return model

    def find(self, request: ScoreRequest) -> GatewayModel:
        """The model that is named, or the only one of the kind that is asked for.

        Raises UnknownModel, and InvalidRequest when several could be meant.
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
        return self.models[name]

    def named(self, name: str) -> GatewayModel:
        """Of whatever kind. Raises UnknownModel."""
        if name not in self.models:
            raise UnknownModel(f"no model named {name!r} is served here; there is {', '.join(self.models)}")
        return self.models[name]

    def meant(self, kinds: Sequence[str]) -> list[GatewayModel]:
        """What a caller who names no model may mean: those of the first of these kinds that is served, else all."""
        of_kinds = ([model for model in self.models.values() if model.kind == kind] for kind in kinds)
        return next((found for found in of_kinds if found), list(self.models.values()))

    def served(self) -> list[ServedModel]:
        """As a caller is told."""
        return [self.shown(model) for model in self.models.values()]

    def shown(self, model: GatewayModel) -> ServedModel:
        """One of them as a caller is told."""
        return ServedModel(
            name=model.name,
            kind=model.kind,
            family=model.family,
            provenance=self.provenance(model),
            limits=ModelLimits(max_tokens=model.max_tokens, max_tiles=model.max_tiles),
        )

    def provenance(self, model: GatewayModel) -> Provenance:
        """What scores for the model now."""
        loaded = self.loaded[model.name]
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
