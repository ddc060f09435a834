"""A sequence classifier as a gateway knows it: conversations of text to jobs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

from models.encoded import ids_of, share_prefix
from models.sequence_classifier.prompt import ClassifierPrompt, Turn
from service.errors import InvalidRequest
from service.gateway_model import ReadyGroup
from service.images import ImageStore
from service.talk import read_talk
from service.whole_model import Found, WholeModel
from steelyard import schema
from steelyard.schema import ScoreOutcomesRequest, ScoreRequest


@dataclass(frozen=True, slots=True)
class ClassifierModel(WholeModel):
    """Scores text by the checkpoint's own chat template; it sees no pictures."""

    example: ClassVar = "answers"

    prompt: ClassifierPrompt

    @property
    def max_tiles(self) -> int:
        return 0

    def ready(self, request: ScoreRequest, images: ImageStore, skip: Collection[int] = ()) -> ReadyGroup:
        assert isinstance(request, ScoreOutcomesRequest)
        chosen = [index for index in range(request.size) if index not in skip]
        if request.conversations is None:
            found = self._encode_answers(request, chosen)
        else:
            found = self._encode_conversations(request, request.conversations, chosen)
        encoded = share_prefix(ids_of(), (), list(found.values()))
        return self._ready(encoded, dict(zip(found, encoded.candidates, strict=True)), {})

    def _encode_answers(self, request: ScoreOutcomesRequest, chosen: Sequence[int]) -> dict[int, Found]:
        assert request.messages is not None
        assert request.candidates is not None
        messages = self._read("", request.messages, request.images)
        texts = {index: request.candidates[index] for index in chosen}
        once = list(dict.fromkeys(texts.values()))
        encoded = self.prompt.encode_answers(messages, once, request.control_tokens, self.max_tokens)
        by_text = dict(zip(once, encoded, strict=True))
        return {index: by_text[text] for index, text in texts.items()}

    def _encode_conversations(
        self, request: ScoreOutcomesRequest, conversations: Sequence[schema.Conversation], chosen: Sequence[int]
    ) -> dict[int, Found]:
        # All are looked at before any is tokenised.
        turns = {
            index: self._read(f"conversations.{index}.", conversations[index].messages, conversations[index].images)
            for index in chosen
        }
        return {
            index: self.prompt.encode_conversation(its, request.control_tokens, self.max_tokens)
            for index, its in turns.items()
        }

    def _read(self, where: str, messages: Sequence[schema.Message], images: Sequence[str]) -> list[Turn]:
        """Raises InvalidRequest for pictures: a score that left them out would be of something else."""
        talk = read_talk(messages, images)
        if talk.pictures:
            field = "images" if images else "messages"
            raise InvalidRequest(
                f"{where}{field}: {self.name} reads text alone, and there are {len(talk.pictures)} pictures"
            )
        # Without pictures the texts of a message are one.
        return [
            Turn(role, content if isinstance(content, str) else "".join(map(str, content)))
            for role, content in talk.messages
        ]
