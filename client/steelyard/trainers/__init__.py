"""Reward functions for RL trainers: one thin module a trainer, all over the same scorer of groups."""

from steelyard.trainers.options import Options
from steelyard.trainers.samples import NotScored, Sample, SampleScore, scores_of
from steelyard.trainers.scorer import Scorer

__all__ = ["NotScored", "Options", "Sample", "SampleScore", "Scorer", "scores_of"]
