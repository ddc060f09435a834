"""Pictures' numbers, and how long they last."""

from hypothesis import given
from hypothesis import strategies as st

from service.job import PictureKey
from service.picture_numbers import PictureNumbers


def key(name: str) -> PictureKey:
    return "model", (name,), False, (1, 1)


def numbered(numbers: PictureNumbers, names: str, rows: int = 4) -> list[int]:
    return [numbers.of(key(name), rows) for name in names]


def test_a_picture_keeps_its_number_and_shares_it_with_no_other() -> None:
    assert numbered(PictureNumbers(12), "abacabc") == [0, 1, 0, 2, 0, 1, 2]


def test_a_picture_is_forgotten_once_the_later_ones_fill_the_slots_and_its_number_is_never_given_again() -> None:
    assert numbered(PictureNumbers(9), "abcda") == [0, 1, 2, 3, 4]
    assert numbered(PictureNumbers(9), "abca") == [0, 1, 2, 0]
    assert numbered(PictureNumbers(8), "abca") == [0, 1, 2, 3]
    assert numbered(PictureNumbers(8), "abacab") == [0, 1, 0, 2, 0, 3]


def test_a_picture_that_overflows_the_slots_is_known_until_the_next_one() -> None:
    assert numbered(PictureNumbers(3), "aabba") == [0, 0, 1, 1, 2]


def test_without_slots_nothing_is_remembered() -> None:
    assert numbered(PictureNumbers(0), "aa") == [0, 1]


@given(st.lists(st.sampled_from("abcdefgh"), max_size=60), st.integers(0, 20))
def test_a_number_means_one_picture_and_lasts_while_a_slot_may_hold_it(asked: list[str], slots: int) -> None:
    numbers, rows = PictureNumbers(slots), {name: 1 + index % 4 for index, name in enumerate("abcdefgh")}
    given: dict[str, int] = {}
    for at, name in enumerate(asked):
        before, number = given.get(name), numbers.of(key(name), rows[name])
        if number != before:
            assert number == max(given.values(), default=-1) + 1
        if before is not None:
            *_, last = (earlier for earlier in range(at) if asked[earlier] == name)
            since = sum(rows[other] for other in set(asked[last + 1 : at]))
            assert (number == before) == (since < slots)
        given[name] = number
