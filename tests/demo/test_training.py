"""Training through the plain network: it learns, and an interruption changes nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from demo.architectures import OUTCOME, PROCESS
from demo.checkpoint import first_weights, write_config
from demo.facts import COLORS, SHAPES, Facts, pictures
from demo.outcome import OutcomeBatches, OutcomeModel
from demo.process import ProcessBatches, ProcessModel
from demo.tokenizer import write_tokenizer
from demo.tower import train_tower
from demo.train import Course, Family, train
from demo.training import Plan, fit
from models.checkpoint import Checkpoint
from service.encoding import read_model

SHOWN = pictures("train")[:48]
FACTS = [picture.facts for picture in SHOWN]
PLAN = Plan(steps=4, rate=2e-3, warmup=2, save_every=2)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=["process", "outcome"])
def family(request: pytest.FixtureRequest) -> Family:
    return "process" if request.param == "process" else "outcome"


def build(folder: Path, family: Family) -> tuple[ProcessModel | OutcomeModel, dict[str, torch.Tensor]]:
    write_config(folder, PROCESS if family == "process" else OUTCOME)
    write_tokenizer(folder, family)
    kind = ProcessModel if family == "process" else OutcomeModel
    weights = {name: w.requires_grad_() for name, w in first_weights(kind.shapes(folder), 0).items()}
    return kind(folder, weights), weights


def batches(model: ProcessModel | OutcomeModel) -> ProcessBatches | OutcomeBatches:
    tokens = model.see(model.pixels([SHOWN[0].path])).shape[1]
    features = torch.stack([one_hot(facts).expand(tokens, -1) for facts in FACTS])
    if isinstance(model, ProcessModel):
        return ProcessBatches(model, FACTS, features, 0, draws=1)
    return OutcomeBatches(model, FACTS, features, 0, draws=1)


def one_hot(facts: Facts) -> torch.Tensor:
    """What an ideal tower would tell the decoder."""
    row = torch.zeros(128)
    row[COLORS.index(facts.color)] = row[64 + SHAPES.index(facts.shape)] = 8.0
    return row


def trained(folder: Path, family: Family, stops: list[int | None]) -> dict[str, torch.Tensor]:
    for stop in stops:
        model, weights = build(folder, family)
        speaking = {name: w for name, w in weights.items() if not model.sees(name)}
        fit(speaking, batches(model), PLAN, folder / "state.safetensors", family, stop)
    return weights


def test_an_interrupted_run_ends_at_the_same_bits(tmp_path: Path, family: Family) -> None:
    whole = trained(tmp_path / "whole", family, [None])
    parts = trained(tmp_path / "parts", family, [3, None])
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert any(not torch.equal(whole[name], weight) for name, weight in build(tmp_path / "first", family)[1].items())


def test_training_on_one_batch_lowers_its_loss(tmp_path: Path, family: Family) -> None:
    model, weights = build(tmp_path, family)
    speaking, losses = {name: w for name, w in weights.items() if not model.sees(name)}, list[float]()
    step = batches(model)

    def backward(_: int) -> float:
        losses.append(step(0))
        return losses[-1]

    fit(speaking, backward, Plan(steps=30, rate=3e-3, warmup=2), tmp_path / "state.safetensors", family)
    assert min(losses[-3:]) < losses[0] - 0.05


def test_the_tower_learns_colors_and_resumes(tmp_path: Path) -> None:
    def run(folder: Path, stops: list[int | None]) -> dict[str, torch.Tensor]:
        for stop in stops:
            model, weights = build(folder, "process")
            seeing = {name: w for name, w in weights.items() if model.sees(name)}
            pixels = model.pixels([picture.path for picture in SHOWN[:8]])
            state = folder / "tower.safetensors"
            train_tower(seeing, model.see_tiles, pixels, FACTS[:8], 0, state, Plan(4, 1e-3, 2), stop)
        return weights

    whole, parts = run(tmp_path / "whole", [None]), run(tmp_path / "parts", [2, None])
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_what_was_trained_is_what_is_written(tmp_path: Path, family: Family) -> None:
    """A network arranged once may hold copies of its weights, which training leaves behind."""
    model, weights = build(tmp_path, family)
    seeing = {name: w for name, w in weights.items() if model.sees(name)}
    pixels = model.pixels([picture.path for picture in SHOWN[:4]])
    train_tower(seeing, model.see_tiles, pixels, FACTS[:4], 0, tmp_path / "state.safetensors", Plan(3, 0.1, 1))
    written = {name: w.detach().clone() for name, w in weights.items()}
    again = ProcessModel(tmp_path, written) if family == "process" else OutcomeModel(tmp_path, written)
    assert torch.equal(model.see(pixels), again.see(pixels))


@pytest.mark.parametrize("blind", [False, True])
def test_a_whole_run_writes_a_checkpoint_of_its_family(tmp_path: Path, family: Family, blind: bool) -> None:
    course = Course(SHOWN, Plan(1, 1e-3), Plan(1, 1e-3))
    train(family, tmp_path / "out", tmp_path / "state", 0, course, blind=blind)
    assert sum(file.stat().st_size for file in (tmp_path / "out").iterdir()) <= 8_000_000
    read = read_model("demo", Checkpoint(tmp_path / "out"), None)
    assert read.family == ("visual_prm" if family == "process" else "ixc_reward")
