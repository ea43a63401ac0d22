"""The command that tells what an image costs, on a small one."""

from __future__ import annotations

from image_costs import costs, picture

from crkd_core.config import ImageConfig


def test_every_way_to_send_an_image_has_a_row():
    table = costs(320, 180, ImageConfig(height=64, width=160), repeats=1)
    names = [row[0] for row in table.rows]
    assert {"jpeg", "png", "rgb8", "bayer_rggb8", "yuv422"} <= set(names)
    for _, megabytes, decode, resized, undistorted in table.rows:
        assert 0 <= float(decode) <= min(float(resized), float(undistorted))
        assert float(megabytes) < 0.3


def test_the_picture_has_edges_and_colours():
    image = picture(320, 180)
    assert image.shape == (180, 320, 3)
    assert image.std() > 20
    assert (image == picture(320, 180)).all()
