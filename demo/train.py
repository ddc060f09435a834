"""Train one of the demo models into a folder: its vision tower, then its decoder on the tower's features.

python -m demo.train process|outcome FOLDER [--state .demo-state] [--seed 0] [--blind]

A run that was interrupted goes on where its state, written every few minutes, leaves off, and ends at the same bits.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from demo.architectures import OUTCOME, PROCESS
from demo.checkpoint import first_weights, write_config, write_weights
from demo.facts import Facts, Picture, pictures
from demo.outcome import OutcomeBatches, OutcomeModel
from demo.process import ProcessBatches, ProcessModel
from demo.tokenizer import write_tokenizer
from demo.tower import train_tower
from demo.training import Plan, fit

Family = Literal["process", "outcome"]
Model = ProcessModel | OutcomeModel
TOWER: Mapping[Family, Plan] = {"process": Plan(steps=2000, rate=1.5e-3), "outcome": Plan(steps=1200, rate=1.5e-3)}
DECODER: Mapping[Family, Plan] = {"process": Plan(steps=4000, rate=2e-3), "outcome": Plan(steps=3000, rate=2e-3)}
_CONFIGS: Mapping[Family, Mapping[str, object]] = {"process": PROCESS, "outcome": OUTCOME}


@dataclass(frozen=True, slots=True)
class Course:
    """What one training run goes through: the pictures, the tower's plan and the decoder's."""

    shown: tuple[Picture, ...]
    tower: Plan
    decoder: Plan


def full_course(family: Family) -> Course:
    """What the committed checkpoints went through, and their ablations but for the tower."""
    return Course(pictures("train"), TOWER[family], DECODER[family])


def train(family: Family, folder: Path, state: Path, seed: int, course: Course, *, blind: bool = False) -> None:
    """Write a checkpoint; `blind` withholds the picture, so there is no tower to train: the ablation."""
    write_config(folder, _CONFIGS[family])
    write_tokenizer(folder, family)
    kind = ProcessModel if family == "process" else OutcomeModel
    weights = {name: w.requires_grad_() for name, w in first_weights(kind.shapes(folder), seed).items()}
    model, shown = kind(folder, weights, blind=blind), course.shown
    seeing = {name: w for name, w in weights.items() if kind.sees(name)}
    if blind:
        features = torch.zeros(len(shown), 1)
    else:
        features = _train_tower(model, seeing, course, seed, state / f"{family}-{seed}-tower.safetensors")
    speaking = {name: w for name, w in weights.items() if name not in seeing}
    title = f"{family}-blind" if blind else family
    backward = _batches(model, [picture.facts for picture in shown], features, seed)
    fit(speaking, backward, course.decoder, state / f"{title}-{seed}.safetensors", title)
    write_weights(folder, weights)


def _train_tower(
    model: Model, weights: Mapping[str, torch.Tensor], course: Course, seed: int, state: Path
) -> torch.Tensor:
    """Train the tower, freeze it, and return what the decoder gets of each picture, (count, tokens, dim)."""
    pixels = model.pixels([picture.path for picture in course.shown])
    facts = [picture.facts for picture in course.shown]
    told = train_tower(weights, model.see_tiles, pixels, facts, seed, state, course.tower)
    print(f"the tower tells color and shape of {told:.4f} of the training pictures", file=sys.stderr)
    for weight in weights.values():
        weight.requires_grad_(False)
    with torch.no_grad():
        return torch.cat([model.see(pixels[index : index + 1]) for index in range(len(pixels))])


def _batches(
    model: Model, facts: Sequence[Facts], features: torch.Tensor, seed: int
) -> ProcessBatches | OutcomeBatches:
    if isinstance(model, ProcessModel):
        return ProcessBatches(model, facts, features, seed)
    return OutcomeBatches(model, facts, features, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("family", choices=["process", "outcome"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--state", type=Path, default=Path(".demo-state"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--blind", action="store_true", help="leave the picture out of every prompt: the ablation")
    options = parser.parse_args()
    # One thread: more are no faster on tensors so small, and sum in another order.
    torch.set_num_threads(1)
    course = full_course(options.family)
    train(options.family, options.folder, options.state, options.seed, course, blind=options.blind)


if __name__ == "__main__":
    main()
