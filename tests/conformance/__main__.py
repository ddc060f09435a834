"""`python -m tests.conformance visualprm --cases ../shared/golden/visualprm/cases.jsonl`."""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from tests.conformance.report import print_report

FAMILIES = ("visualprm", "ixc_reward", "visual_rft")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("name", choices=FAMILIES)
    parser.add_argument("--cases", type=Path, required=True, help="a file in the format of ../shared/golden/NAME/")
    parser.add_argument("--checkpoint", type=Path, help="default: the one that lies beside the cases")
    parser.add_argument("--url", help="run against this server, which serves the checkpoint, and not in process")
    parser.add_argument("--verbose", action="store_true", help="also say how each case that has no score is answered")
    options = parser.parse_args(arguments)
    family = import_module(f"tests.conformance.{options.name}")
    return print_report(family.verdicts(options.cases, options.checkpoint, options.url), verbose=options.verbose)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
