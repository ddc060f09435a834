"""Best-of-N: answers drawn from any OpenAI-compatible endpoint, weighed by a Steelyard server, the best one taken.

from steelyard.best_of_n import BestOfN

answer = BestOfN("http://127.0.0.1:9000/v1", "policy", "http://127.0.0.1:8000").answer("which shape?", ["a.png"], n=8)
"""

from steelyard.best_of_n.answers import final_answer
from steelyard.best_of_n.candidates import Candidate, Draw, Drawn
from steelyard.best_of_n.chat import ChatEndpoint, Generator
from steelyard.best_of_n.chat_format import Asked, Decoding
from steelyard.best_of_n.failures import GeneratorFailed, GeneratorGone, GeneratorRefused, NothingScored
from steelyard.best_of_n.orchestrator import Answer, AsyncBestOfN, BestOfN
from steelyard.best_of_n.running import Progress
from steelyard.best_of_n.strategies import Best, EarlyStop, StepBeam, Strategy, WeightedVote
from steelyard.best_of_n.trace import Trace

__all__ = [
    "Answer",
    "Asked",
    "AsyncBestOfN",
    "Best",
    "BestOfN",
    "Candidate",
    "ChatEndpoint",
    "Decoding",
    "Draw",
    "Drawn",
    "EarlyStop",
    "Generator",
    "GeneratorFailed",
    "GeneratorGone",
    "GeneratorRefused",
    "NothingScored",
    "Progress",
    "StepBeam",
    "Strategy",
    "Trace",
    "WeightedVote",
    "final_answer",
]
