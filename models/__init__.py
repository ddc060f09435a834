"""Reward models: from a checkpoint and token ids to read-outs."""
