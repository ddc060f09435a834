"""An IXC-2.5-Reward checkpoint in this process, fed by the reference's own rules."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from models.candidate import Candidate, PlacedPicture
from models.ixc_reward import network
from models.ixc_reward.layout import FORMATS, Pixels, count_tokens, lay_out, pad, tiles_allowed
from models.ixc_reward.prompt import MAX_TOKENS, Message, OutcomePrompt, ReferencePrompt, render
from models.ixc_reward.spec import read_spec
from models.tiling import open_rgb, read_header
from models.tokenizer import load_tokenizer

Case = Mapping[str, Any]
# A list of turns, or a prompt's text as it is.
Conversation = str | Sequence[Mapping[str, Any]]

_MOST_PIXELS = 10**8
_CPU = torch.device("cpu")


class IXCRewardInProcess:
    """One checkpoint, scored in this process; `folder` is where the cases' pictures lie."""

    def __init__(self, checkpoint: Path, dtype: torch.dtype, folder: Path, device: torch.device = _CPU) -> None:
        self.spec = read_spec(checkpoint)
        self.prompt = OutcomePrompt(self.spec, load_tokenizer(checkpoint))
        self.model = network.load(checkpoint, dtype, device)
        self.folder = folder
        self._features: dict[str, torch.Tensor] = {}

    def open(self, name: str) -> Image.Image:
        """Raises NotAPicture for what the reference does not open."""
        content = (self.folder / name).read_bytes()
        read_header(content, _MOST_PIXELS, FORMATS)
        return open_rgb(content)

    def pictures(self, names: Sequence[str], options: Case) -> list[Pixels]:
        """Each padded at the tiles that it may have beside the others."""
        tiles = tiles_allowed(len(names), options.get("hd_num"))
        images = [self.open(name) for name in names]
        return [pad(image, lay_out(*image.size, self.spec.tile_size, tiles)) for image in images]

    def tokens(self, pixels: Pixels) -> int:
        height, width = (side // self.spec.tile_size for side in pixels.shape[:2])
        return count_tokens(width, height, self.spec.tile_side)

    def encode(self, conversation: Conversation, pictures: Sequence[Pixels], options: Case) -> ReferencePrompt:
        """By the reference's own rules, not cut. Raises UnknownRole."""
        tokens = [self.tokens(pixels) for pixels in pictures]
        return self.prompt.encode_reference(text_of(conversation), tokens, max_tokens(options))

    @torch.inference_mode()
    def features(self, pixels: Pixels) -> torch.Tensor:
        key = f"{pixels.shape} {digest(pixels)}"
        if key not in self._features:
            self._features[key] = network.picture_features(self.model, pixels)
        return self._features[key]

    def candidate(self, encoded: ReferencePrompt, pictures: Sequence[Pixels]) -> Candidate:
        placed = tuple(
            PlacedPicture(run.offset, self.features(pixels)[: run.tokens])
            for run, pixels in zip(encoded.pictures, pictures, strict=False)
        )
        return Candidate(encoded.ids, np.array([len(encoded.ids) - 1], np.int32), placed)

    @torch.inference_mode()
    def score(self, candidates: Sequence[Candidate]) -> list[float]:
        """All in one packed forward, equal ones once, so that a tie is one whatever the rows' places."""
        distinct = {_key(candidate): candidate for candidate in candidates}
        scores = network.score(self.model, list(distinct.values()))
        by_key = {key: float(score[0, 0]) for key, score in zip(distinct, scores, strict=True)}
        return [by_key[_key(candidate)] for candidate in candidates]

    @torch.inference_mode()
    def score_plain(self, candidate: Candidate) -> float:
        return network.score_plain(self.model, candidate).item()

    def ready(self, conversation: Conversation, names: Sequence[str], options: Case) -> Candidate:
        pictures = self.pictures(names, options)
        return self.candidate(self.encode(conversation, pictures, options).cut(max_tokens(options)), pictures)


def max_tokens(options: Case) -> int:
    limit: int = options.get("max_length", MAX_TOKENS)
    return limit


def messages_of(conversation: Sequence[Mapping[str, Any]]) -> list[Message]:
    return [Message(turn["role"], turn["content"]) for turn in conversation]


def text_of(conversation: Conversation) -> str:
    """Before any picture is placed. Raises UnknownRole."""
    return conversation if isinstance(conversation, str) else render(messages_of(conversation))


def digest(pixels: Pixels) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def _key(candidate: Candidate) -> tuple[bytes, tuple[tuple[int, int, int], ...]]:
    """A picture's features are computed once, so they are told by where they lie."""
    placed = [(p.offset, p.features.data_ptr(), len(p.features)) for p in candidate.pictures]
    return candidate.ids.tobytes(), tuple(placed)
