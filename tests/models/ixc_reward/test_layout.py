import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models.ixc_reward.frames import compose
from models.ixc_reward.layout import (
    UnusablePicture,
    count_tokens,
    lay_out,
    lay_out_frames,
    most_across,
    pad,
    tiles_allowed,
)

SIZE = 56
sides = st.integers(1, 400)


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


@given(sides, sides, st.integers(1, 40))
def test_a_layout_holds_the_picture_in_at_most_its_tiles(width: int, height: int, tiles: int) -> None:
    try:
        layout = lay_out(width, height, SIZE, tiles)
    except UnusablePicture:
        assert max(width, height) > SIZE * min(width, height)
        return
    assert layout.columns * layout.rows <= tiles
    assert all(0 < inner <= outer < inner + SIZE for inner, outer in zip(layout.resized, layout.padded, strict=True))
    along = max(layout.columns, layout.rows)
    assert along == 1 or (along - 1) * SIZE < max(width, height)


@given(st.lists(sides, min_size=2, max_size=2, unique=True), st.integers(4, 40))
def test_a_tall_picture_is_the_transpose_of_a_wide_one(size: list[int], tiles: int) -> None:
    picture = noise(*size)
    turned = picture.transpose(Image.Transpose.TRANSPOSE)
    try:
        one, other = (pad(p, lay_out(*p.size, SIZE, tiles)) for p in (picture, turned))
    except UnusablePicture:
        return
    assert np.array_equal(one, other.swapaxes(0, 1))


def test_what_is_left_of_the_canvas_is_white_below_a_wide_picture_and_beside_a_tall_one() -> None:
    for size, blank in (((112, 60), np.s_[60:, :]), ((60, 112), np.s_[:, 60:])):
        canvas = pad(Image.new("RGB", size), lay_out(*size, SIZE, 24))
        assert canvas.shape == (112, 112, 3)
        assert (canvas[blank] == 255).all()
        assert canvas.sum() == canvas[blank].sum()


@pytest.mark.parametrize(("width", "height", "tiles"), [(1500, 1, 24), (1, 1500, 24), (56, 56, 0), (56, 56, -1)])
def test_what_the_reference_refuses_is_refused(width: int, height: int, tiles: int) -> None:
    with pytest.raises(UnusablePicture, match=f"{width} × {height} pixels"):
        lay_out(width, height, SIZE, tiles)


def test_the_search_for_a_grid_stops_at_the_first_that_is_too_large() -> None:
    assert most_across(1.0, 24) == 4
    assert most_across(1.6, 24) == 6
    assert most_across(300.0, 24) == 24
    assert most_across(1.0, 0) == 0


def test_several_pictures_have_six_tiles_each_whatever_is_asked() -> None:
    assert [tiles_allowed(1, None), tiles_allowed(1, 9), tiles_allowed(0, 9)] == [24, 9, 9]
    assert [tiles_allowed(2, None), tiles_allowed(3, 9)] == [6, 6]


@pytest.mark.parametrize(("columns", "rows", "tokens"), [(1, 1, 841), (2, 2, 2061), (6, 4, 10101), (1, 2, 1261)])
def test_tokens_count_both_views_and_what_closes_their_rows(columns: int, rows: int, tokens: int) -> None:
    assert count_tokens(columns, rows, 20) == tokens
    assert (rows * columns + 1) * 400 + 1 + (rows + 1) * 20 == tokens


@given(sides, sides)
def test_a_composite_is_a_strip_of_tiles(width: int, height: int) -> None:
    layout = lay_out_frames(width, height, SIZE)
    assert min(layout.columns, layout.rows) == 1
    assert min(layout.resized) == SIZE
    assert (layout.columns >= layout.rows) == (width >= height) or layout.columns == layout.rows


def test_frames_lie_below_each_other_when_the_last_is_wide() -> None:
    wide, tall = Image.new("RGB", (90, 60)), Image.new("RGB", (60, 90))
    assert compose([wide], SIZE).size == (112, 74 + 50)
    assert compose([tall, wide], SIZE).size == (112, 112 + 74 + 100)
    assert compose([wide, tall], SIZE).size == (112 + 74 + 20, 112 + 40)
    assert compose([Image.new("RGB", (9, 9))], SIZE).size == (122, 152)
