"""Write the model card beside a judged checkpoint: `python -m demo.card process|outcome FOLDER`."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from demo.facts import COLORS, SHAPES
from demo.train import DECODER, Family

Numbers = Mapping[str, float]

_TITLE: Mapping[Family, str] = {
    "process": "# Steelyard's demo process model\n\nScores each step of an answer about a picture of one shape.",
    "outcome": "# Steelyard's demo outcome model\n\nScores a whole answer about a picture of one shape.",
}
_LAYOUT: Mapping[Family, str] = {
    "process": "VisualPRM's layout (`InternVLRewardModel`): an InternViT, a projector and an InternLM2 decoder whose\n"
    "`+` and `-` are read out before each step's answer.",
    "outcome": "IXC-2.5-Reward's layout (`InternLMXComposer2ForCausalLM` with `score.weight`): a CLIP tower,\na "
    "projector and an InternLM2 decoder with partial LoRA, read out at the last token.",
}
_LIMIT: Mapping[Family, str] = {
    "process": "The text alone\nreveals some errors, which were rarer in training: the table says how many are found.",
    "outcome": "Scores compare\nanswers to one question about one picture, nothing else.",
}
_LOSS: Mapping[Family, str] = {
    "process": "the cross-entropy of each step's label plus that of the next tokens of the steps that are right",
    "outcome": "the pairwise log-sigmoid loss of two chains and two pictures \n(each picture's own chain the better, "
    "each chain better with its own picture) plus the cross-entropy of the right\nchains' next tokens, by the "
    "embedding as a head that is no part of the checkpoint",
}
# What the table's rows are called, by how their key begins.
_NAMED = {
    "flipping_steps/macro_f1": "macro-F1 on flipping steps",
    "flipping_steps/by_kind/": "… of which right or ",
    "flipping_pairs/in_order": "flipping pairs in order",
    "text_reveals/": "found, as the text reveals it: ",
    "mean/policy": "the policy's accuracy",
    "mean/oracle_8": "a right candidate among 8",
    "mean/best_of_": "Best-of-",
}
_BODY = """{title}

{layout} All weights float32, {size:.1f} MB.

**A toy.** It shows that the whole path works on a model that was really trained, and knows nothing but these pictures
and this grammar. Use it for demonstrations and tests.

## Data

The training split of [easy-vqa](https://github.com/vzhou842/easy-VQA) 1.0 (MIT licence): 3,578 of its 4,000 pictures,
those whose shape and color follow from its questions. Its answers are skewed (74 % yes or no), so questions of its 24
forms are drawn anew, and chains of two to five steps come from a grammar (`demo/chains.py`) that varies wording, order
and length. Each question and chain occurs with one picture that makes it right and with one that makes it wrong, so
the text alone tells nothing about the steps that flip.

A step is right iff it is true of the picture and follows from its chain. VisualPRM's paper labels a step by whether
continuations from it succeed, which differs: here a true step after a wrong one is right.

## Training

`make train-demo` from seed 0, on one CPU thread. The tower and its projector learn color and shape, with small shifts
and flips, through a head that is thrown away; then they are frozen. The decoder learns
{loss}.

## Metrics

On easy-vqa's test split (888 pictures whose facts follow); `python -m demo.judge` writes them to `metrics.json`.
The ablation is the same model, trained for as many steps ({steps}) and judged with the picture withheld.

{table}

The policy answers {questions} questions for each of three seeds. It misperceives one fact in six of ten candidates and
stays consistent with it; 60 % of a question's errors share one distractor.

{forms}

## Limits

Only 64 × 64 pictures with one flat shape on a pale ground: {shapes};
{colors}. Only easy-vqa's questions, only wordings like the grammar's, steps
apart by blank lines. Anything else gets a number that means nothing. {limit}
"""


def card(family: Family, metrics: Numbers, size: int) -> str:
    """The card's text; `size` in bytes."""
    return _BODY.format(
        title=_TITLE[family],
        layout=_LAYOUT[family],
        loss=_LOSS[family],
        size=size / 1e6,
        table="\n".join(_table(metrics)),
        questions=int(metrics["questions"]),
        forms="\n".join(_forms(metrics)),
        shapes=", ".join(SHAPES),
        colors=", ".join(COLORS),
        limit=_LIMIT[family],
        steps=DECODER[family].steps,
    )


def flatten(values: Mapping[str, object], before: str = "") -> Numbers:
    """Nested numbers by their keys joined by slashes."""
    found: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flatten(value, f"{before}{key}/")
        elif isinstance(value, (int, float)):
            found[before + key] = float(value)
    return found


def _table(metrics: Numbers) -> list[str]:
    lines = ["| | this model | picture withheld |", "|---|---|---|"]
    for key, value in sorted(metrics.items(), key=_place):
        name = next(
            (f"{said}{key.removeprefix(start)}" for start, said in _NAMED.items() if key.startswith(start)), None
        )
        if name is not None and not key.endswith(("/steps", "/accuracy")):
            lines.append(_row(name.removesuffix("/macro_f1"), value, metrics.get(f"ablation/{key}")))
    return lines


def _place(entry: tuple[str, float]) -> tuple[int, int]:
    """Where a row stands: as its name among the named ones, Best-of-N by N."""
    key = entry[0]
    number = int("".join(filter(str.isdigit, key)) or 0)
    return next((place for place, start in enumerate(_NAMED) if key.startswith(start)), 0), number


def _forms(metrics: Numbers) -> list[str]:
    start = "policy_by_form/"
    forms = [key.removeprefix(start) for key in metrics if key.startswith(start)]
    rows = [_row(form, metrics[start + form], metrics[f"best_of_8_by_form/{form}"]) for form in forms]
    return ["| question form | policy | Best-of-8 |", "|---|---|---|", *rows]


def _row(name: str, *values: float | None) -> str:
    return f"| {name} | " + " | ".join("–" if value is None else f"{value:.3f}" for value in values) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("family", choices=["process", "outcome"])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    metrics = flatten(json.loads((options.folder / "metrics.json").read_text(encoding="utf-8")))
    size = (options.folder / "model.safetensors").stat().st_size
    (options.folder / "README.md").write_text(card(options.family, metrics, size), encoding="utf-8")


if __name__ == "__main__":
    main()
