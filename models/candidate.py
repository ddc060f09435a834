"""What a network scores: one candidate's tokens, with its pictures' features in their places."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class PlacedPicture:
    """One picture's feature rows (tokens, dim), which stand from position `offset` on."""

    offset: int
    features: torch.Tensor


@dataclass(frozen=True, slots=True)
class Candidate:
    """`ids` (tokens,) int32; `readouts` int32, the positions whose hidden state is read."""

    ids: Ids
    readouts: Ids
    pictures: tuple[PlacedPicture, ...] = ()
