"""The engine process: loads the models it is told to over its pipe, then scores until told to stop.

A process of its own because a forward holds the interpreter lock, and a device fault takes its process along.
"""

import argparse
import logging
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

from models.candidate import Candidate, PlacedPicture
from models.checkpoint import CheckpointError, weights_digest
from models.registry import identify
from models.tiling import cut, open_rgb
from models.visual_prm import network as visual_prm
from service.batching import Budget, Waiting
from service.engine import DeviceFault, Engine, Logits, Scorer
from service.job import EngineModel, Job, JobPicture, PictureKey
from service.queue.frames import Configure, Loading, Ready, StartFailed
from service.queue.pipe import PipeSource

Params = ParamSpec("Params")
Result = TypeVar("Result")


def _raising_device_faults(method: Callable[Params, Result]) -> Callable[Params, Result]:
    """A fault of the accelerator is no candidate's fault, and every later call would raise it again."""

    @wraps(method)
    def guarded(*args: Params.args, **kwargs: Params.kwargs) -> Result:
        try:
            return method(*args, **kwargs)
        except torch.OutOfMemoryError:
            raise
        except torch.AcceleratorError as error:
            raise DeviceFault(str(error)) from error

    return guarded


class VisualPRMScorer:
    """A VisualPRM network as the engine drives it."""

    def __init__(self, model: visual_prm.VisualPRM) -> None:
        self._model = model

    @classmethod
    def load(
        cls, directory: Path, dtype: torch.dtype, device: torch.device, progress: Callable[[int, int], None]
    ) -> "VisualPRMScorer":
        """Raises CheckpointError."""
        return cls(visual_prm.load(directory, dtype, device, progress))

    @_raising_device_faults
    @torch.inference_mode()
    def encode(self, picture: JobPicture, content: bytes) -> torch.Tensor:
        spec = self._model.spec
        tiles = cut(open_rgb(content), picture.grid, spec.tile_size, spec.thumbnail)
        return visual_prm.picture_features(self._model, tiles)

    @_raising_device_faults
    @torch.inference_mode()
    def score(self, batch: Sequence[Waiting], features: Mapping[PictureKey, object]) -> list[Logits]:
        candidates = [_candidate(entry.job, index, features) for entry in batch for index in entry.candidates]
        if batch[0].job.plain:
            return [visual_prm.score_plain(self._model, candidate).cpu().numpy() for candidate in candidates]
        return visual_prm.score(self._model, candidates)


# By the family's name in the registry.
_SCORERS = {"visual_prm": VisualPRMScorer}


def _candidate(job: Job, index: int, features: Mapping[PictureKey, object]) -> Candidate:
    placed = []
    for picture in job.pictures:
        rows = features[job.key(picture)]
        assert isinstance(rows, torch.Tensor)
        placed.append(PlacedPicture(picture.offset, rows))
    return Candidate(job.ids(index), job.readouts(index), tuple(placed))


def resolve_device(device: str) -> torch.device:
    """`auto` is a GPU, or the processor where there is none. Raises CheckpointError for a GPU that is not there."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise CheckpointError(
            "--device cuda: this torch finds no GPU; install its build with TORCH_BACKEND, or use cpu"
        )
    return torch.device(device)


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """`auto` is float32 on a processor, where it is exact, and bfloat16 on a GPU."""
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]


def load_models(configure: Configure, source: PipeSource) -> tuple[dict[str, Scorer], Ready]:
    """Load every model, telling the gateway how far it is. Raises CheckpointError."""
    device = resolve_device(configure.device)
    dtype = resolve_dtype(configure.dtype, device)
    scorers: dict[str, Scorer] = {}
    loaded: list[EngineModel] = []
    for model in configure.models:
        directory = Path(model.directory)
        report = partial(_report, source, model.name)
        scorers[model.name] = _SCORERS[identify(directory).name].load(directory, dtype, device, report)
        loaded.append(EngineModel(model.name, weights_digest(directory), str(dtype).removeprefix("torch.")))
    return scorers, Ready(tuple(loaded))


def _report(source: PipeSource, model: str, done: int, total: int) -> None:
    source.send(Loading(model, done, total))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m service.engine_process")
    parser.add_argument("--fd", type=int, required=True, help="the inherited end of the gateway's pipe")
    parser.add_argument("--log-level", default="info")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=options.log_level.upper(), format="%(levelname)s engine: %(message)s")
    # The gateway decides when this process ends, by Stop or by closing the pipe: a terminal's Ctrl-C and a service
    # manager's SIGTERM reach both, and the gateway still has groups to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    source = PipeSource(socket.socket(fileno=options.fd))
    configure = source.configuration()
    if configure is None:
        return 0
    # TensorFloat-32 keeps ten bits of a float32's mantissa: torch lets convolutions use it unless told otherwise.
    torch.backends.cudnn.allow_tf32 = False
    if configure.threads is not None:
        torch.set_num_threads(configure.threads)
    try:
        scorers, ready = load_models(configure, source)
    except CheckpointError as error:
        source.send(StartFailed(str(error)))
        return 1
    source.send(ready)
    Engine(scorers, source, Budget(configure.batch_tokens, configure.batch_tiles)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
