"""An engine process whose forward costs nothing: what is left is what the service itself costs."""

import socket
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from service.batching import Budget, Waiting
from service.engine import Engine, Logits
from service.job import EngineModel, JobPicture, PictureKey
from service.queue.frames import Ready
from service.queue.pipe import PipeSource


class Stub:
    """Every step has the log-odds 0."""

    def encode(self, picture: JobPicture, contents: Sequence[bytes]) -> object:
        return None

    def score(self, batch: Sequence[Waiting], features: Mapping[PictureKey, object]) -> list[Logits]:
        places = [(entry.job, candidate) for entry in batch for candidate in entry.candidates]
        return [np.zeros((len(job.readouts(candidate)), 2), np.float32) for job, candidate in places]


def main() -> None:
    source = PipeSource(socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1])))
    configure = source.configuration()
    if configure is None:
        return
    names = [model.name for model in configure.models]
    source.send(Ready(tuple(EngineModel(name, "sha256:stub", "float32") for name in names)))
    budget = Budget(configure.batch_tokens, configure.batch_tiles)
    Engine({name: Stub() for name in names}, source, budget).run()


if __name__ == "__main__":
    main()
