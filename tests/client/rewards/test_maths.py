"""Equal mathematics: the same in every thread, bounded, and never a number for what could not be compared."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from steelyard.rewards import ExtraMissing, TooComplex, UnusableTruth, shipped
from steelyard.rewards import maths as maths_module
from steelyard.rewards.maths import maths_reward

HUGE = ("9**9**9", "$9^{9^{9}}$", "$(10^9)!$", "$\\sqrt{9^{9^9}}$", "$\\binom{1000000}{500000}$",
        "$\\{1, 9^{9^9}\\}$", "$x=2^{9^{9}}$", "$\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}^{99999999}$",
        "$\\sum_{i=1}^{1000000} \\frac{1}{i}$", "1+" * 2000 + "1")  # fmt: skip


def answered(text: str) -> str:
    return f"<think>a</think><answer>{text}</answer>"


@pytest.mark.parametrize(
    ("answer", "truth", "reward"),
    [
        ("$\\frac{1}{2}$", "$0.5$", 1.0),
        ("1/2", "<answer>0.5</answer>", 1.0),
        ("$(x+1)^2$", "$x^2+2x+1$", 1.0),
        ("4", "5", 0.0),
        ("", "5", 0.0),
        ("so it is", "5", 0.0),
    ],
)
def test_an_answer_is_compared_with_the_solution(answer: str, truth: str, reward: float) -> None:
    assert maths_reward(answered(answer), truth) == reward


def test_strict_looks_only_between_the_tags() -> None:
    assert maths_reward("<think> $5$ </think><answer>104729</answer>", "5") == 0.0
    assert maths_reward("<think> $5$ </think><answer>104729</answer>", "5", "upstream") == 1.0
    assert maths_reward("5", "5") == 0.0


@pytest.mark.parametrize(("response", "truth"), [("$\\frac{1}{2}$", "$0.5$"), ("$50\\%$", "$0.5$"), ("$2$", "$3$")])
def test_a_thread_gives_the_same_reward(response: str, truth: str) -> None:
    here = maths_reward(response, truth, "upstream"), maths_reward(answered(response), truth)
    with ThreadPoolExecutor(4) as pool:
        there = (
            pool.submit(maths_reward, response, truth, "upstream"),
            pool.submit(maths_reward, answered(response), truth),
        )
        assert tuple(call.result() for call in there) == here
    assert here == ((1.0, 1.0) if truth == "$0.5$" else (0.0, 0.0))


@pytest.mark.parametrize("text", HUGE)
def test_what_would_take_forever_has_no_reward(text: str) -> None:
    with pytest.raises(TooComplex):
        maths_reward(answered(text), "5")
    with pytest.raises(UnusableTruth):
        maths_reward(answered("5"), text)


@pytest.mark.parametrize("text", HUGE[:5])
def test_upstream_calls_unequal_what_it_would_give_up_on(text: str) -> None:
    assert maths_reward(text, "$5$", "upstream") == 0.0


@pytest.mark.parametrize("truth", ["", "no mathematics", "<answer>1</answer><answer>2</answer>"])
def test_a_solution_without_mathematics_is_refused(truth: str) -> None:
    with pytest.raises(UnusableTruth):
        maths_reward(answered("5"), truth)


def test_without_math_verify_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "math_verify", None)
    maths_module._library.cache_clear()
    try:
        with pytest.raises(ExtraMissing, match=r"steelyard\[maths\]"):
            shipped("maths").evaluate(answered("5"), "5")
    finally:
        maths_module._library.cache_clear()
