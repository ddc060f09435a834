"""Judge a checkpoint, and if given its ablation, on easy-vqa's test split; writes `metrics.json` beside it.

python -m demo.judge process|outcome FOLDER [--ablation FOLDER] [--questions 200]
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from statistics import mean

import torch
from safetensors.torch import load_file

from demo.chains import Chain
from demo.facts import pictures
from demo.metrics import Verdict, best_of, by_kind, in_order, macro_f1, recall_by_kind, shares
from demo.outcome import OutcomeModel
from demo.policy import candidates, draw_questions
from demo.process import ProcessModel
from demo.sampling import Pair, Pairs

Json = dict[str, object]
# A question's chains about the picture of this number among all → a score for each.
Rank = Callable[[str, Sequence[Sequence[str]], int], list[float]]

_DRAWS, _SEEDS, _SIZES = 400, (0, 1, 2), (1, 8, 64)


def judge_process(model: ProcessModel, features: torch.Tensor, most: int, questions: int) -> Json:
    """F1 on the steps that flip and finds of those that the text reveals; then Best-of-N by the mean step score."""

    def margins(question: str, chains: Sequence[Sequence[str]], picture: int) -> list[torch.Tensor]:
        return model.margins(model.candidates(question, chains, features[picture]))

    flipped: list[Verdict] = []
    by_text: list[Verdict] = []
    for pair in _pairs(spoiled=0.3):
        _sort_steps(
            pair, [margins(pair.chain.question.text, [pair.chain.texts], p)[0] for p in _shown(pair)], flipped, by_text
        )
    selected = _select(
        lambda question, chains, picture: [float(m.sigmoid().mean()) for m in margins(question, chains, picture)],
        most,
        questions,
    )
    return {
        "flipping_steps": {"steps": len(flipped), "macro_f1": macro_f1(flipped), "by_kind": by_kind(flipped)},
        "text_reveals": recall_by_kind(by_text),
        **selected,
    }


def judge_outcome(model: OutcomeModel, features: torch.Tensor, most: int, questions: int) -> Json:
    """Pairs of pictures that flip a chain's answer, scored in order; then Best-of-N."""

    def scores(question: str, chains: Sequence[Sequence[str]], picture: int) -> list[float]:
        return model.scores(model.candidates(question, chains, features[picture]))

    facts = [picture.facts for picture in pictures("test")]
    pairs = [pair for pair in _pairs(spoiled=0) if not pair.chain.succeeds(facts[pair.other])]
    found = []
    for pair in pairs:
        better, worse = (scores(pair.chain.question.text, [pair.chain.texts], picture)[0] for picture in _shown(pair))
        found.append((better, worse))
    return {"flipping_pairs": {"pairs": len(pairs), "in_order": in_order(found)}, **_select(scores, most, questions)}


def _pairs(*, spoiled: float) -> list[Pair]:
    random, source = Random("judge"), Pairs([picture.facts for picture in pictures("test")])
    return [pair for _ in range(_DRAWS) for pair in source.draw(random, spoiled=spoiled)]


def _shown(pair: Pair) -> tuple[int, int]:
    return pair.seen, pair.other


def _sort_steps(pair: Pair, margins: Sequence[torch.Tensor], flipped: list[Verdict], by_text: list[Verdict]) -> None:
    """A step's two labels and predictions go to those that flip, or once to what the text reveals."""
    facts = pictures("test")
    own, other = (pair.chain.judge(facts[index].facts) for index in _shown(pair))
    for index, (one, two) in enumerate(zip(own, other, strict=True)):
        said = [bool(margin[index] > 0) for margin in margins]
        if one.right != two.right:
            kind = str(one.kind or two.kind)
            flipped += [Verdict(kind, one.right, said[0]), Verdict(kind, two.right, said[1])]
        elif one.by_text:
            by_text.append(Verdict(str(one.kind), one.right, said[0]))


def _select(rank: Rank, most: int, questions: int) -> Json:
    """Best-of-N over the policy's candidates for each seed; the means, and by question form for N = 8."""
    numbers = {picture.path: number for number, picture in enumerate(pictures("test"))}
    sizes = [size for size in _SIZES if size <= most]
    chosen: dict[str, list[bool]] = defaultdict(list)
    policy: dict[str, list[bool]] = defaultdict(list)
    by_seed: list[dict[str, float]] = []
    for seed in _SEEDS:
        told: dict[str, list[bool]] = defaultdict(list)
        for asked in draw_questions("test", seed, questions):
            chains = candidates(asked, seed, most)
            right = [chain.succeeds(asked.picture.facts) for chain in chains]
            scores = _rank_distinct(rank, asked.question.text, chains, numbers[asked.picture.path])
            for size in sizes:
                told[f"best_of_{size}"].append(best_of(scores, right, size))
            told["policy"] += right
            told["oracle_8"].append(any(right[:8]))
            chosen[asked.question.form].append(best_of(scores, right, 8))
            policy[asked.question.form] += right
        by_seed.append(shares(told))
        print(f"policy seed {seed}: {by_seed[-1]}", file=sys.stderr)
    return {
        "questions": questions,
        "mean": {name: mean(found[name] for found in by_seed) for name in by_seed[0]},
        "by_seed": by_seed,
        "policy_by_form": shares(policy),
        "best_of_8_by_form": shares(chosen),
    }


def _rank_distinct(rank: Rank, question: str, chains: Sequence[Chain], picture: int) -> list[float]:
    """Chains of the same words are scored once."""
    distinct = list(dict.fromkeys(chain.texts for chain in chains))
    scores = dict(zip(distinct, rank(question, distinct, picture), strict=True))
    return [scores[chain.texts] for chain in chains]


@torch.inference_mode()
def judge(family: str, folder: Path, questions: int, *, blind: bool) -> Json:
    """All the metrics of one checkpoint; of an ablation Best-of-64 is left out."""
    weights, paths = load_file(folder / "model.safetensors"), [picture.path for picture in pictures("test")]
    most = 8 if blind else _SIZES[-1]
    if family == "process":
        process = ProcessModel(folder, weights, blind=blind)
        return judge_process(process, _features(process, paths), most, questions)
    outcome = OutcomeModel(folder, weights, blind=blind)
    return judge_outcome(outcome, _features(outcome, paths), most, questions)


def _features(model: ProcessModel | OutcomeModel, paths: Sequence[Path]) -> torch.Tensor:
    pixels = model.pixels(paths)
    return torch.cat([model.see(pixels[index : index + 1]) for index in range(len(pixels))])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("family", choices=["process", "outcome"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ablation", type=Path, help="the model that was trained with the picture withheld")
    parser.add_argument("--questions", type=int, default=200, help="for each of three policy seeds")
    options = parser.parse_args()
    torch.set_num_threads(1)
    metrics = judge(options.family, options.folder, options.questions, blind=False)
    if options.ablation:
        metrics["ablation"] = judge(options.family, options.ablation, options.questions, blind=True)
    (options.folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(metrics, indent=2))


if __name__ == "__main__":
    main()
