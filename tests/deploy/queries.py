"""What a PromQL query reads."""

import re
from dataclasses import dataclass, field

import promql_parser

_GRAFANAS_OWN = re.compile(r"\$__rate_interval")


@dataclass(slots=True)
class Read:
    """The metrics of a query, and every label that it picks or groups by."""

    metrics: set[str] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)


def read(query: str) -> Read:
    """Raises ValueError for what is not PromQL."""
    found = Read()

    def visit(part: object) -> None:
        if isinstance(part, promql_parser.VectorSelector):
            found.metrics.add(str(part.name))
            found.labels.update(matcher.name for matcher in part.matchers.matchers)
        elif isinstance(part, promql_parser.MatrixSelector):
            visit(part.vector_selector)
        elif isinstance(part, promql_parser.AggregateExpr) and part.modifier is not None:
            found.labels.update(part.modifier.labels)

    promql_parser.walk(promql_parser.parse(_GRAFANAS_OWN.sub("1m", query)), visit)
    return found
