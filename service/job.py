"""What crosses the queue: one group to be scored, and what comes back for it.

Nothing of torch and nothing of the wire is in them, so any worker can take them from any queue.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
JobStatus = Literal["ok", "expired", "failed"]
# Model, digests of the files, whether they are a video's frames, grid: what a picture's features depend on.
PictureKey = tuple[str, tuple[str, ...], bool, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class JobPicture:
    """A picture by the hash of its bytes, how it is cut, and where its tokens stand in the prompt.

    `digests` has one hash, or with `frames` those of a video's frames, which the model sees as one picture.
    `grid` is (columns, rows) of tiles; `tiles` is what goes through the tower.
    """

    digests: tuple[str, ...]
    frames: bool
    grid: tuple[int, int]
    tiles: int
    offset: int
    tokens: int


@dataclass(frozen=True, slots=True)
class JobCandidate:
    """The ids after the shared prefix, and the read-outs as positions in the whole prompt; int32 bytes.

    `pictures` are those that are not the whole group's, as whole conversations bring them.
    """

    suffix: bytes
    readouts: bytes
    pictures: tuple[JobPicture, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One group: the shared prefix's ids once, then each distinct candidate.

    `pictures` are every candidate's, in the same places; a group whose candidates bring their own has none.
    `submitted` and `deadline` (None for none) are in seconds of this machine's monotonic clock, which no correction of
    its time can move; `rank` is 0 for online, 1 for train, 2 for batch.
    `deaths` counts the workers that died with this job in hand, `done` names the candidates that had an outcome by
    then. `plain` asks for the unshared oracle path; nor does a prompt share anything that has more tokens than
    `longest_shared`. Jobs of one `opening` are likely to share much of their prompts.
    """

    id: str
    model: str
    rank: int
    submitted: float
    deadline: float | None
    prefix: bytes
    candidates: tuple[JobCandidate, ...]
    pictures: tuple[JobPicture, ...] = ()
    plain: bool = False
    deaths: int = 0
    done: tuple[int, ...] = ()
    opening: str = ""
    longest_shared: int | None = None

    @property
    def left(self) -> tuple[int, ...]:
        """The candidates still to be scored."""
        return tuple(index for index in range(len(self.candidates)) if index not in self.done)

    def pictures_of(self, index: int) -> tuple[JobPicture, ...]:
        """A candidate's pictures in the order of their places: it has the group's or its own."""
        return self.pictures or self.candidates[index].pictures

    def key(self, picture: JobPicture) -> PictureKey:
        return self.model, picture.digests, picture.frames, picture.grid

    def ids(self, index: int) -> Ids:
        """The whole prompt of a candidate, (tokens,) int32."""
        return np.frombuffer(self.prefix + self.candidates[index].suffix, np.int32)

    def readouts(self, index: int) -> Ids:
        return np.frombuffer(self.candidates[index].readouts, np.int32)

    def shares(self, index: int) -> bool:
        """Whether what is computed of a candidate's prompt may be another one's too."""
        return not self.plain and (self.longest_shared is None or self.tokens(index) <= self.longest_shared)

    def tokens(self, index: int) -> int:
        return (len(self.prefix) + len(self.candidates[index].suffix)) // 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one candidate of a job; `logits` are (read-outs, labels) float32 bytes when `ok`.

    `labels` are the rows of the model's head: `+` and `-` of a process reward model, one of an outcome reward model.
    """

    candidate: int
    status: JobStatus
    logits: bytes = b""
    detail: str | None = None
    retryable: bool = True

    def values(self, labels: int) -> npt.NDArray[np.float64]:
        """(read-outs, labels)."""
        return np.frombuffer(self.logits, np.float32).reshape(-1, labels).astype(float)


@dataclass(frozen=True, slots=True)
class Delivery:
    """Outcomes of a job as they become known; the job is done when each of its candidates has one.

    `weights` is the digest of what scored, filled in by the queue.
    """

    job: str
    outcomes: tuple[Outcome, ...]
    computed_tokens: int = 0
    tiles: int = 0
    queue_ms: float = 0.0
    forward_ms: float = 0.0
    weights: str = ""


@dataclass(frozen=True, slots=True)
class EngineModel:
    """A model as the engine has loaded it."""

    name: str
    weights: str
    dtype: str
