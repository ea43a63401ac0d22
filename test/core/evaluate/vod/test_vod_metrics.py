"""The metrics of View-of-Delft: cases worked out by hand, and a slow oracle."""

from __future__ import annotations

import numpy as np
import pytest
import vod_oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from vod_objects import SIZES, frame, thing

from crkd_core.data.vod.errors import VodError
from crkd_core.data.vod.labels import Objects, encode_labels, objects_of, read_labels
from crkd_core.evaluate.vod.metrics import evaluate, evaluate_pairs, paired, thresholds_of
from crkd_core.evaluate.vod.overlaps import clipped_area, image_overlap, overlaps
from crkd_core.evaluate.vod.results import read_results, write_results
from crkd_core.evaluate.vod.rules import AREAS, COUNTS, IGNORED, VodRules


def aps(truth, found, name="Car", area="entire_area") -> dict:
    return evaluate(truth, found).summary[area][name]


def test_a_single_object_gives_the_first_of_eleven_points():
    truth = [frame(thing(), thing("Pedestrian", 3, 12), thing("Cyclist", -3, 14))]
    found = [
        frame(
            thing(score=0.9),
            thing("Pedestrian", 3, 12, score=0.8),
            thing("Cyclist", -3, 14, score=1),
        )
    ]
    summary = evaluate(truth, found).summary
    for area in AREAS:
        assert summary[area]["mean"] == pytest.approx(
            dict.fromkeys(("3d", "bev", "aos"), 100 / 11)
        )
        assert summary[area]["Cyclist"]["objects"] == 1


def test_as_many_points_as_hits():
    truth = [frame(thing(), thing(x=8))]
    found = [frame(thing(score=0.5))]
    # One hit gives one threshold, so one point of eleven: KITTI before 2019 counted so.
    assert aps(truth, found)["3d"] == pytest.approx(100 / 11)


def test_false_alarms_above_the_hit_halve_precision():
    truth, found = [frame(thing())], [frame(thing(score=0.5), thing(x=10, score=0.9))]
    assert aps(truth, found)["3d"] == pytest.approx(100 / 11 / 2)
    # A weaker one costs nothing.
    found = [frame(thing(score=0.5), thing(x=10, score=0.1))]
    assert aps(truth, found)["3d"] == pytest.approx(100 / 11)


def test_forty_objects_give_ten_points():
    truth = [frame(thing(x=3.0, z=10 + 5.0 * i)) for i in range(40)]
    found = [frame(thing(x=3.0, z=10 + 5.0 * i, score=1 - i / 50)) for i in range(40)]
    assert aps(truth, found)["3d"] == pytest.approx(100 * 10 / 11)
    # Half of them found, without false alarms: points at recall 0 to 0.475.
    part = [one if i < 20 else frame_none() for i, one in enumerate(found)]
    assert aps(truth, part)["3d"] == pytest.approx(100 * 5 / 11)


def frame_none() -> Objects:
    return objects_of([], np.zeros((0, 15)))


def test_overlap_must_exceed_the_threshold_of_the_class():
    # Moved along its length by d, a box of length l keeps (l - d) / (l + d).
    assert aps([frame(thing())], [frame(thing(x=4.2 / 3 - 0.01, score=1))])["3d"] > 0
    assert aps([frame(thing())], [frame(thing(x=4.2 / 3 + 0.01, score=1))])["3d"] == 0
    walker = [frame(thing("Pedestrian"))]
    near, far = 0.7 * 0.6 - 0.01, 0.7 * 0.6 + 0.01
    for x, right in ((near, True), (far, False)):
        found = [frame(thing("Pedestrian", x, score=1))]
        assert (aps(walker, found, "Pedestrian")["3d"] > 0) == right


def test_height_counts_in_space_alone():
    truth, low = [frame(thing())], thing(score=1)
    low[1][11] += 0.8  # bottom y: more than half of the height of 1.5 lower.
    row = aps(truth, [frame(low)])
    assert row["3d"] == 0 and row["bev"] > 0


def test_wrong_way_round_costs_all_of_orientation():
    truth, found = [frame(thing())], [frame(thing(turn=np.pi, score=1))]
    row = aps(truth, found)
    assert row["3d"] == pytest.approx(100 / 11) and row["aos"] == pytest.approx(0, abs=1e-9)
    row = aps(truth, [frame(thing(turn=np.pi / 3, score=1))])
    assert row["aos"] == pytest.approx(0.75 * 100 / 11)


def test_low_and_hidden_truth_is_neither_miss_nor_hit():
    truth = [frame(thing(), thing(x=8, height=40), thing(x=-8, hidden=5))]
    found = [frame(thing(score=0.3), thing(x=8, score=0.9), thing(x=-8, score=0.8))]
    row = aps(truth, found)
    assert row["objects"] == 1 and row["3d"] == pytest.approx(100 / 11)


@pytest.mark.parametrize(("name", "near"), [("Car", "Van"), ("Pedestrian", "Person_sitting")])
def test_a_neighbour_of_a_class_is_no_miss_and_what_takes_it_no_false_alarm(name, near):
    truth = [frame(thing(name), thing(near, x=8))]
    found = [frame(thing(name, score=0.3), thing(name, x=8, score=0.9))]
    row = aps(truth, found, name)
    assert row["objects"] == 1 and row["3d"] == row["aos"] == pytest.approx(100 / 11)


def test_where_objects_stop_to_count():
    for hidden, height, counts in ((4, 100, 1), (5, 100, 0), (0, 40.1, 1), (0, 40, 0)):
        truth = [frame(thing(hidden=hidden, height=height))]
        assert aps(truth, [frame(thing(score=0.5))])["objects"] == counts
    for height, ap in ((40, 100 / 11), (39.9, 0)):
        found = [frame(thing(height=height, score=0.5))]
        assert aps([frame(thing())], found)["3d"] == pytest.approx(ap)


def test_low_detections_take_truth_whatever_class_they_say():
    # As published: the height is asked before the class.
    truth = [frame(thing())]
    found = [frame(thing("Cyclist", height=30, score=0.9, turn=0.0))]
    counted = frame(thing(score=0.4))
    assert aps(truth, [counted])["3d"] > 0
    big = found[0]
    big.size[:] = SIZES["Car"]
    assert aps(truth, found)["3d"] == 0, "it makes no hit"


def test_corridor_ends_at_four_metres_and_twenty_five():
    truth = [frame(thing(x=3.9), thing(x=-9), thing(z=26.0))]
    found = [frame(thing(x=3.9, score=0.2), thing(x=-9, score=0.9), thing(z=26.0, score=0.8))]
    row = aps(truth, found, area="driving_corridor")
    assert row["objects"] == 1 and row["3d"] == pytest.approx(100 / 11)
    assert aps(truth, found)["objects"] == 3
    # A false alarm outside costs nothing there.
    found = [frame(thing(x=3.9, score=0.2), thing(x=15, score=0.9))]
    assert aps(truth, found, area="driving_corridor")["3d"] == pytest.approx(100 / 11)


def test_areas_where_nothing_counts_hide_false_alarms_in_the_image():
    box = (1300, 400, 1400, 600)
    truth = [frame(thing(), ("DontCare", [0, 0, 0, *box, -1, -1, -1, 500, 500, 500, 0, 0]))]
    found = [frame(thing(score=0.5), thing(x=12, score=0.9, box=box))]
    row = aps(truth, found)
    assert row["aos"] == pytest.approx(100 / 11) and row["3d"] == pytest.approx(50 / 11)


@pytest.mark.parametrize(("beside", "ap"), [(20, 100 / 11), (40, 50 / 11)])
def test_such_an_area_hides_what_lies_in_it_by_the_share_of_a_match(beside, ap):
    box, area = (1300, 400, 1400, 600), (1300 + beside, 300, 1700, 700)
    truth = [frame(thing(), ("DontCare", [0, 0, 0, *area, -1, -1, -1, 500, 500, 500, 0, 0]))]
    found = [frame(thing(score=0.5), thing(x=12, score=0.9, box=box))]
    assert aps(truth, found)["aos"] == pytest.approx(ap)


def test_without_truth_everything_is_zero():
    row = aps([frame_none()], [frame(thing(score=0.5))])
    assert row == {"3d": 0, "bev": 0, "aos": 0, "objects": 0}
    assert aps([frame(thing())], [frame_none()])["3d"] == 0
    with pytest.raises(ValueError):
        evaluate([frame_none()], [])


def test_an_area_alone_is_scored_as_beside_the_other():
    rng = np.random.default_rng(5)
    truth = [frame(*(thing(x=x, z=12 + 6 * i) for i in range(4))) for x in (-3.0, 0.0, 9.0)]
    found = [
        frame(*(thing(n, x, 12 + 6 * i, score=rng.random()) for i in range(4)))
        for n, x in (("car", -3.3), ("Cyclist", 0.0), ("CAR", 9.2))
    ]
    pairs = paired(truth, found)
    both = evaluate_pairs(pairs)
    assert both.summary["entire_area"]["Car"]["3d"] > both.summary["driving_corridor"]["Car"]["3d"]
    for area in AREAS:
        alone = evaluate_pairs(pairs, areas=(area,))
        assert alone.summary.keys() == {area, "eval_time"}
        assert alone.summary[area] == both.summary[area]
        assert {of for of, _, _ in alone.precision} == {area}


def test_what_is_absent_is_matched_with_nothing():
    walker = thing("Pedestrian", 3, 12, score=0.9)
    truth = frame(thing(), walker, thing("Van", -5, 14))
    found = frame(walker, thing(score=0.5), thing("truck", height=30))
    (pair,) = paired([truth], [found])
    cars = pair.matchable("Car", "entire_area", "3d", VodRules())
    assert cars.truth.tolist() == [COUNTS, IGNORED] and cars.found.tolist() == [COUNTS, IGNORED]
    assert cars.overlap.tolist() == pair.overlap["3d"][1:, ::2].tolist()
    assert cars.turn.tolist() == pair.turn[1:, ::2].tolist()
    assert cars.score.tolist() == [0.5, 0.0] and len(cars.covered) == 2


def test_thresholds_lie_at_even_steps_of_recall():
    assert thresholds_of([0.1, 0.9, 0.5], 3).tolist() == [0.9, 0.5, 0.1]
    many = thresholds_of(np.linspace(0, 1, 400).tolist(), 400)
    assert len(many) == 41 and np.allclose(np.diff(many), -1 / 40, atol=3e-3)
    assert thresholds_of([], 0).tolist() == []


def test_areas_of_polygons_by_hand():
    square = np.array([[0.0, 0], [2, 0], [2, 2], [0, 2]])
    diamond = np.array([[1.0, -1], [3, 1], [1, 3], [-1, 1]])
    cases = [
        (square, square, 4.0),
        (square, square + np.array([1, 0]), 2.0),
        (square, square + np.array([2, 0]), 0.0),
        (square, square + np.array([5, 5]), 0.0),
        (square, square / 4 + 0.5, 0.25),
        (square, diamond, 4.0),
        (square, diamond + np.array([1, 0]), 3.0),
    ]
    first, second = (np.stack([case[i] for case in cases]) for i in (0, 1))
    expected = [case[2] for case in cases]
    np.testing.assert_allclose(clipped_area(first, second), expected, atol=1e-12)
    np.testing.assert_allclose(clipped_area(second, first), expected, atol=1e-12)


@st.composite
def scenes(draw):
    """A few frames with truth, detections near it, and some of every other kind."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(draw(st.integers(1, 3))):
        things, answers = [], []
        for _ in range(rng.integers(0, 7)):
            name = str(rng.choice(["Car", "Pedestrian", "Cyclist", "Van", "truck"]))
            x, z = rng.uniform(-8, 8), rng.uniform(5, 35)
            turn, height = rng.uniform(-np.pi, np.pi), float(rng.choice([30, 40, 90, 120]))
            hidden = int(rng.choice([0, 1, 2, 5]))
            things.append(thing(name, x, z, turn=turn, height=height, hidden=hidden))
            for _ in range(rng.integers(0, 3)):
                said = name if rng.random() < 0.8 else "Cyclist"
                answers.append(
                    thing(
                        said,
                        x + rng.normal(0, 0.25),
                        z + rng.normal(0, 0.25),
                        turn=turn + rng.normal(0, 0.3),
                        height=float(rng.choice([30, 90, 100])),
                        # Equal scores are common on purpose.
                        score=float(rng.choice([0.1, 0.3, 0.5, 0.7, 0.9])),
                    )
                )
        truth.append(frame(*things) if things else frame_none())
        found.append(frame(*answers) if answers else frame_none())
    return truth, found


@settings(max_examples=25, deadline=None)
@given(scenes())
def test_metrics_are_those_of_the_oracle(scene):
    truth, found = scene
    summary = evaluate(truth, found).summary
    slow = [[vod_oracle.rows(one) for one in frames] for frames in (truth, found)]
    for area in AREAS:
        for name in VodRules().classes:
            row = summary[area][name]
            for metric in ("3d", "bev"):
                expected, _ = vod_oracle.average_precision(
                    *slow, name, metric, area == "driving_corridor"
                )
                assert row[metric] == pytest.approx(expected, abs=1e-9)
            _, aos = vod_oracle.average_precision(*slow, name, "image", area == "driving_corridor")
            assert row["aos"] == pytest.approx(aos, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(scenes())
def test_overlaps_are_those_of_the_oracle(scene):
    for truth, found in zip(*scene, strict=True):
        above, space = overlaps(found, truth)
        pictures = image_overlap(found, truth)
        rows = [vod_oracle.rows(one) for one in (found, truth)]
        for i, one in enumerate(rows[0]):
            for j, other in enumerate(rows[1]):
                for metric, matrix in (("bev", above), ("3d", space), ("image", pictures)):
                    expected = vod_oracle.iou(one, other, metric)
                    assert matrix[i, j] == pytest.approx(expected, abs=1e-12)


def test_lines_without_a_score_are_no_results(tmp_path):
    found = frame(thing(score=0.5), thing(x=8, score=0.25))
    write_results(["00001"], [found], tmp_path)
    assert read_results(["00001"], tmp_path)[0].score.tolist() == [0.5, 0.25]
    path = tmp_path / "00001.txt"
    path.write_text(path.read_text() + encode_labels(found))
    assert len(read_labels(path)) == 4, "labels may have none"
    with pytest.raises(VodError, match=r"00001\.txt, line 3: expected a score"):
        read_results(["00001"], tmp_path)


def test_a_mark_at_the_begin_of_a_file_is_no_part_of_a_class(tmp_path):
    path = tmp_path / "00001.txt"
    path.write_text(encode_labels(frame(thing(score=0.5)), scored=True), encoding="utf-8-sig")
    assert read_results(["00001"], tmp_path)[0].name.tolist() == ["Car"]
