"""From a command line's target to scored groups: a running server, or checkpoints that get one of their own."""

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from evaluation.checkpoint import serving
from evaluation.errors import EvaluationError
from evaluation.groups import Group, Settings, hash_inputs
from evaluation.journal import open_journal
from evaluation.records import FILE, Record, Records
from evaluation.scorer import ServerScorer
from evaluation.scoring import score_all
from steelyard import AsyncClient, Retry
from steelyard.errors import SteelyardError
from steelyard.schema import ServedModel

_MOST_RETRIES = 1000
DTYPES = ("auto", "float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class Target:
    """What is evaluated, and how it is asked."""

    url: str | None
    checkpoints: tuple[Path, ...]
    models: tuple[str, ...]
    server_options: tuple[str, ...]
    settings: Settings
    in_flight: int
    retry_s: float
    out: Path


@dataclass(frozen=True, slots=True)
class Run:
    """One model and its record of every group."""

    served: ServedModel
    records: dict[str, Record]


def add_target(parser: argparse.ArgumentParser) -> None:
    """The options that every command shares."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--url", help="a running server")
    which.add_argument(
        "--checkpoint", type=Path, action="append", help="a folder, or ORG/REPO@REVISION; a server is started"
    )
    parser.add_argument("--model", action="append", default=[], help="the served name, where several could be meant")
    parser.add_argument("--dtype", choices=DTYPES, help="of a checkpoint's server")
    parser.add_argument("--out", type=Path, required=True, help="folder of the records and the report")
    add_settings(parser)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """How a model is run and asked."""
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="of a checkpoint's server")
    parser.add_argument("--threads", type=int, help="of a checkpoint's server on a CPU")
    parser.add_argument("--max-tiles", type=int, help="tiles a picture may be cut into; default the model's own")
    parser.add_argument("--control-tokens", choices=("parse", "literal", "refuse"), default="parse")
    parser.add_argument("--in-flight", type=int, default=32, help="groups under way at a time (default 32)")
    parser.add_argument("--retry-for", type=float, default=120.0, help="seconds before a server is given up")


def read_target(given: argparse.Namespace) -> Target:
    """Raises EvaluationError for numbers that make no sense."""
    if given.in_flight < 1 or not given.retry_for >= 0:
        raise EvaluationError("--in-flight must be at least 1, --retry-for at least 0")
    options = {"--dtype": given.dtype, "--device": given.device, "--threads": given.threads}
    if given.url is not None and any(value is not None for value in options.values()):
        raise EvaluationError("--dtype, --device and --threads are those of a checkpoint's server, not of --url")
    return Target(
        url=given.url,
        checkpoints=tuple(given.checkpoint or ()),
        models=tuple(given.model),
        server_options=tuple(f"{name}={value}" for name, value in options.items() if value is not None),
        settings=Settings(given.max_tiles, given.control_tokens),
        in_flight=given.in_flight,
        retry_s=given.retry_for,
        out=given.out,
    )


def score_groups(target: Target, groups: Sequence[Group], *, kinds: Sequence[str], several: bool = False) -> list[Run]:
    """A run for each chosen model of these kinds, one unless `several`. Raises EvaluationError."""
    inputs = hash_inputs(groups, target.settings)

    async def score(url: str) -> list[Run]:
        retry = Retry(max_retries=_MOST_RETRIES, within_s=target.retry_s)
        async with AsyncClient(url, retry=retry, max_concurrency=target.in_flight) as client:
            chosen = choose((await client.models()).data, target.models, kinds, several=several)
            with open_journal(target.out / FILE) as journal:
                records, runs = Records(journal), []
                for served in chosen:
                    scorer = ServerScorer(client, served, target.settings)
                    found = await score_all(scorer, groups, inputs, records, target.in_flight)
                    runs.append(Run(served, found))
                return runs

    with address(target) as url:
        try:
            return asyncio.run(score(url))
        except SteelyardError as error:
            raise EvaluationError(str(error)) from None


def choose(
    served: Sequence[ServedModel], names: Sequence[str], kinds: Sequence[str], *, several: bool
) -> list[ServedModel]:
    """The named models, else those of the wanted kinds. Raises EvaluationError when it is not clear which."""
    listed = ", ".join(f"{model.name} ({model.kind})" for model in served) or "none"
    by_name = {model.name: model for model in served}
    for name in names:
        if name not in by_name or by_name[name].kind not in kinds:
            raise EvaluationError(
                f"--model {name}: no such model of kind {' or '.join(kinds)}; the server has {listed}"
            )
    found = [by_name[name] for name in names] or [model for model in served if model.kind in kinds]
    alike = len({model.kind for model in found}) < len(found) or (len(found) > 1 and not several)
    if not found or alike:
        reason = "several could be meant" if found else f"none is of kind {' or '.join(kinds)}"
        raise EvaluationError(f"--model: {reason}; the server has {listed}")
    return found


@contextmanager
def address(target: Target) -> Iterator[str]:
    """The running server's, or that of one which serves the checkpoints for as long as this is open."""
    if target.url is not None:
        yield target.url
        return
    with serving(target.checkpoints, target.server_options) as url:
        yield url
