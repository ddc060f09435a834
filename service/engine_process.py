"""The engine process: loads the models it is told to over its pipe, then scores until told to stop.

A process of its own because a forward holds the interpreter lock, and a device fault takes its process along.
"""

import argparse
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from kernels.dispatch import switch_off
from kernels.processor import MULTIPLIES_BFLOAT16
from kernels.self_test import failing_kernels
from models.checkpoint import CheckpointError, weights_digest
from models.registry import identify
from models.weights import stored_tensors
from service.batching import Budget
from service.collector import hold_back
from service.engine import Engine, Scorer
from service.job import EngineModel
from service.queue.frames import Configure, Loading, Ready, StartFailed
from service.queue.pipe import PipeSource
from service.scorers import Running, load_scorer

log = logging.getLogger(__name__)


def resolve_device(device: str) -> torch.device:
    """`auto` is a GPU, or the processor where there is none. Raises CheckpointError for a GPU that is not there."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise CheckpointError(
            "--device cuda: this torch finds no GPU; install its build with TORCH_BACKEND, or use cpu"
        )
    return torch.device(device)


def resolve_dtype(dtype: str, device: torch.device, directory: Path) -> torch.dtype:
    """`auto` is bfloat16 on a GPU. On a processor it is what the checkpoint is stored in: float32, in which scores
    are exact, or bfloat16 where the processor multiplies it. Raises CheckpointError.
    """
    if dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
    if device.type != "cpu":
        return torch.bfloat16
    halves = {stored.dtype for stored in stored_tensors(directory).values()} <= {"BF16", "F16"}
    return torch.bfloat16 if halves and MULTIPLIES_BFLOAT16 else torch.float32


def try_kernels(device: torch.device) -> tuple[str, ...]:
    """The kernels that fail on a GPU, from now on off: torch does their work, slower."""
    if device.type == "cpu":
        return ()
    failed = failing_kernels(device.type)
    for name, reason in failed.items():
        log.warning("the kernel %s is off, torch does its work: %s", name, reason)
    switch_off(failed)
    return tuple(failed)


def load_models(configure: Configure, source: PipeSource) -> tuple[dict[str, Scorer], Ready]:
    """Load every model, telling the gateway how far it is. Raises CheckpointError."""
    device = resolve_device(configure.device)
    share = configure.prefix_cache_bytes // len(configure.models)
    scorers: dict[str, Scorer] = {}
    loaded: list[EngineModel] = []
    for model in configure.models:
        directory = Path(model.directory)
        report = partial(_report, source, model.name)
        dtype = resolve_dtype(configure.dtype, device, directory)
        running = Running(device, dtype, share, configure.batch_invariant)
        scorers[model.name] = load_scorer(identify(directory), directory, running, report)
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
        # In a process of their own, before this one has a context on the GPU.
        fallbacks = try_kernels(resolve_device(configure.device))
        scorers, ready = load_models(configure, source)
    except CheckpointError as error:
        source.send(StartFailed(str(error)))
        return 1
    hold_back()
    source.send(ready)
    budget = Budget(configure.batch_tokens, configure.batch_tiles)
    Engine(scorers, source, budget, configure.vision_cache_bytes, fallbacks).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
