"""A third of both families' golden cases through the kernels, interpreted; `make check-kernels` runs them all."""

import pytest
import torch

from tests.conformance import by_models
from tests.golden import GOLDEN

_CPU = torch.device("cpu")


@pytest.mark.usefixtures("through_kernels")
@pytest.mark.parametrize("family", by_models.FAMILIES)
def test_the_kernels_give_the_references_scores(family: str) -> None:
    found = list(by_models.verdicts(family, GOLDEN, _CPU, torch.float32, every=3))
    assert len(found) > 15
    assert [line for verdict in found for line in verdict.differences] == []
