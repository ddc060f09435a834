"""What a sequence classifier's checkpoint is without its weights, in transformers' own words. Torch-free."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.checkpoint import CheckpointError, Section, read_json

SUFFIX = "ForSequenceClassification"
_DESCRIBE = Path(__file__).with_name("describe.py")
# Also a template that never ends has ended by then.
_PATIENCE_S = 300.0
_CONFIGURATIONS = ("config.json", "tokenizer_config.json")

_ASK = {"role": "user", "content": " Which shape is red?\n"}
_ANSWER = {"role": "assistant", "content": "The  circle, I'd say: 3 × 5 = ⑮.\n\nYes."}
# What transformers' tokens and this package's are compared on; only the first has to be accepted.
PROBES = (
    (_ASK, _ANSWER),
    ({"role": "system", "content": "Be brief."}, _ASK, _ANSWER, {"role": "user", "content": ""}, _ANSWER),
    (_ANSWER,),
    (_ASK,),
)


@dataclass(frozen=True, slots=True)
class ClassifierSpec:
    """`tokenizer` is the tokenizers library's JSON; `template` is written in Jinja and may name `special_tokens`.

    `positions` is the longest prompt that the configuration allows. `probes` has transformers' ids of each of
    PROBES, None where the template refuses it.
    """

    architecture: str
    positions: int
    tokenizer: str
    template: str
    special_tokens: Mapping[str, object]
    probes: tuple[Sequence[int] | None, ...]


def read_spec(directory: Path) -> ClassifierSpec:
    """Asks transformers, in a process that ends; takes seconds.

    Raises CheckpointError for a checkpoint whose code would have to be run, and for what is not served.
    """
    config = check_plain(directory)
    described = _describe(directory)
    if described.values.get("error") is not None:
        reason = described.text("error", "").replace(str(directory.resolve()), str(directory))
        raise CheckpointError(f"{directory}: {reason}")
    labels = described.integer("labels")
    if labels != 1:
        raise config.error("num_labels", "1: with several labels none of them is the score", labels)
    _check_architecture(config, described)
    if described.values.get("positions") is None:
        raise CheckpointError(f"{config.where}: max_position_embeddings is missing, so no prompt is known to be short")
    return ClassifierSpec(
        architecture=described.text("architecture", ""),
        positions=described.integer("positions"),
        tokenizer=described.text("tokenizer", ""),
        template=described.text("template", ""),
        special_tokens=described.section("special_tokens").values,
        probes=_probes(directory, described),
    )


def check_plain(directory: Path) -> Section:
    """The configuration of a checkpoint that needs no code of its own and no adapter. Raises CheckpointError."""
    for name in _CONFIGURATIONS:
        section = read_json(directory / name) if (directory / name).is_file() else None
        if section is not None and section.values.get("auto_map"):
            raise CheckpointError(f"{section.where}: auto_map names code of the checkpoint's own, which is never run")
    if (directory / "adapter_config.json").is_file():
        raise CheckpointError(f"{directory}: an adapter lies in it: merge it into the weights first")
    return read_json(directory / "config.json")


def _describe(directory: Path) -> Section:
    asked = json.dumps({"directory": str(directory.resolve()), "probes": PROBES})
    try:
        # The script is this package's own; -P keeps its neighbours from being taken for other packages.
        answer = subprocess.run(  # noqa: S603
            [sys.executable, "-P", str(_DESCRIBE)],
            input=asked,
            capture_output=True,
            check=True,
            encoding="utf-8",
            timeout=_PATIENCE_S,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        ).stdout
        values = json.loads(answer.splitlines()[-1])
    except subprocess.TimeoutExpired:
        raise CheckpointError(f"{directory}: its tokenizer gave no answer in {_PATIENCE_S:.0f} s") from None
    except (subprocess.CalledProcessError, ValueError, IndexError) as error:
        raise CheckpointError(f"{directory}: transformers could not be asked about it: {error}") from error
    return Section(str(directory), values)


def _check_architecture(config: Section, described: Section) -> None:
    """The class that transformers would load has to be the one that was trained."""
    expected = described.values.get("architecture")
    if config.values.get("architectures") != [expected]:
        model_type = described.values.get("model_type")
        known = f'["{expected}"], which transformers has for {model_type}' if expected else f"one for {model_type}"
        raise config.error("architectures", known, config.values.get("architectures"))


def _probes(directory: Path, described: Section) -> tuple[Sequence[int] | None, ...]:
    found = described.values.get("probes")
    assert isinstance(found, list)
    if isinstance(found[0], str):
        raise CheckpointError(f"{directory}: its chat template refuses a question and an answer: {found[0]}")
    return tuple(None if isinstance(probe, str) else probe for probe in found)
