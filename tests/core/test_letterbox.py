from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mpqdeploy.core.letterbox import GREY, Letterbox

sides = st.integers(1, 300)


@given(sides, sides, st.integers(8, 64), st.integers(8, 64))
def test_the_whole_image_fits_and_boxes_come_back(h: int, w: int, height: int, width: int) -> None:
    box = Letterbox.fit((h, w), (height, width))
    assert box.inner[0] <= width
    assert box.inner[1] <= height
    assert box.inner[0] == width or box.inner[1] == height
    corners = np.array([[0, 0, w, h], [w / 4, h / 2, w / 2, h]], np.float32)
    placed = box.to_canvas(corners)
    assert placed.min() >= 0
    assert (placed[:, 2] <= width + 1e-3).all()
    assert (placed[:, 3] <= height + 1e-3).all()
    np.testing.assert_allclose(box.to_image(placed), corners, atol=1e-2)


@given(st.floats(0.3, 3), st.floats(0, 1), st.floats(0, 1))
def test_what_is_pasted_lies_where_boxes_say(zoom: float, x: float, y: float) -> None:
    box = Letterbox.placed((30, 40), (32, 48), zoom=zoom, at=(x, y))
    width, height = box.inner
    resized = np.full((height, width, 1), 255, np.uint8)
    canvas = box.paste(resized)
    left, top, right, bottom = box.to_canvas(np.array([[0, 0, 40, 30]], np.float32))[0].round()
    expected = np.full((32, 48, 1), GREY, np.uint8)
    expected[int(max(top, 0)) : int(bottom), int(max(left, 0)) : int(right)] = 255
    np.testing.assert_array_equal(canvas, expected)
    assert (canvas == 255).any()
