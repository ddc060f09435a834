"""Specifications: what they compute, what they refuse, and where they say that a mistake is."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from steelyard.errors import InvalidCall
from steelyard.rewards import SHIPPED, NotFinite, ScoreMissing, Specification, UnusableTruth, shipped

TRUTH = "<answer>[{'Position': [100, 100, 300, 300], 'Confidence': 1}]</answer>"
RIGHT = "<think>a</think><answer>[{'Position': [100, 100, 300, 300], 'Confidence': 0.9}]</answer>"
ROSE = "<think>a</think><answer>rose</answer>"


def mistakes(**fields: object) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as raised:
        Specification.model_validate(fields)
    return [(".".join(map(str, error["loc"])), error["msg"]) for error in raised.value.errors()]


def test_a_short_text_is_the_list_of_its_terms() -> None:
    short = Specification.model_validate({"terms": "0.9 * iou + .1*format - 2e-1 * served(org/model-1) + maths"})
    kinds = [("iou", 0.9), ("format", 0.1), ("served", -0.2), ("maths", 1.0)]
    assert [(term.kind, term.weight) for term in short.terms] == kinds
    assert short.served_models == ("org/model-1",)
    assert Specification.model_validate_json(short.model_dump_json()) == short


def test_the_total_is_the_weighted_sum_and_the_parts_are_unweighted() -> None:
    found = Specification.model_validate({"terms": "0.9 * iou + 0.1 * format + -0.5 * confidence"}).evaluate(
        RIGHT, TRUTH
    )
    assert found.parts == {"iou": 1.0, "format": 1.0, "confidence": 0.9}
    assert found.total == 0.0 + 0.9 + 0.1 - 0.5 * 0.9


@pytest.mark.parametrize(
    ("fields", "place", "says"),
    [
        ({"terms": "0.9 * iuo"}, "terms", "character 7: 'iuo' is no term"),
        ({"terms": "iou format"}, "terms", "character 5: 'format' stands where + or - is due"),
        ({"terms": "iou +"}, "terms", "a term is due"),
        ({"terms": ""}, "terms", "a term is due"),
        ({"terms": "0.9 iou"}, "terms", "a weight is followed by *"),
        ({"terms": "served"}, "terms", "brackets"),
        ({"terms": "__import__('os')"}, "terms", "is no term"),
        ({"terms": "1e999 * iou"}, "terms.0.iou.weight", "finite"),
        ({"terms": "iou + iou"}, "terms", "1.name: 'iou' is the name of term 0"),
        ({"terms": []}, "terms", "at least 1"),
        ({"terms": [{"kind": "iou"}, {"kind": "maths", "wait": 1}]}, "terms.1.maths.wait", "not permitted"),
        ({"terms": [{"kind": "iou", "weight": math.nan}]}, "terms.0.iou.weight", "finite"),
        ({"terms": [{"kind": "bleu"}]}, "terms.0", "bleu"),
        ({"terms": [{"kind": "multiple_choice", "choices": "a"}]}, "terms.0.multiple_choice.choices", "pattern"),
        ({"terms": "iou", "gates": [{"term": "format", "at_least": 1}]}, "gates", "0.term: there is no term 'format'"),
        ({"terms": "iou", "clip": {"low": 1, "high": 0}}, "clip", "above"),
        ({"terms": [{"kind": "served", "model": "m", "low": 2, "high": 1}]}, "terms.0.served", "above"),
        ({"terms": "iou", "length": {"characters": 0}}, "length.characters", "greater"),
        ({"terms": "iou + calibration", "mode": "upstream"}, "mode", "term 1"),
        ({"terms": "iou", "weights": []}, "weights", "not permitted"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_where_it_stands(fields: dict[str, object], place: str, says: str) -> None:
    ((found, message),) = mistakes(**fields)
    assert found == place
    assert says in message


@given(st.text(st.sampled_from("iouformat servd()*+-.09e_") | st.characters(), max_size=30))
def test_any_text_is_a_sum_or_a_mistake(text: str) -> None:
    try:
        assert Specification.model_validate({"terms": text}).terms
    except ValidationError as error:
        places = {item["loc"][0] for item in error.errors()}
    else:
        places = {"terms"}
    assert places == {"terms"}


def test_a_gate_that_is_not_reached_settles_the_total() -> None:
    gated = Specification.model_validate(
        {"terms": "classification + format", "gates": [{"term": "format", "at_least": 1, "otherwise": -1}]}
    )
    assert gated.evaluate(ROSE, "rose").total == 2.0
    assert gated.evaluate(ROSE + " ", "rose").total == -1.0
    assert gated.bounds == (-1.0, 2.0)


def test_a_long_response_costs() -> None:
    zero = Specification.model_validate({"terms": "format", "length": {"characters": len(ROSE)}})
    assert [zero.evaluate(text).total for text in (ROSE, ROSE.replace("rose", "roses"))] == [1.0, 0.0]
    cap = {"characters": len(ROSE), "over": "penalty", "per_character": 0.1, "most": 0.5}
    penalty = Specification.model_validate({"terms": "format", "length": cap})
    for more, total in ((0, 1.0), (2, 0.8), (99, 0.5)):
        assert penalty.evaluate(ROSE.replace("rose", "rose" + "s" * more)).total == total
    assert penalty.bounds == (-0.5, 1.0)


def test_length_never_raises_a_negative_total() -> None:
    spec = Specification.model_validate({"terms": "-1 * format", "length": {"characters": 1}})
    assert spec.evaluate(ROSE).total == -1.0


def test_the_clip_comes_last() -> None:
    spec = Specification.model_validate({"terms": "5 * format", "clip": {"low": 0.5, "high": 2}})
    assert (spec.evaluate(ROSE).total, spec.evaluate("").total, spec.bounds) == (2.0, 0.5, (0.5, 2.0))


def test_a_served_score_is_blended_or_missed() -> None:
    spec = Specification.model_validate(
        {"terms": [{"kind": "format", "weight": 0.5}, {"kind": "served", "model": "prm", "weight": 2, "high": 1}]}
    )
    assert spec.evaluate(ROSE, served={"prm": 0.25}).total == 1.0
    assert spec.evaluate(ROSE, served={"prm": 7}).parts == {"format": 1.0, "prm": 1.0}
    with pytest.raises(ScoreMissing):
        spec.evaluate(ROSE)
    with pytest.raises(NotFinite):
        spec.evaluate(ROSE, served={"prm": math.nan})


def test_upstreams_nan_is_a_failure_and_strict_has_none() -> None:
    nan = RIGHT.replace("0.9", "NaN")
    with pytest.raises(NotFinite):
        Specification(terms="confidence", mode="upstream", maths_first=False).evaluate(nan, TRUTH)
    assert shipped("detection").evaluate(nan, TRUTH).total == 1.0


def test_an_unusable_or_absent_solution_is_no_number() -> None:
    for truth in (None, "<answer></answer>"):
        with pytest.raises(UnusableTruth):
            shipped("classification").evaluate(ROSE, truth)
    assert not Specification.model_validate({"terms": "format"}).needs_truth


def test_the_maths_step_can_be_switched_off() -> None:
    upstream = shipped("detection", "upstream")
    assert upstream.evaluate(RIGHT, TRUTH).total == 3.0
    assert upstream.model_copy(update={"maths_first": False}).evaluate(RIGHT, TRUTH).total == 2.9


@pytest.mark.parametrize(
    ("name", "total"),
    [("detection", 3.0), ("classification", 2.0), ("grounding", 3.0), ("maths", 2.0), ("multiple_choice", 2.0)],
)
def test_a_right_answer_earns_the_most_that_a_recipe_pays(name: str, total: float) -> None:
    answers = {
        "detection": "[{'Position': [1, 1, 9, 9], 'Confidence': 1}]",
        "classification": "rose",
        "grounding": "(1,1),(9,9)",
        "maths": "$\\frac{1}{2}$",
        "multiple_choice": "B",
    }
    truth = f"<answer>{answers[name]}</answer>"
    strict, upstream = shipped(name), shipped(name, "upstream")
    assert strict.evaluate(f"<think>a</think>{truth}", truth).total == total == strict.bounds[1]
    assert upstream.evaluate(f"<think>a</think>{truth}", truth).total in (total, 2.0)
    assert upstream == SHIPPED[f"{name}-upstream"]


def test_an_unknown_recipe_names_those_that_there_are() -> None:
    with pytest.raises(InvalidCall, match="multiple_choice-upstream"):
        shipped("segmentation")


def test_the_schema_describes_every_term() -> None:
    schema = json.dumps(Specification.model_json_schema())
    assert all(f'"const": "{kind}"' in schema for kind in ("iou", "calibration", "served", "multiple_choice"))
