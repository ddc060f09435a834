"""How good a reward model is: step verdicts, preferences and Best-of-N, measured through the server that serves it."""
