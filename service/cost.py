"""What a group may cost, estimated from its request alone: before a text is tokenised or a picture looked at."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from models.ixc_reward.frames import canvas_size
from models.ixc_reward.layout import count_tokens, lay_out_frames, tiles_allowed
from models.tiling import count_tiles
from models.visual_prm.steps import count_merged
from service.gateway_model import GatewayModel
from service.outcome_model import OutcomeModel
from service.step_model import StepModel, count_steps
from service.talk import NamedPicture, Talk, read_talk
from service.whole_model import WholeModel
from steelyard.schema import Candidate, Conversation, Message, ScoreOutcomesRequest, ScoreRequest, ScoreStepsRequest

# The released models' tokenizer has 4 UTF-8 bytes a token in English, 6 in Chinese, 2 in formulas and code.
BYTES_A_TOKEN = 2
# What the prompts put around a question, a step, a turn, and all turns, in a tokenizer of few pieces.
_QUESTION_TOKENS, _STEP_TOKENS, _TURN_TOKENS, _ENDS_TOKENS = 64, 16, 12, 4
# A picture's own start and end.
_FRAME_TOKENS = 2
# Of a video's frames: for those that are wider than a square the composite is no longer than this.
_NEARLY_SQUARE = (1001, 1000)


@dataclass(frozen=True, slots=True)
class Cost:
    """Tokens through the decoder and tiles through the tower."""

    tokens: int
    tiles: int


def estimate(request: ScoreRequest, model: GatewayModel, skip: Collection[int] = ()) -> Cost:
    """Of the candidates but those in `skip`, as if nothing were cached; time is linear in the request.

    What the candidates share is counted once. Pictures are as large as they may be cut, texts have BYTES_A_TOKEN.
    """
    if isinstance(model, StepModel):
        assert isinstance(request, ScoreStepsRequest)
        return _estimate_steps(request, model, skip)
    assert isinstance(model, WholeModel)
    assert isinstance(request, ScoreOutcomesRequest)
    if request.conversations is None:
        return _estimate_answers(request, model, skip)
    chosen = [conversation for index, conversation in enumerate(request.conversations) if index not in skip]
    return _estimate_conversations(chosen, request.max_tiles, model)


def _estimate_steps(request: ScoreStepsRequest, model: StepModel, skip: Collection[int]) -> Cost:
    spec, limit = model.spec, model.max_tokens
    grid = request.max_tiles or (spec.max_tiles if spec.dynamic_tiles else 1)
    tiles = count_tiles((grid, 1), spec.thumbnail)
    picture = tiles * spec.tokens_per_tile + _FRAME_TOKENS
    opening = _QUESTION_TOKENS + _tokens(spec.system_message) + _tokens(request.question)
    prefix = min(limit, opening + len(request.images) * picture)
    chosen = (candidate for index, candidate in enumerate(request.candidates) if index not in skip)
    suffixes = sum(min(limit, _solution(candidate, request)) for candidate in chosen)
    return Cost(prefix + suffixes, len(set(request.images)) * tiles)


def _solution(candidate: Candidate, request: ScoreStepsRequest) -> int:
    steps = 1 if request.mode == "whole" else count_merged(count_steps(candidate), request.max_steps)
    return steps * _STEP_TOKENS + _tokens(candidate if isinstance(candidate, str) else "".join(candidate))


def _estimate_answers(request: ScoreOutcomesRequest, model: WholeModel, skip: Collection[int]) -> Cost:
    assert request.messages is not None
    assert request.candidates is not None
    limit = model.max_tokens
    talk = read_talk(request.messages, request.images)
    pictures = _pictures(talk, request.max_tiles, model)
    prefix = _ENDS_TOKENS + _turns(request.messages) + sum(cost.tokens for _, cost in pictures)
    chosen = (candidate for index, candidate in enumerate(request.candidates) if index not in skip)
    suffixes = sum(min(limit, _TURN_TOKENS + _tokens(candidate)) for candidate in chosen)
    return Cost(min(limit, prefix) + suffixes, sum(cost.tiles for cost in dict(pictures).values()))


def _estimate_conversations(chosen: Sequence[Conversation], max_tiles: int | None, model: WholeModel) -> Cost:
    """The messages that all of them begin with are shared, where their pictures are the same too."""
    limit, first = model.max_tokens, chosen[0]
    shared = min((_in_common(first, other) for other in chosen[1:]), default=0)
    tokens = min(limit, _turns(first.messages[:shared])) if shared else 0
    seen: dict[tuple[NamedPicture, Cost], None] = {}
    for conversation in chosen:
        talk = read_talk(conversation.messages, conversation.images)
        pictures = _pictures(talk, max_tiles, model)
        seen.update(dict.fromkeys(pictures))
        own = _ENDS_TOKENS + _turns(conversation.messages[shared:]) + sum(cost.tokens for _, cost in pictures)
        tokens += min(limit, own)
    return Cost(tokens, sum(cost.tiles for _, cost in seen))


def _in_common(one: Conversation, other: Conversation) -> int:
    """How many messages both begin with."""
    if one.images != other.images:
        return 0
    pairs = enumerate(zip(one.messages, other.messages, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one.messages), len(other.messages)))


def _pictures(talk: Talk, max_tiles: int | None, model: WholeModel) -> list[tuple[NamedPicture, Cost]]:
    """Each with what it costs at most, videos' composites about; none where the model will refuse them."""
    if not isinstance(model, OutcomeModel):
        return []
    side = model.spec.tile_side
    allowed = tiles_allowed(len(talk.pictures), max_tiles)
    # Of all grids the one with a single column has the most newlines.
    single = Cost(count_tokens(1, allowed, side), allowed if allowed == 1 else allowed + 1)
    return [
        (picture, _frames(len(picture.references), model) if picture.frames else single) for picture in talk.pictures
    ]


def _frames(frames: int, model: OutcomeModel) -> Cost:
    size = model.spec.tile_size
    layout = lay_out_frames(*canvas_size([_NEARLY_SQUARE] * frames, size), size)
    return Cost(count_tokens(layout.columns, layout.rows, model.spec.tile_side), layout.tiles)


def _turns(messages: Sequence[Message]) -> int:
    """Without the pictures in them."""
    texts = (
        message.content
        if isinstance(message.content, str)
        else "".join(part.text for part in message.content if part.type == "text")
        for message in messages
    )
    return sum(_TURN_TOKENS + _tokens(text) for text in texts)


def _tokens(text: str) -> int:
    return -(-(len(text) if text.isascii() else len(text.encode())) // BYTES_A_TOKEN)
