"""The process model as training and judging see it: VisualPRM's network, prompt and tiles."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch.nn import functional

from demo.facts import Facts
from demo.sampling import Pair, Pairs
from demo.tower import Pixels
from models.candidate import Candidate, PlacedPicture
from models.encoded import EncodedCandidate, EncodedGroup
from models.tiling import choose_grid, cut, open_rgb
from models.tokenizer import Segment, load_tokenizer
from models.visual_prm import network
from models.visual_prm.network import VisualPRM
from models.visual_prm.prompt import StepPrompt, label_ids
from models.visual_prm.spec import read_spec

_HEAD = "language_model.output.weight"
_MAX_TOKENS = 1024
_DRAWS = 4  # in a batch: two chains each, each with two pictures


class ProcessModel:
    """A checkpoint's folder with the weights beside it; the head is whole, so every token can be read out.

    `blind` leaves the picture out of the prompt: the ablation.
    """

    def __init__(self, folder: Path, weights: Mapping[str, torch.Tensor], *, blind: bool = False) -> None:
        self.spec = read_spec(folder)
        self.network: VisualPRM = network.build(self.spec, weights)
        self._tokenizer = load_tokenizer(folder)
        self._prompt = StepPrompt(self.spec, self._tokenizer)
        self._labels = list(label_ids(self._tokenizer))
        self._end = self._tokenizer.control_id("<|im_end|>")
        self._blind = blind

    @staticmethod
    def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
        return network.tensor_shapes(read_spec(folder))

    @staticmethod
    def sees(name: str) -> bool:
        """Whether a tensor belongs to the tower or its projector."""
        return name.startswith(("vision_model.", "mlp1."))

    def pixels(self, paths: Sequence[Path]) -> Pixels:
        """Each picture as the server would cut it, which has to be into one tile: (count, size, size, 3)."""
        spec, tiles = self.spec, []
        for path in paths:
            image = open_rgb(path.read_bytes())
            grid = choose_grid(*image.size, spec.tile_size, spec.min_tiles, spec.max_tiles)
            tiles.append(cut(image, grid, spec.tile_size, spec.thumbnail))
        return np.concatenate(tiles)

    def see(self, pixels: Pixels) -> torch.Tensor:
        """(count, size, size, 3) → (count, tokens, dim)."""
        rows = network.picture_features(self.network, pixels)
        return rows.view(len(pixels), -1, rows.shape[1])

    def see_tiles(self, pixels: Pixels) -> torch.Tensor:
        """The same: nothing stands between this family's tiles."""
        return self.see(pixels)

    def candidates(self, question: str, chains: Sequence[Sequence[str]], rows: torch.Tensor) -> list[Candidate]:
        """A question's chains about one picture, whose features are `rows` (tokens, dim)."""
        group = self._encode(question, chains)
        pictures = tuple(PlacedPicture(run.offset, rows) for run in group.pictures)
        return [Candidate(group.ids(index), _readouts(group, index), pictures) for index in range(len(chains))]

    def margins(self, candidates: Sequence[Candidate]) -> list[torch.Tensor]:
        """For each candidate (steps,): by how much `+` is ahead of `-`, from one packed forward."""
        logits = [torch.from_numpy(found)[:, self._labels] for found in network.score(self.network, candidates)]
        return [plus - minus for plus, minus in (found.unbind(-1) for found in logits)]

    def loss(self, pair: Pair, facts: Facts, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of one chain with one picture: the steps' mean cross-entropy, and that of the true steps' next tokens."""
        chain, right = pair.chain, [judged.right for judged in pair.chain.judge(facts)]
        (candidate,) = self.candidates(chain.question.text, [chain.texts], rows)
        said = self._said(candidate, chain.texts, right)
        places = np.concatenate([candidate.readouts, said]).astype(np.int32)
        logits = network.score_plain(self.network, Candidate(candidate.ids, places, candidate.pictures))
        judged, spoken = logits.split([len(right), len(said)])
        step = functional.cross_entropy(judged[:, self._labels], torch.tensor([0 if r else 1 for r in right]))
        if not len(said):
            return step, torch.zeros(())
        return step, functional.cross_entropy(spoken, torch.tensor(candidate.ids[said + 1], dtype=torch.long))

    def _encode(self, question: str, chains: Sequence[Sequence[str]]) -> EncodedGroup:
        return self._prompt.encode_group(question, [] if self._blind else [1], chains, "refuse", _MAX_TOKENS)

    def _said(
        self, candidate: Candidate, texts: Sequence[str], right: Sequence[bool]
    ) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The positions before each token of the right steps."""
        ends = np.flatnonzero(candidate.ids == self._end)
        places = []
        for text, readout, is_right in zip(texts, candidate.readouts, right, strict=True):
            if is_right:
                end = ends[ends < readout][-1]
                places.append(np.arange(end - len(self._tokenizer.encode([Segment(text)]).ids), end) - 1)
        return np.concatenate(places) if places else np.empty(0, np.int64)


class ProcessBatches:
    """Leaves the gradients of a batch that its number decides, and returns the loss."""

    def __init__(
        self, model: ProcessModel, facts: Sequence[Facts], features: torch.Tensor, seed: int, draws: int = _DRAWS
    ) -> None:
        self._draws = draws
        self._model, self._facts, self._features, self._seed = model, facts, features, seed
        self._pairs = Pairs(facts)

    def __call__(self, step: int) -> float:
        random, total = Random(f"{self._seed}/{step}"), 0.0
        for _ in range(self._draws):
            for pair in self._pairs.draw(random):
                for picture in (pair.seen, pair.other):
                    judged, spoken = self._model.loss(pair, self._facts[picture], self._features[picture])
                    loss = (judged + spoken) / (4 * self._draws)
                    loss.backward()
                    total += judged.item() / (4 * self._draws)
        return total


def _readouts(group: EncodedGroup, index: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    candidate = group.candidates[index]
    assert isinstance(candidate, EncodedCandidate)
    return candidate.readouts
