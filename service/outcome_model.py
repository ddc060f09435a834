"""An outcome reward model as a gateway knows it: IXC-2.5-Reward's requests to jobs, its outputs to scores."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from models.encoded import EncodedCandidate, MarkerCount, ids_of, share_prefix
from models.ixc_reward.layout import DEFAULT_TILES
from models.ixc_reward.prompt import OutcomePrompt
from models.ixc_reward.spec import IXCRewardSpec
from service.errors import InvalidRequest
from service.gateway_model import ReadyGroup
from service.images import Image, ImageStore
from service.job import JobPicture
from service.outcome_pictures import BadImage, SeenPicture, place, see
from service.talk import Talk, read_talk
from service.whole_model import Found, WholeModel
from steelyard.schema import CandidateScore, ScoreOutcomesRequest, ScoreRequest


@dataclass(frozen=True, slots=True)
class OutcomeModel(WholeModel):
    """Scores an answer, or a conversation, with its pictures."""

    example: ClassVar = "outcomes"

    spec: IXCRewardSpec
    prompt: OutcomePrompt

    @property
    def max_tiles(self) -> int:
        return DEFAULT_TILES

    @property
    def longest_shared(self) -> int | None:
        return self.spec.decoder.rope.longest_shared

    def ready(self, request: ScoreRequest, images: ImageStore, skip: Collection[int] = ()) -> ReadyGroup:
        assert isinstance(request, ScoreOutcomesRequest)
        chosen = [index for index in range(request.size) if index not in skip]
        if request.conversations is None:
            return self._ready_candidates(request, chosen, images)
        return self._ready_conversations(request, chosen, images)

    def _ready_candidates(self, request: ScoreOutcomesRequest, chosen: Sequence[int], images: ImageStore) -> ReadyGroup:
        """Candidates share messages and pictures."""
        assert request.messages is not None
        assert request.candidates is not None
        talk = read_talk(request.messages, request.images)
        files = _resolve([talk], images)
        try:
            pictures = see(talk.pictures, files, self.spec.tile_size, request.max_tiles)
        except BadImage as error:
            return ReadyGroup(tuple(self.unscored(index, "bad_image", str(error)) for index in chosen))
        texts = {index: request.candidates[index] for index in chosen}
        positions = {text: position for position, text in enumerate(dict.fromkeys(texts.values()))}
        try:
            encoded = self.prompt.encode_group(
                talk.messages, self._tokens(pictures), list(positions), request.control_tokens, self.max_tokens
            )
        except MarkerCount as error:
            raise InvalidRequest(f"messages: {error}") from None
        found = {index: encoded.candidates[positions[text]] for index, text in texts.items()}
        return self._ready(encoded, found, files, shared=place(pictures, encoded.pictures))

    def _ready_conversations(
        self, request: ScoreOutcomesRequest, chosen: Sequence[int], images: ImageStore
    ) -> ReadyGroup:
        """Each conversation brings its own pictures; what all of them begin with is still sent once."""
        assert request.conversations is not None
        talks = {i: read_talk(request.conversations[i].messages, request.conversations[i].images) for i in chosen}
        files = _resolve(talks.values(), images)
        whole: dict[int, Found] = {}
        own: dict[int, tuple[JobPicture, ...]] = {}
        bad: list[CandidateScore] = []
        for index, talk in talks.items():
            try:
                whole[index], own[index] = self._encode(talk, files, request)
            except BadImage as error:
                bad.append(self.unscored(index, "bad_image", str(error)))
            except MarkerCount as error:
                raise InvalidRequest(f"conversations.{index}: {error}") from None
        encoded = share_prefix(ids_of(), (), list(whole.values()))
        return self._ready(encoded, dict(zip(whole, encoded.candidates, strict=True)), files, own=own, bad=bad)

    def _encode(
        self, talk: Talk, files: Mapping[str, Image], request: ScoreOutcomesRequest
    ) -> tuple[Found, tuple[JobPicture, ...]]:
        """A conversation's whole prompt, and its pictures in their places. Raises BadImage and MarkerCount."""
        pictures = see(talk.pictures, files, self.spec.tile_size, request.max_tiles)
        encoded = self.prompt.encode_conversation(
            talk.messages, self._tokens(pictures), request.control_tokens, self.max_tokens
        )
        (found,) = encoded.candidates
        if isinstance(found, EncodedCandidate):
            found = EncodedCandidate(encoded.ids(0), found.readouts, found.detail)
        return found, place(pictures, encoded.pictures)

    def _tokens(self, pictures: Sequence[SeenPicture]) -> list[int]:
        return [picture.tokens(self.spec.tile_side) for picture in pictures]


def _resolve(talks: Collection[Talk], images: ImageStore) -> dict[str, Image]:
    """Every file that the talks name, by how they do. Raises what the image store raises."""
    pictures = list(dict.fromkeys(picture for talk in talks for picture in talk.pictures))
    files = images.resolve(name for picture in pictures for name in picture.references)
    # The same frames make a picture of their own in every other order.
    images.check_pixels([files[name] for name in picture.references] for picture in pictures)
    return files
