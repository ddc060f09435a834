"""Memory for the features that a vision cache keeps, apart from what forwards make and drop."""

from dataclasses import dataclass
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

import torch


@dataclass(frozen=True, slots=True, eq=False)
class MappedFeatures:
    """A picture's features in pages of their own, which go back to the system with this object.

    Kept as a tensor they would pin the heap: a forward's tensors come and go around them and around the small objects
    that a tensor consists of, and the gaps between them are soon too small for the next forward. The heap of an engine
    grew by 2 MiB in 1,000 pictures, though as many went as came.
    """

    pages: mmap
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Of the features alone."""
        return len(self.pages)

    def tensor(self) -> torch.Tensor:
        """A view, valid as long as the tensor lives; not to be written to."""
        return torch.frombuffer(self.pages, dtype=self.dtype).view(self.shape)


def set_apart(features: torch.Tensor) -> torch.Tensor | MappedFeatures:
    """The features as a cache should keep them; those on a GPU stay with torch's own allocator.

    Raises MemoryError.
    """
    if features.device.type != "cpu":
        return features
    try:
        pages = mmap(-1, features.nbytes, flags=MAP_PRIVATE | MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"no memory for {features.nbytes} bytes of features: {error}") from error
    kept = MappedFeatures(pages, features.dtype, tuple(features.shape))
    kept.tensor().copy_(features)
    return kept
