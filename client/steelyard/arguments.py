"""The command line of `steelyard`, without anything that takes long to import."""

import argparse
from collections.abc import Sequence
from typing import Literal

from steelyard import __version__
from steelyard.audit_arguments import add_audit
from steelyard.filter_arguments import add_filter

Aggregate = Literal["mean", "min", "max", "product", "last", "sum"]
AGGREGATES: tuple[Aggregate, ...] = ("mean", "min", "max", "product", "last", "sum")

_ENVIRONMENT = "The server's address and key may stand in STEELYARD_URL and STEELYARD_API_KEY."
_EXIT_CODES = "Exit codes: 0 every candidate has a score, 1 an error, 2 wrong usage, 3 some candidate has no score."


class Arguments(argparse.Namespace):
    """What stands on the command line."""

    command: Literal["score", "rank", "models", "jobs", "filter", "audit"]
    url: str | None
    timeout: float | None
    json: bool
    image: list[str]
    question: str
    candidate: list[str]
    candidates_file: str | None
    model: str | None
    max_tiles: int | None
    aggregate: Aggregate | None
    blend: list[tuple[str, float]]
    normalize: Literal["zscore", "rank", "none"] | None
    action: Literal["submit", "status", "results", "cancel"]
    file: str
    job: str
    out: str | None
    follow: bool
    input: str
    output: str
    question_column: str | None
    messages: str | None
    response: str | None
    candidates: str | None
    images: str | None
    images_root: str | None
    no_images: bool
    form: Literal["records", "scores", "pairs", "step-labels"]
    format: Literal["jsonl", "parquet", "datasets", "parquet-directory"] | None
    prefix: str
    min_score: float | None
    top: int | None
    deduplicate: bool
    margin: float
    label_threshold: float
    max_steps: int | None
    control_tokens: Literal["parse", "literal", "refuse"]
    skip_bad: bool
    resume: bool
    overwrite: bool
    engine: Literal["local", "ray"]
    workers: int
    concurrency: int
    records: str
    specification: str | None
    mode: Literal["strict", "upstream"] | None
    truth: str | None
    least_gain: float


def read_arguments(arguments: Sequence[str] | None) -> Arguments:
    """Exits with 2 and a line on stderr for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="steelyard",
        description="Ask a Steelyard server how good answers are.",
        epilog=f"{_ENVIRONMENT} {_EXIT_CODES}",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"steelyard {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    score = commands.add_parser("score", help="score candidate answers to a question", allow_abbrev=False)
    _add_score(score)
    rank = commands.add_parser(
        "rank", help="put candidate answers in order, by one model or several", allow_abbrev=False
    )
    _add_score(rank)
    _add_blend(rank)
    models = commands.add_parser("models", help="list the models that are served", allow_abbrev=False)
    jobs = commands.add_parser("jobs", help="score a file of groups in the background", allow_abbrev=False)
    filtering = commands.add_parser("filter", help="keep the part of a data set that scores well", allow_abbrev=False)
    add_filter(filtering)
    filtering.add_argument("--aggregate", choices=AGGREGATES, help="how step scores make the score (default mean)")
    add_audit(commands.add_parser("audit", help="find what a reward pays for that is not better", allow_abbrev=False))
    for command in (score, rank, models, filtering, *_add_jobs(jobs)):
        _add_server(command)
    given = parser.parse_args(arguments, Arguments())
    if given.command in ("score", "rank") and not given.candidate and given.candidates_file is None:
        commands.choices[given.command].error("give at least one --candidate, or a --candidates-file")
    return given


def _add_score(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EXIT_CODES
    parser.add_argument("--question", required=True, metavar="TEXT", help="may place its pictures with <image>")
    parser.add_argument(
        "--image", action="append", default=[], metavar="PATH", help="a file or a sha256: id; repeatable"
    )
    parser.add_argument(
        "--candidate", action="append", default=[], metavar="TEXT", help="blank lines part its steps; repeatable"
    )
    parser.add_argument(
        "--candidates-file", metavar="FILE", help="a JSON string or a list of steps on each line; - is stdin"
    )
    parser.add_argument("--model", metavar="NAME", help="default: the only one, or the only one that scores steps")
    parser.add_argument("--max-tiles", type=int, metavar="N", help="tiles that a picture may be cut into")
    parser.add_argument("--aggregate", choices=AGGREGATES, help="how step scores make the score (default mean)")


def _add_blend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--blend", action="append", type=_share, default=[], metavar="NAME=WEIGHT", help="a model of a sum; repeatable"
    )
    parser.add_argument(
        "--normalize", choices=("zscore", "rank", "none"), help="each model's scores (default zscore for a blend)"
    )


def _add_jobs(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The commands below `jobs`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    submit = actions.add_parser("submit", help="hand over groups; run again, it goes on", allow_abbrev=False)
    submit.add_argument("file", metavar="FILE", help="the body of a scoring call on each line; - is stdin")
    status = actions.add_parser("status", help="how far a job is", allow_abbrev=False)
    results = actions.add_parser("results", help="fetch the rows that are there", allow_abbrev=False)
    results.add_argument("--out", metavar="FILE", help="append to it; run again, it goes on")
    results.add_argument("--follow", action="store_true", help="until the job is done")
    cancel = actions.add_parser("cancel", help="start no more of a job; its rows stay", allow_abbrev=False)
    for action in (status, results, cancel):
        action.add_argument("job", metavar="ID")
    return [submit, status, results, cancel]


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help="default: $STEELYARD_URL, or http://127.0.0.1:8000")
    parser.add_argument(
        "--timeout", type=_seconds, metavar="S", help="seconds after which scores come too late; default 30"
    )
    parser.add_argument("--json", action="store_true", help="print the server's answer as JSON")


def _share(text: str) -> tuple[str, float]:
    name, equals, weight = text.rpartition("=")
    if not (name and equals and 0 < float(weight) < 1e6):
        raise argparse.ArgumentTypeError(f"{text} is not of the form NAME=WEIGHT, with a weight above 0")
    return name, float(weight)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a length of time")
    return seconds
