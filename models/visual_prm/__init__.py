"""VisualPRM: a process reward model that scores each step of a solution (arXiv:2503.10291)."""
