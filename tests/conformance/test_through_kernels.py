"""A third of both families' golden cases through the kernels, interpreted; `make check-kernels` runs them all.

Short ones: an interpreted forward takes one or two seconds for each hundred tokens.
"""

import pytest
import torch

from tests.conformance import by_models
from tests.golden import GOLDEN

_CPU = torch.device("cpu")


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("through_kernels")
@pytest.mark.parametrize(("family", "most_tokens"), [("visualprm", 200), ("ixc_reward", 150)])
def test_the_kernels_give_the_references_scores(family: str, most_tokens: int) -> None:
    found = list(by_models.verdicts(family, GOLDEN, _CPU, torch.float32, every=2, most_tokens=most_tokens))
    every_case = by_models.chosen(family, GOLDEN, torch.float32, every=1, most_tokens=100_000)
    assert 3 * len(found) >= len(every_case)
    assert [line for verdict in found for line in verdict.differences] == []
