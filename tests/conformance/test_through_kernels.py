"""Golden cases of both families through the kernels, interpreted; `make check-kernels` runs them all.

Only short ones: an interpreted forward takes one or two seconds for each hundred tokens.
"""

import pytest
import torch

from tests.conformance import by_models
from tests.golden import GOLDEN

_CPU = torch.device("cpu")


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("through_kernels")
@pytest.mark.parametrize(
    ("family", "every", "least"), [("visualprm", 3, 8), pytest.param("ixc_reward", 12, 5, marks=pytest.mark.slow)]
)
def test_the_kernels_give_the_references_scores(family: str, every: int, least: int) -> None:
    found = list(by_models.verdicts(family, GOLDEN, _CPU, torch.float32, every=every, most_tokens=150))
    assert len(found) >= least
    assert [line for verdict in found for line in verdict.differences] == []
