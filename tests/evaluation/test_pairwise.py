"""The three preference benchmarks over a real server."""

import random
from pathlib import Path

import pytest

from evaluation.pairwise import main
from tests.evaluation.made_up import finish, records, sentence, table, write_lines, write_picture
from tests.service.running import Running, shared


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Running:
    return shared(request.session)


def scores(folder: Path) -> dict[str, list[float]]:
    return {record["id"]: [result["score"] for result in record["results"]] for record in records(folder)}


def test_vl_rewardbench_counts_a_pair_whatever_order_it_was_sent_in(server: Running, tmp_path: Path) -> None:
    draw = random.Random(0)
    lines = []
    for index, source in enumerate(
        ["wildvision-battle", "vlfeedback", "povid", "RLHF-V", "rlaif-v", "reasoning_tasks"] * 3
    ):
        (tmp_path / source).mkdir(exist_ok=True)
        picture = write_picture(tmp_path, f"{source}/{index}.png")
        answers = [sentence(draw), sentence(draw)]
        ranking = [[0, 1], [1, 0]][index % 2]
        lines.append({"query": sentence(draw), "response": answers, "human_ranking": ranking, "image_path": picture})
    data = write_lines(tmp_path / "data.jsonl", lines)
    accuracies = []
    for seed in (0, 1):
        out = tmp_path / f"out{seed}"
        arguments = ("--format", "vl_rewardbench", "--data", data, "--url", server.url, "--model", "ixc_reward")
        assert finish(main, *arguments, "--out", out, "--seed", seed) == 0
        rows = {row["group"]: row for row in table(out, "Accuracy")}
        assert {name: row["pairs"] for name, row in rows.items()} == {
            "General": 6,
            "Hallucination": 9,
            "Reasoning": 3,
            "Overall": 18,
        }
        accuracies.append({name: row["accuracy"] for name, row in rows.items()})
    assert scores(tmp_path / "out0") != scores(tmp_path / "out1")
    assert accuracies[0] == accuracies[1]


def test_rewardbench_counts_a_tie_as_wrong(server: Running, tmp_path: Path) -> None:
    draw = random.Random(1)
    subsets = ["alpacaeval-easy", "llmbar-natural", "donotanswer", "math-prm", "hep-rust"]
    lines = [
        {"prompt": sentence(draw), "chosen": sentence(draw), "rejected": sentence(draw), "subset": subset}
        for subset in subsets * 4
    ]
    lines[0]["rejected"] = lines[0]["chosen"]
    data = write_lines(tmp_path / "data.jsonl", lines)
    out = tmp_path / "out"
    arguments = ("--format", "rewardbench", "--data", data, "--url", server.url, "--model", "visualprm")
    assert finish(main, *arguments, "--out", out, "--aggregate", "min") == 0
    found = {record["id"]: record["results"] for record in records(out)}
    right = [min(a["step_scores"]) > min(b["step_scores"]) for a, b in (found[str(index)] for index in range(20))]
    assert not right[0]
    rows = {row["group"]: row for row in table(out, "Accuracy")}
    assert rows["Chat"]["ties"] == 1
    assert rows["Overall"]["accuracy"] == pytest.approx(100 * sum(right) / 20)
    reasoning = [right[index] for index in range(20) if subsets[index % 5] in ("math-prm", "hep-rust")]
    assert rows["Reasoning"]["accuracy"] == pytest.approx(100 * sum(reasoning) / 8)


def test_rm_bench_compares_every_style_with_every_style(server: Running, tmp_path: Path) -> None:
    draw = random.Random(2)
    domains = ["chat", "math", "code", "safety-refuse", "safety-response"]
    lines = [
        {
            "prompt": sentence(draw),
            "chosen": [sentence(draw) for _ in range(3)],
            "rejected": [sentence(draw) for _ in range(3)],
            "domain": domain,
        }
        for domain in domains * 2
    ]
    data = tmp_path / "total_dataset.json"
    write_lines(data, [lines])
    out = tmp_path / "out"
    arguments = ("--format", "rm_bench", "--data", data, "--url", server.url, "--model", "ixc_reward")
    assert finish(main, *arguments, "--out", out) == 0
    found = scores(out).values()
    cells = [[sum(s[row] > s[3 + column] for s in found) * 10 for column in range(3)] for row in range(3)]
    assert [list(row.values())[1:] for row in table(out, "Styles")] == [pytest.approx(row) for row in cells]
    overall = next(row for row in table(out, "Accuracy") if row["domain"] == "Overall")
    assert overall["hard"] == pytest.approx((cells[0][1] + cells[0][2] + cells[1][2]) / 3)
    assert [row["items"] for row in table(out, "Accuracy")] == [2, 2, 2, 4, 10]
