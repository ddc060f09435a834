"""The options of `steelyard filter`."""

import argparse
import math

_EXIT_CODES = (
    "Exit codes: 0 every candidate has a score, 1 an error (what was scored is kept for --resume), 2 wrong usage, "
    "3 some candidate has no score, 4 some of those may have one after --resume."
)


def add_filter(parser: argparse.ArgumentParser) -> None:
    """All but those that other commands have too."""
    parser.epilog = _EXIT_CODES
    parser.add_argument(
        "input", metavar="INPUT", help=".jsonl(.gz), .parquet, .arrow, or a directory of datasets' or Parquet"
    )
    parser.add_argument("output", metavar="OUTPUT", help="the format follows from the name; a bare name is a directory")
    _add_columns(parser.add_argument_group("columns"))
    _add_scoring(parser.add_argument_group("scoring"))
    _add_choice(parser.add_argument_group("what is kept"))
    _add_output(parser.add_argument_group("output"))
    _add_run(parser.add_argument_group("the run"))


def _add_columns(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--question", dest="question_column", metavar="COLUMN", help="default: question")
    group.add_argument("--messages", metavar="COLUMN", help="messages in place of a question")
    group.add_argument("--response", metavar="COLUMN", help="one candidate; default: response, or messages' last turn")
    group.add_argument("--candidates", metavar="COLUMN", help="a list of candidates")
    group.add_argument("--images", metavar="COLUMN", help="default: images or image, where there is one")
    group.add_argument("--no-images", action="store_true", help="score without pictures")
    group.add_argument("--images-root", metavar="DIR", help="what pictures' paths are relative to; default: INPUT's")


def _add_scoring(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--model", metavar="NAME", help="default: the only one, or the only one that scores steps")
    group.add_argument("--max-tiles", type=int, metavar="N", help="tiles that a picture may be cut into")
    group.add_argument("--max-steps", type=int, metavar="N", help="merge neighbouring steps to at most so many")
    group.add_argument(
        "--control-tokens", choices=("parse", "literal", "refuse"), default="parse", help="text that spells them"
    )


def _add_choice(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--min-score", type=_number, metavar="S", help="keep candidates with at least this score")
    group.add_argument("--top", type=_count, metavar="K", help="keep the best K of each question")
    group.add_argument("--deduplicate", action="store_true", help="keep one of equal candidates to equal questions")


def _add_output(group: argparse._ArgumentGroup) -> None:
    forms = ("records", "scores", "pairs", "step-labels")
    group.add_argument("--as", dest="form", choices=forms, default="records", help="default: records with scores")
    group.add_argument("--margin", type=_number, default=0.0, metavar="D", help="of a pair's scores, at least")
    group.add_argument(
        "--label-threshold",
        type=_number,
        default=0.5,
        metavar="P",
        help="a step with this score is right (default 0.5)",
    )
    group.add_argument("--format", choices=("jsonl", "parquet", "datasets", "parquet-directory"), help="of OUTPUT")
    group.add_argument("--prefix", default="", metavar="TEXT", help="before the names of the columns that are added")


def _add_run(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--resume", action="store_true", help="go on where a run was interrupted, and retry what failed")
    group.add_argument("--overwrite", action="store_true", help="start anew, and replace OUTPUT")
    group.add_argument("--skip-bad", action="store_true", help="go on without records that cannot be read")
    group.add_argument("--engine", choices=("local", "ray"), default="local", help="ray: on a cluster, by Ray Data")
    group.add_argument("--workers", type=_count, default=1, metavar="N", help="of --engine ray (default 1)")
    group.add_argument("--concurrency", type=_count, default=64, metavar="N", help="calls under way (default 64)")


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text} is no score")
    return number


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return count
