"""How much a forward may hold, which shrinks when memory runs out and slowly grows again."""

from dataclasses import replace

from service.batching import Budget

# Forwards that went well before a smaller budget is doubled.
_PATIENCE = 64


class Limits:
    """The configured budget, or less of it for a while."""

    def __init__(self, budget: Budget) -> None:
        self._most = self.budget = budget
        self._went_well = 0

    def halve(self, tokens: int) -> None:
        """A forward of so many tokens was too much."""
        self._went_well = 0
        self._set(min(self.budget.tokens, tokens) // 2, self.budget.tiles // 2)

    def succeeded(self) -> None:
        self._went_well += 1
        if self.budget != self._most and self._went_well >= _PATIENCE:
            self._went_well = 0
            self._set(2 * self.budget.tokens, 2 * self.budget.tiles)

    def _set(self, tokens: int, tiles: int) -> None:
        tokens, tiles = min(max(1, tokens), self._most.tokens), min(max(1, tiles), self._most.tiles)
        self.budget = replace(self.budget, tokens=tokens, tiles=tiles)
