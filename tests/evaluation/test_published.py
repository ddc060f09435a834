"""The papers' tables, as far as their own sums and means can be checked."""

import pytest

from evaluation.published import Published, names, published


@pytest.mark.parametrize("name", names())
def test_every_table_says_where_it_is_from(name: str) -> None:
    table = published(name)
    assert table.title
    assert table.source
    assert table.rows


@pytest.mark.parametrize("part", ["samples", "solutions", "steps"])
def test_parts_of_visual_process_bench_sum_to_the_whole(part: str) -> None:
    (row,) = published(f"visualprm_process_bench_{part}").rows.values()
    figures = [figure for figure in row if figure is not None]
    assert sum(figures[:-1]) == figures[-1]


def test_overall_best_of_8_is_the_mean_of_the_benchmarks() -> None:
    for row in published("visualprm_best_of_8").rows.values():
        figures = [figure for figure in row if figure is not None]
        assert sum(figures[:-1]) / 7 == pytest.approx(figures[-1], abs=0.0501)


def test_overall_macro_f1_lies_between_the_sources() -> None:
    for name, row in published("visualprm_process_bench").rows.items():
        figures = [figure for figure in row if figure is not None]
        if name != "random":
            assert min(figures[:-1]) < figures[-1] < max(figures[:-1])


def test_best_of_8_is_the_same_in_both_tables_that_have_it() -> None:
    by_n, best_of_8 = published("visualprm_by_n"), published("visualprm_best_of_8")
    assert by_n.find("process", "8") == best_of_8.find("InternVL2.5-8B, best of 8", "Overall")


def test_vl_rewardbench_macro_and_overall_follow_from_the_groups() -> None:
    table = published("ixc_vl_rewardbench")
    counts = [count for count in table.rows["pairs"] if count is not None]
    assert sum(counts[:-1]) == counts[-1]
    for name in ("IXC-2.5-Reward", "IXC-2.5-Reward, recomputed", "GPT-4o", "Gemini-1.5-Pro"):
        groups = [figure for figure in table.rows[name][:3] if figure is not None]
        overall, macro = table.find(name, "Overall"), table.find(name, "Macro")
        assert sum(groups) / 3 == pytest.approx(macro, abs=0.1)
        weighted = sum(figure * count for figure, count in zip(groups, counts[:3], strict=True)) / counts[3]
        # As the table's note says.
        assert weighted == pytest.approx(65.63 if name == "GPT-4o" else overall, abs=0.1)


def test_rm_bench_average_is_that_of_the_difficulties() -> None:
    table = published("ixc_rm_bench")
    for name in table.rows:
        figures = [table.find(name, column) or 0.0 for column in ("Easy", "Normal", "Hard")]
        assert sum(figures) / 3 == pytest.approx(table.find(name, "Average"), abs=0.07)


def test_rewardbench_average_is_not_the_mean_as_its_note_says() -> None:
    table = published("ixc_rewardbench")
    figures = [figure or 0.0 for figure in table.rows["IXC-2.5-Reward"]]
    assert sum(figures[:4]) / 4 == pytest.approx(88.1)
    assert figures[4] == 88.6


def test_a_column_is_found_by_its_alias_whatever_the_case() -> None:
    table = published("visualprm_process_bench")
    assert table.find("VisualPRM-8B", "mathverse") == table.find("VisualPRM-8B", "MathVerse-VO") == 61.0
    assert table.find("VisualPRM-8B", "another") is None
    assert table.find("another", "MMMU") is None


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="one figure for each column"):
        Published(title="", source="", notes=[], columns=["a", "b"], rows={"row": [1.0]})
