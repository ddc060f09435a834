"""The options of `steelyard audit`."""

import argparse
import math

_EXIT_CODES = "Exit codes: 0 no trick pays, 1 some trick pays, or an error, 2 wrong usage."


def add_audit(parser: argparse.ArgumentParser) -> None:
    """All of them: no server is asked."""
    parser.description = "Where strict and upstream rewards disagree, and which tricks earn more without being better."
    parser.epilog = _EXIT_CODES
    parser.add_argument("--records", required=True, metavar="FILE", help=".jsonl(.gz): a response and a solution each")
    parser.add_argument(
        "--specification",
        metavar="SPEC",
        help="a JSON file, a shipped one's name, or a sum such as '0.9 * iou + 0.1 * format'; "
        "default: each record's column `kind` names a shipped one",
    )
    parser.add_argument("--mode", choices=("strict", "upstream"), help="of the specification; default: its own")
    parser.add_argument("--response", metavar="COLUMN", help="default: response, content or completion")
    parser.add_argument("--truth", metavar="COLUMN", help="default: truth, solution or ground_truth")
    parser.add_argument(
        "--least-gain",
        type=_gain,
        default=0.01,
        metavar="G",
        help="a trick that gains no more does not count (default 0.01)",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def _gain(text: str) -> float:
    gain = float(text)
    if not (math.isfinite(gain) and gain >= 0):
        raise argparse.ArgumentTypeError(f"{text} is not a gain")
    return gain
