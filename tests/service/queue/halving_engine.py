"""An engine process whose logit is half of a candidate's first id; some ids kill it or make it wait.

13 kills the process, and 14 does when it is not its first job; 7 takes a fifth of a second. A picture's bytes must be
there, or its job fails.
"""

import argparse
import os
import signal
import socket
import time
from collections.abc import Generator, Mapping, Sequence

from service.batching import Budget, Waiting
from service.engine import Engine, Features, Logits
from service.job import EngineModel, PictureKey
from service.queue.frames import Ready
from service.queue.pipe import PipeSource
from tests.service.scripted import Halver, Halves

DEADLY, DEADLY_LATER, SLOW = 13, 14, 7
SLOW_S = 0.2


class DangerousHalver(Halver):
    """Dies of some ids."""

    def begin(self, batch: Sequence[Waiting]) -> Halves:
        self.begun += 1
        self.open.append(DangerousHalves(self, batch, is_first=self.begun == 1))
        return self.open[-1]


class DangerousHalves(Halves):
    """One forward, which may be the last."""

    def __init__(self, scorer: Halver, batch: Sequence[Waiting], *, is_first: bool) -> None:
        super().__init__(scorer, batch)
        self._firsts = {int(entry.job.ids(c)[0]) for entry in batch for c in entry.candidates}
        self._is_first = is_first

    def run(self, features: Mapping[PictureKey, Features]) -> Generator[None, None, list[Logits]]:
        if DEADLY in self._firsts or (DEADLY_LATER in self._firsts and not self._is_first):
            os.kill(os.getpid(), signal.SIGKILL)
        if SLOW in self._firsts:
            time.sleep(SLOW_S)
        return (yield from super().run(features))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--log-level")
    source = PipeSource(socket.socket(fileno=parser.parse_args().fd))
    configure = source.configuration()
    if configure is None:
        return
    names = [model.name for model in configure.models]
    # A model's folder stands for its weights here.
    source.send(
        Ready(tuple(EngineModel(model.name, f"sha256:{model.directory}", "float32") for model in configure.models))
    )
    budget = Budget(configure.batch_tokens, configure.batch_tiles)
    Engine({name: DangerousHalver() for name in names}, source, budget, 0).run()


if __name__ == "__main__":
    main()
