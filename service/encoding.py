"""From a checkpoint to the model that a gateway makes jobs with: all of it but its weights, free of torch."""

from models.checkpoint import Checkpoint, CheckpointError, tokenizer_digest
from models.ixc_reward.prompt import MAX_TOKENS, OutcomePrompt
from models.ixc_reward.spec import read_spec as read_ixc_reward
from models.registry import Family, identify
from models.sequence_classifier.prompt import ClassifierPrompt
from models.sequence_classifier.spec import read_spec as read_classifier
from models.token_cache import TokenCache
from models.tokenizer import load_tokenizer
from models.visual_prm.prompt import StepPrompt
from models.visual_prm.spec import read_spec as read_visual_prm
from service.classifier_model import ClassifierModel
from service.gateway_model import GatewayModel
from service.outcome_model import OutcomeModel
from service.step_model import StepModel

# How far past `max_position_embeddings` dynamic NTK may stretch a prompt; the reference has no bound at all.
_STRETCH = 4


def read_model(
    name: str, checkpoint: Checkpoint, max_tokens: int | None, token_cache: TokenCache | None = None
) -> GatewayModel:
    """What a gateway needs of a checkpoint, whose family tells what it is. Raises CheckpointError."""
    family = identify(checkpoint.directory)
    return _READ[family.name](name, checkpoint, family, max_tokens, token_cache)


def _read_visual_prm(
    name: str, checkpoint: Checkpoint, family: Family, max_tokens: int | None, token_cache: TokenCache | None
) -> StepModel:
    directory = checkpoint.directory
    spec = read_visual_prm(directory)
    return StepModel(
        name=name,
        family=family.name,
        directory=directory,
        revision=checkpoint.revision,
        tokenizer_digest=tokenizer_digest(directory),
        max_tokens=max_tokens or _STRETCH * spec.decoder.rope.max_positions,
        spec=spec,
        prompt=StepPrompt(spec, load_tokenizer(directory, token_cache)),
    )


def _read_ixc_reward(
    name: str, checkpoint: Checkpoint, family: Family, max_tokens: int | None, token_cache: TokenCache | None
) -> OutcomeModel:
    directory = checkpoint.directory
    spec = read_ixc_reward(directory)
    return OutcomeModel(
        name=name,
        family=family.name,
        directory=directory,
        revision=checkpoint.revision,
        tokenizer_digest=tokenizer_digest(directory),
        max_tokens=max_tokens or MAX_TOKENS,
        spec=spec,
        prompt=OutcomePrompt(spec, load_tokenizer(directory, token_cache)),
    )


def _read_classifier(
    name: str, checkpoint: Checkpoint, family: Family, max_tokens: int | None, token_cache: TokenCache | None
) -> ClassifierModel:
    """Its tokenizer keeps no texts, as they are as long as whole prompts."""
    directory = checkpoint.directory
    spec = read_classifier(directory)
    try:
        prompt = ClassifierPrompt(spec)
    except CheckpointError as error:
        raise CheckpointError(f"{directory}: {error}") from None
    return ClassifierModel(
        name=name,
        family=family.name,
        directory=directory,
        revision=checkpoint.revision,
        tokenizer_digest=tokenizer_digest(directory),
        max_tokens=min(max_tokens or spec.positions, spec.positions),
        prompt=prompt,
    )


_READ = {
    "visual_prm": _read_visual_prm,
    "ixc_reward": _read_ixc_reward,
    "sequence_classifier": _read_classifier,
}
