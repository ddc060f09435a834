"""What the defaults let in."""

import dataclasses

import pytest

from service.cost import Cost, estimate
from service.entrance import Entrance
from service.errors import Overloaded, QuotaExceeded
from service.metrics import Metrics
from service.settings import Settings
from service.step_model import StepModel
from steelyard.schema import Priority
from tests.service.test_cost import STEPS, asks_steps


@pytest.mark.parametrize("priority", ["online", "train", "batch"])
def test_a_burst_of_a_training_step_fits_the_defaults(priority: Priority) -> None:
    """1,024 groups of a question with a picture and 16 candidates of 320 tokens, the released model's, in 8 steps."""
    assert isinstance(STEPS, StepModel)
    released = dataclasses.replace(STEPS, spec=dataclasses.replace(STEPS.spec, tile_size=512))
    assert (released.spec.tokens_per_tile, released.max_tiles) == (256, 12)
    candidate = "\n\n".join(["x" * 4 * 40] * 8)
    cost = estimate(asks_steps("x" * 4 * 100, [candidate] * 16, images=["sha256:a"]), released)
    assert cost.tokens > 1124 + 16 * 320
    entrance = Entrance(Settings(), Metrics())
    for _ in range(1024):
        entrance.enter(cost, priority, "trainer")


def test_a_quota_counts_what_was_let_in_and_not_refused_after_all() -> None:
    entrance = Entrance(Settings(max_waiting=1, key_tokens_per_minute=60_000), Metrics())
    permit = entrance.enter(Cost(50_000, 0), "online", "ann")
    for _ in range(5):
        with pytest.raises(Overloaded) as caught:
            entrance.enter(Cost(50_000, 0), "online", "ben")
        assert not isinstance(caught.value, QuotaExceeded)
    entrance.leave(permit, answered=False, refused=True)
    for caller in ("ann", "ben"):
        entrance.leave(entrance.enter(Cost(50_000, 0), "online", caller), answered=True, refused=False)
        with pytest.raises(QuotaExceeded) as refused:
            entrance.enter(Cost(50_000, 0), "online", caller)
        assert refused.value.retry_after_s == 40
