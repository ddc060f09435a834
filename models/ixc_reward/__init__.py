"""IXC-2.5-Reward: an outcome reward model that scores a whole conversation (arXiv:2501.12368)."""
