"""An engine process whose forward costs nothing: what is left is what the service itself costs."""

import socket
import sys
from collections.abc import Generator, Mapping, Sequence

import numpy as np

from models.prefix_cache import CacheCounts
from service.batching import Budget, Waiting
from service.collector import hold_back
from service.engine import Engine, Features, Logits
from service.job import EngineModel, JobPicture, PictureKey
from service.queue.frames import Ready
from service.queue.pipe import PipeSource


class Stub:
    """Every step has the log-odds 0."""

    counts = CacheCounts(looked_up=0, hit=0, evicted=0, held=0, capacity=0)

    def encode(self, picture: JobPicture, contents: Sequence[bytes]) -> Generator[None, None, Features]:
        yield
        return np.empty(0, np.float32)

    def begin(self, batch: Sequence[Waiting]) -> "Nothing":
        return Nothing(batch)


class Nothing:
    """A forward that is over at once."""

    def __init__(self, batch: Sequence[Waiting]) -> None:
        self._places = [(entry.job, candidate) for entry in batch for candidate in entry.candidates]
        self.pictures = {entry.job.key(picture) for entry in batch for picture in entry.pictures}
        self.computed = [job.tokens(candidate) for job, candidate in self._places]

    def run(self, features: Mapping[PictureKey, Features]) -> Generator[None, None, list[Logits]]:
        yield
        return [np.zeros((len(job.readouts(candidate)), 2), np.float32) for job, candidate in self._places]

    def close(self) -> None:
        pass


def serve(scorer: Stub, kind: type[PipeSource] = PipeSource) -> None:
    """Let a scorer have every model that the gateway at the other end of `--fd` names."""
    source = kind(socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1])))
    configure = source.configuration()
    if configure is None:
        return
    names = [model.name for model in configure.models]
    hold_back()
    source.send(Ready(tuple(EngineModel(name, "sha256:stub", "float32") for name in names)))
    budget = Budget(configure.batch_tokens, configure.batch_tiles)
    Engine(dict.fromkeys(names, scorer), source, budget).run()


if __name__ == "__main__":
    serve(Stub())
