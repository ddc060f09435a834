"""The outcome model as training and judging see it: IXC-2.5-Reward's network, prompt and padded picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch.nn import functional

from demo.facts import Facts
from demo.sampling import Pairs
from demo.tower import Pixels
from models.candidate import Candidate, PlacedPicture
from models.encoded import EncodedCandidate
from models.ixc_reward import network
from models.ixc_reward.layout import DEFAULT_TILES, MEAN, STD, count_tokens, lay_out, pad
from models.ixc_reward.network import IXCReward
from models.ixc_reward.prompt import Message, OutcomePrompt
from models.ixc_reward.spec import read_spec
from models.linear import project_plain
from models.readout import read_out_plain
from models.tiling import open_rgb
from models.tokenizer import load_tokenizer
from models.vision import merge_patches, normalise, patch_features

_MAX_TOKENS = 1024
_DRAWS = 4  # in a batch: two chains each, each with two pictures


class OutcomeModel:
    """A checkpoint's folder with the weights beside it; `blind` leaves the picture out of the prompt."""

    def __init__(self, folder: Path, weights: Mapping[str, torch.Tensor], *, blind: bool = False) -> None:
        self.spec = read_spec(folder)
        self._weights = weights
        tokenizer = load_tokenizer(folder)
        self._prompt = OutcomePrompt(self.spec, tokenizer)
        self._start = tokenizer.control_id("[UNUSED_TOKEN_146]")
        self._blind = blind

    @property
    def network(self) -> IXCReward:
        """Arranged anew: that copies the tower's queries, keys and values, which training changes."""
        return network.build(self.spec, self._weights)

    @staticmethod
    def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
        return network.tensor_shapes(read_spec(folder))

    @staticmethod
    def sees(name: str) -> bool:
        """Whether a tensor belongs to the tower, its projector or the rows that stand between patches."""
        return name.startswith(("vit.", "vision_proj.", "plora_"))

    def pixels(self, paths: Sequence[Path]) -> Pixels:
        """Each picture as the server would pad it, which has to be to one tile: (count, size, size, 3)."""
        padded = []
        for path in paths:
            image = open_rgb(path.read_bytes())
            padded.append(pad(image, lay_out(*image.size, self.spec.tile_size, DEFAULT_TILES)))
        return np.stack(padded)

    def see_tiles(self, pixels: Pixels) -> torch.Tensor:
        """(count, size, size, 3) → (count, tokens, dim), without the rows that stand between patches."""
        built, tiles = self.network, normalise(torch.tensor(pixels), MEAN, STD)
        merged = merge_patches(patch_features(built.vision, tiles, -1), self.spec.merged).flatten(1, 2)
        return project_plain(built.second, functional.gelu(project_plain(built.first, merged)))

    def see(self, pixels: Pixels) -> torch.Tensor:
        """The same as the decoder gets it, (count, all tokens, dim)."""
        built = self.network
        return torch.stack([network.picture_features(built, picture) for picture in pixels])

    def candidates(self, question: str, chains: Sequence[Sequence[str]], rows: torch.Tensor) -> list[Candidate]:
        """A question's chains about one picture, whose features are `rows` (tokens, dim)."""
        messages, answers = [Message("user", question)], ["\n\n".join(chain) for chain in chains]
        tokens = [] if self._blind else [count_tokens(1, 1, self.spec.tile_side)]
        group = self._prompt.encode_group(messages, tokens, answers, "refuse", _MAX_TOKENS)
        pictures = tuple(PlacedPicture(run.offset, rows) for run in group.pictures)
        found = []
        for index, encoded in enumerate(group.candidates):
            assert isinstance(encoded, EncodedCandidate)
            found.append(Candidate(group.ids(index), encoded.readouts, pictures))
        return found

    def scores(self, candidates: Sequence[Candidate]) -> list[float]:
        """From one packed forward."""
        return [float(found[0, 0]) for found in network.score(self.network, candidates)]

    def judge_and_speak(
        self, question: str, chain: Sequence[str], rows: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One chain's score, and the mean cross-entropy of its tokens by a head that is no part of the checkpoint.

        That head is the embedding: the checkpoint has none.
        """
        (candidate,) = self.candidates(question, [chain], rows)
        built, last = self.network, len(candidate.ids) - 1
        start = int(np.flatnonzero(candidate.ids == self._start)[-1])
        head = torch.cat([built.decoder.embeddings, built.head])
        places = np.arange(start, last + 1, dtype=np.int32)
        logits = read_out_plain(built.decoder, head, Candidate(candidate.ids, places, candidate.pictures))
        spoken = torch.tensor(candidate.ids[start + 1 :], dtype=torch.long)
        return logits[-1, -1], functional.cross_entropy(logits[:-1, :-1], spoken)


class OutcomeBatches:
    """Leaves the gradients of a batch that its number decides, and returns the pairwise loss."""

    def __init__(
        self, model: OutcomeModel, facts: Sequence[Facts], features: torch.Tensor, seed: int, draws: int = _DRAWS
    ) -> None:
        self._draws = draws
        self._model, self._facts, self._features, self._seed = model, facts, features, seed
        self._pairs = Pairs(facts)

    def __call__(self, step: int) -> float:
        random, total = Random(f"{self._seed}/{step}"), 0.0
        for _ in range(self._draws):
            ordered, spoken = self._losses(random)
            loss = (ordered + spoken) / self._draws
            loss.backward()
            total += ordered.item() / self._draws
        return total

    def _losses(self, random: Random) -> tuple[torch.Tensor, torch.Tensor]:
        """Two chains with two pictures: each chain is better with its own, each picture's own chain the better.

        The other loss is that of the right chains' next tokens, without which the first one stalls.
        """
        pairs = self._pairs.draw(random, spoiled=0)
        while pairs[0].chain.answer == pairs[1].chain.answer:
            pairs = self._pairs.draw(random, spoiled=0)
        question, pictures = pairs[0].chain.question.text, [pair.seen for pair in pairs]
        (own, other), (others, its) = (
            [self._model.judge_and_speak(question, pair.chain.texts, self._features[shown]) for shown in pictures]
            for pair in pairs
        )
        margins = torch.stack([own[0] - other[0], its[0] - others[0], own[0] - others[0], its[0] - other[0]])
        return -functional.logsigmoid(margins).mean(), (own[1] + its[1]) / 2
