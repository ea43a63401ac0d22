"""The fast reader of results files against the one that takes one value after the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest

from crkd_core import geometry
from crkd_core.evaluate.decoding import decode
from crkd_core.evaluate.reading import _examined, read_submission
from crkd_core.evaluate.submission import SubmissionError


def box(token: str, rng: np.random.Generator, **changes) -> dict:
    return {
        "sample_token": token,
        "translation": rng.normal(0, 100, 3).tolist(),
        "size": rng.uniform(0.1, 9, 3).tolist(),
        "rotation": rng.normal(0, 1, 4).tolist(),
        "velocity": rng.normal(0, 9, 2).tolist(),
        "detection_name": str(rng.choice(["car", "pedestrian", "barrier"])),
        "detection_score": float(rng.random()),
        "attribute_name": str(rng.choice(["", "vehicle.moving"])),
        **changes,
    }


def results(**changes) -> dict:
    rng = np.random.default_rng(1)
    tokens = [f"token {i}" for i in range(11)]
    listed = {t: [box(t, rng) for _ in range(int(rng.integers(0, 6)))] for t in tokens}
    listed["token 3"].append(box("token 3", rng, **changes))
    return {"meta": {"use_camera": True}, "results": listed, "more": [1]}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"translation": [1, 2, 3], "detection_score": 1, "more": {"a": []}},
        {"translation": [1e-310, 0.1 + 0.2, 12345678901234567890]},
        {"num_pts": 0},
        {"num_pts": -3.7},
        {"num_pts": 12},
    ],
)
def test_both_readers_give_the_same_to_the_last_bit(changes):
    text = orjson.dumps(results(**changes))
    fast, slow = decode(text, most=500), _examined(Path("f"), text, 500)
    assert fast is not None
    assert fast.meta == slow.meta and fast.counts == slow.counts
    assert list(fast.counts) == list(slow.counts) and fast.values.keys() == slow.values.keys()
    for name, values in fast.values.items():
        assert values.dtype == slow.values[name].dtype
        np.testing.assert_array_equal(values, slow.values[name], err_msg=name)


@pytest.mark.parametrize(
    "changes",
    [
        {"translation": [1.0, 2.0]},
        {"translation": None},
        {"detection_score": "0.5"},
        {"detection_score": True},
        {"detection_name": "van"},
        {"attribute_name": None},
        {"sample_token": "token 4"},
        {"num_pts": None},
        {"num_pts": 2**40},
    ],
)
def test_what_is_not_sound_is_left_to_the_exact_reader(changes, tmp_path):
    text = orjson.dumps(results(**changes))
    assert decode(text, most=500) is None
    path = tmp_path / "results.json"
    path.write_bytes(text)
    with pytest.raises(SubmissionError, match="sample token 3"):
        read_submission(path)


def test_unknown_speeds_and_empty_files_are_read(tmp_path):
    path = tmp_path / "results.json"
    text = orjson.dumps(results(velocity=[1.5, 2.5])).replace(b"[1.5,2.5]", b"[NaN, NaN]")
    path.write_bytes(text)
    assert decode(text, most=500) is None
    assert np.isnan(read_submission(path).boxes.velocity).all(1).sum() == 1
    path.write_bytes(b'{"meta": {}, "results": {"a": [], "b": []}}')
    empty = read_submission(path)
    assert empty.tokens == ("a", "b") and not len(empty.boxes)
    path.write_bytes(b'{"meta": {}, "results": {}}')
    assert read_submission(path).tokens == ()
    assert decode(orjson.dumps(results()), most=3) is None


def test_heading_is_that_of_the_matrix():
    quat = np.random.default_rng(0).normal(size=(1000, 4)) * 3
    matrix = geometry.quat_wxyz_to_matrix(quat)
    np.testing.assert_array_equal(
        geometry.quat_wxyz_to_yaw(quat), np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0])
    )
