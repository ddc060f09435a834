"""A plug-in for ms-swift, which is needed to run it: `--external_plugins examples/swift_plugin.py`.

Then `--reward_funcs steelyard` trains on it, and `swift sample --prm_model steelyard` chooses by the steps.
"""

from swift.rewards import orms, prms

from steelyard.trainers import Scorer
from steelyard.trainers.swift import Reward, StepReward


class SteelyardReward(Reward):
    scorer = Scorer()


class SteelyardSteps(StepReward):
    scorer = SteelyardReward.scorer


orms["steelyard"] = SteelyardReward
prms["steelyard"] = SteelyardSteps
