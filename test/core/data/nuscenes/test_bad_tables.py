"""Tables that are not as nuScenes writes them: refused in one line, or read with a warning."""

import contextlib
import json
import logging
import os

import handmade
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.data.nuscenes.index import build_index
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesError, NuScenesFrames
from crkd_core.data.nuscenes.schema import SCHEMA


@pytest.fixture
def root(tmp_path):
    return handmade.write_version(tmp_path / "data", samples=3, files=False)


def rewrite(root, table, change):
    path = root / "v1.0-mini" / f"{table}.json"
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))
    return rows


def refused(root, text):
    with pytest.raises(NuScenesError, match=text) as caught:
        NuScenes(root)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 800


@pytest.mark.parametrize(
    ("table", "field", "value", "text"),
    [
        ("ego_pose", "translation", [1, 2], "translation: expected 3 numbers, metres, got"),
        ("ego_pose", "translation", [1, 2, True], "translation: expected 3 numbers, metres, got"),
        ("ego_pose", "translation", [1, 2, 1e12], "translation: expected 3 numbers, metres, got"),
        ("ego_pose", "translation", {"x": 1}, "translation: expected 3 numbers, metres, got"),
        ("ego_pose", "rotation", [0, 0, 0, 0], "rotation: expected 4 numbers, a quaternion"),
        ("ego_pose", "rotation", [1, 0, 0, None], "rotation: expected 4 numbers, a quaternion"),
        ("ego_pose", "rotation", [90, 0, 0, 1], "rotation: expected 4 numbers, a quaternion"),
        ("ego_pose", "rotation", [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "rotation: expected 4 num"),
        ("ego_pose", "token", "", "token: expected a token, a text that is not empty, got ''"),
        ("sample", "token", ["a"], "token: expected a token"),
        ("sample", "timestamp", "noon", "timestamp: expected a whole number of microseconds"),
        ("sample", "timestamp", 1.5, "timestamp: expected a whole number of microseconds"),
        ("sample", "timestamp", 1.67e18, "timestamp: expected a whole number of microseconds"),
        ("sample", "timestamp", -3, "timestamp: expected a whole number of microseconds"),
        ("sample", "scene_token", "x", r"scene_token is 'x', which is not in scene\.json"),
        ("sample_data", "timestamp", 1532402927612460000, "timestamp: expected a whole number"),
        ("sample_data", "sample_token", None, "sample_token: expected a token.*, got None"),
        ("sample_data", "ego_pose_token", "y", r"is 'y', which is not in ego_pose\.json"),
        ("sample_data", "prev", 4, "prev: expected the token of another row, or ''"),
        ("sample_data", "filename", 7, "filename: expected the name of a file below"),
        ("sample_data", "filename", "", "filename: expected the name of a file below"),
        ("sample_data", "filename", "/etc/passwd", "filename: expected the name of a file below"),
        ("sample_data", "filename", "a/../../b.jpg", "filename: expected the name of a file"),
        ("sample_data", "is_key_frame", "no", "is_key_frame: expected true or false, got 'no'"),
        ("sample_data", "is_key_frame", 2, "is_key_frame: expected true or false, got 2"),
        ("sample_data", "width", "wide", "width: expected a whole number of pixels"),
        ("sample_data", "height", 10**9, "height: expected a whole number of pixels"),
        ("sample_annotation", "attribute_tokens", ["q"], "expected at most one attribute"),
        ("sample_annotation", "attribute_tokens", "q", "attribute_tokens: expected a list of tok"),
        ("sample_annotation", "attribute_tokens", [[]], "attribute_tokens: expected a list of to"),
        ("sample_annotation", "size", [2, 0, 1], "size: expected 3 numbers above 0, metres"),
        ("sample_annotation", "size", [1900, 4500, 1600], "size: expected 3 numbers above 0, met"),
        ("sample_annotation", "num_lidar_pts", 1.5, "num_lidar_pts: expected a whole number"),
        ("sample_annotation", "num_radar_pts", 2**40, "num_radar_pts: expected a whole number"),
        ("calibrated_sensor", "camera_intrinsic", [[1, 2]], "camera_intrinsic: .* a 3x3 matrix"),
        ("calibrated_sensor", "camera_intrinsic", "I", "camera_intrinsic: .* a 3x3 matrix"),
        ("calibrated_sensor", "camera_intrinsic", [[0.8, 0, 0.5], [0, 0.8, 0.5], [0, 0, 1]], "in"),
        ("calibrated_sensor", "translation", [1500.0, 0, 1600.0], "metres, of at most 100, got"),
        ("scene", "name", None, "name: expected a token"),
        ("category", "name", {}, "name: expected a text, got {}"),
    ],
)
def test_wrong_values_name_table_row_and_field(root, table, field, value, text):
    rows = rewrite(root, table, lambda rows: rows[1].update({field: value}))
    name = rows[1]["token"]
    where = rf"row 1 \({name}\)" if isinstance(name, str) and name else "row 1"
    refused(root, rf"{table}\.json: {where}.*{text}")


@pytest.mark.parametrize("table", SCHEMA)
def test_every_field_of_every_table_must_be_there(root, table):
    path = root / "v1.0-mini" / f"{table}.json"
    before = path.read_text()
    for field, kind in SCHEMA[table].items():
        rewrite(root, table, lambda rows, field=field: rows[-1].pop(field))
        if kind.default is None:
            refused(root, rf"{table}\.json: row \d+.*: has no field '{field}'; expected")
        else:
            NuScenes(root)
        path.write_text(before)


@pytest.mark.parametrize("table", SCHEMA)
def test_a_token_twice_is_refused_with_both_rows(root, table):
    rows = rewrite(root, table, lambda rows: rows.append(dict(rows[0])))
    refused(root, rf"{table}\.json: row {len(rows) - 1}.*: has the same token as row 0; every row")


def test_a_token_twice_is_found_across_parts(root, monkeypatch):
    rewrite(root, "sample_data", lambda rows: rows.append(dict(rows[0])))
    monkeypatch.setattr("crkd_core.data.nuscenes.tables._CHUNK_BYTES", 5000)
    refused(root, r"sample_data\.json: row \d+.*: has the same token as row 0")


def test_two_scenes_of_one_name_are_refused(root):
    rewrite(root, "scene", lambda rows: rows[1].update(name=rows[0]["name"]))
    refused(root, r"scene\.json: row 1.*: has the same name as row 0")


def test_a_split_that_names_a_scene_twice_is_refused(tmp_path):
    splits = {"val": ["scene-0061", "scene-0103", "scene-0061"]}
    root = handmade.write_version(tmp_path, samples=2, files=False, splits=splits)
    with pytest.raises(NuScenesError, match=r"splits\.json: split 'val' names scene-0061 twice"):
        NuScenes(root).samples_of("val")


# ---- chains


def chain(rows, field="prev"):
    """Three rows of one chain, in their order in time."""
    by_token = {row["token"]: row for row in rows}
    for row in rows:
        middle = by_token.get(row[field] or "")
        first = by_token.get(middle[field] or "") if middle else None
        if first:
            return first, middle, row
    raise AssertionError("no chain")


@pytest.mark.parametrize("table", ["sample_data", "sample_annotation"])
def test_circles_of_prev_are_refused_and_do_not_hang(root, table):
    def close(rows):
        first, _, last = chain(rows)
        first["prev"] = last["token"]

    rewrite(root, table, close)
    refused(
        root, rf"{table}\.json: row \d+ \(\w+\): prev is row \d+ \(\w+\), which is not earlier"
    )


@pytest.mark.parametrize("table", ["sample_data", "sample_annotation"])
def test_a_row_that_precedes_itself_is_refused(root, table):
    rewrite(root, table, lambda rows: rows[3].update(prev=rows[3]["token"]))
    refused(root, rf"{table}\.json: row 3 .*: prev is row 3 .*, which is not earlier")


def test_circles_of_next_are_refused(root):
    def close(rows):
        last, _, first = chain(rows, "next")
        last["next"] = first["token"]

    rewrite(root, "sample_annotation", close)
    refused(root, r"sample_annotation\.json: row \d+ .*: next is row \d+ .*, which is not later")


def test_chains_do_not_fork_or_leave_their_sensor(root):
    def fork(rows):
        _, middle, last = chain(rows)
        channel, key = last["calibrated_sensor_token"], last["prev"]
        other = next(
            row
            for row in rows
            if row["calibrated_sensor_token"] == channel
            and row["timestamp"] > middle["timestamp"]
            and row is not last
        )
        other["prev"] = key

    before = (root / "v1.0-mini" / "sample_data.json").read_text()
    rewrite(root, "sample_data", fork)
    refused(root, r"sample_data\.json: row .*: prev is row .* that of another row too")
    (root / "v1.0-mini" / "sample_data.json").write_text(before)

    def stray(rows):
        _, middle, last = chain(rows)
        channel = last["calibrated_sensor_token"]
        last["prev"] = next(
            row["token"]
            for row in rows
            if row["calibrated_sensor_token"] != channel and row["timestamp"] < middle["timestamp"]
        )

    rewrite(root, "sample_data", stray)
    refused(root, r"sample_data\.json: row .*: prev is row .*, which is of something else")


def test_two_key_frames_of_a_sensor_in_a_sample_are_refused(root):
    def double(rows):
        _, middle, last = chain(rows)
        for row in (middle, last):
            row.update(is_key_frame=True, sample_token=last["sample_token"])

    rewrite(root, "sample_data", double)
    refused(root, r"sample_data\.json: row \d+ \(\w+\): is_key_frame: \w+ has two key frames")


def test_links_out_of_a_part_of_a_data_set_are_none_with_a_warning(root, caplog):
    whole = build_index(root / "v1.0-mini")
    token = {}

    def cut(rows):
        token["cut"] = chain(rows)[2]["token"]
        next(row for row in rows if row["token"] == token["cut"])["prev"] = "elsewhere"

    rewrite(root, "sample_data", cut)
    rewrite(root, "sample_annotation", lambda rows: chain(rows)[1].update(next="elsewhere"))
    for _ in range(2):  # from the tables, then from the cache
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            index = NuScenes(root).index
        text = (
            r"sample_data.json: prev of 1 rows names rows that are not in the table, first 'else"
        )
        assert text in caplog.text
        assert "sample_annotation.json: next of 1 rows names rows" in caplog.text
    assert (index.record_previous < 0).sum() == (whole.record_previous < 0).sum() + 1


def test_velocities_that_nothing_tells_are_warned_of(root, caplog):
    rewrite(root, "sample_annotation", lambda rows: [r.update(prev="", next="") for r in rows])
    with caplog.at_level(logging.WARNING):
        tables = NuScenes(root)
    truth, _ = tables.truths_global(tables.samples_of("mini_val"))
    count = sum(len(tables.truths_global(tables.samples_of_scene(s))[0]) for s in tables.scenes)
    assert len(truth) and np.isnan(truth.velocity).all()
    assert f"sample_annotation.json: the velocity of none of {count} boxes is kn" in caplog.text


def test_boxes_of_names_that_nuscenes_has_not_are_counted_in_a_warning(root, caplog):
    with caplog.at_level(logging.WARNING):
        whole = NuScenes(root).index
    assert not caplog.text, "an animal and a bicycle rack have no class, and that is known"

    def rename(rows, old, new):
        next(row for row in rows if row["name"] == old)["name"] = new

    rewrite(root, "category", lambda rows: rename(rows, "vehicle.car", "vehicle.van"))
    rewrite(root, "attribute", lambda rows: rename(rows, "vehicle.parked", "parked"))
    for _ in range(2):  # from the tables, then from the cache
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            index = NuScenes(root).index
        lost = int((whole.box_label >= 0).sum() - (index.box_label >= 0).sum())
        assert lost > 0
        assert f"category.json: boxes {lost} of 'vehicle.van': nuScenes has no such" in caplog.text
        bare = int(((index.box_label >= 0) & (index.box_attribute < 0)).sum())
        bare -= int((index.box_label == NUSCENES_CLASSES.index("traffic_cone")).sum())
        assert bare > 0
        assert f"attribute.json: boxes {bare} of 'parked': nuScenes has no such" in caplog.text


# ---- sensors, units, files


def test_sensors_of_others_are_named(root, caplog):
    def rename(rows):
        next(row for row in rows if row["channel"] == "RADAR_FRONT")["channel"] = "RADAR_MINE"

    rewrite(root, "sensor", rename)
    with caplog.at_level(logging.WARNING):
        NuScenes(root)
    assert "sensor.json: sensors that nothing reads: RADAR_MINE" in caplog.text
    rewrite(root, "sensor", lambda rows: [r.update(channel=r["channel"].lower()) for r in rows])
    refused(root, r"sensor\.json: channel: none of cam_back, .* is a sensor that is known here")


def test_a_camera_needs_intrinsics(root):
    rewrite(
        root,
        "calibrated_sensor",
        lambda rows: next(r for r in rows if r["camera_intrinsic"]).update(camera_intrinsic=[]),
    )
    refused(
        root, r"calibrated_sensor\.json: row \d+.*camera_intrinsic: CAM_\w+ needs a 3x3 matrix"
    )


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1e3])
def test_stamps_of_another_unit_are_refused_with_the_field(root, factor):
    def change(rows):
        for row in rows:
            row["timestamp"] = int(row["timestamp"] * factor)

    for table in ("sample", "sample_data"):
        rewrite(root, table, change)
    refused(root, r"sample\.json: .*timestamp: expected (a whole number of )?microseconds")


def test_several_attributes_of_what_is_no_class_do_not_matter(root):
    folder = root / "v1.0-mini"
    names = {
        row["token"]: row["name"] for row in json.loads((folder / "category.json").read_text())
    }
    of = {
        row["token"]: names[row["category_token"]]
        for row in json.loads((folder / "instance.json").read_text())
    }
    path = folder / "sample_annotation.json"
    rows = json.loads(path.read_text())
    two = [row["token"] for row in json.loads((folder / "attribute.json").read_text())[:2]]
    animals = [row for row in rows if of[row["instance_token"]] == "animal"]
    whole = build_index(folder)
    for row in animals:
        row["attribute_tokens"] = two
    path.write_text(json.dumps(rows))
    np.testing.assert_array_equal(build_index(folder).box_attribute, whole.box_attribute)
    next(row for row in rows if of[row["instance_token"]] == "vehicle.car")["attribute_tokens"] = (
        two
    )
    path.write_text(json.dumps(rows))
    with pytest.raises(NuScenesError, match="attribute_tokens: expected at most one attribute"):
        build_index(folder)


def test_positions_in_millimetres_are_refused_with_the_field(root):
    def change(rows):
        for row in rows:
            row["translation"] = [1000 * value for value in row["translation"]]

    rewrite(root, "ego_pose", change)
    refused(root, r"ego_pose\.json: translation: expected metres; .* drives at \S+ m/s")


@pytest.mark.parametrize("table", ["sample", "sample_data"])
def test_devices_and_pipes_are_no_tables(root, table):
    path = root / "v1.0-mini" / f"{table}.json"
    path.unlink()
    os.mkfifo(path)
    refused(root, rf"{table}\.json: cannot read table: is a device or a pipe")
    path.unlink()
    path.symlink_to("/dev/zero")
    refused(root, rf"{table}\.json: cannot read table: is a device or a pipe")


def test_texts_with_nul_are_refused(root):
    # An array of texts drops it at the end, and two tokens would be one.
    rewrite(root, "sample", lambda rows: rows[0].update(token=rows[1]["token"] + "\0"))
    refused(root, r"sample\.json: a text with the character NUL near byte \d+")


def test_nan_counts_only_where_somebody_looks(root):
    """It is no JSON, but Python writes it and the devkit reads it."""
    rewrite(root, "ego_pose", lambda rows: [row.update(speed=float("nan")) for row in rows])
    NuScenes(root)
    rewrite(root, "ego_pose", lambda rows: rows[4]["translation"].__setitem__(1, float("nan")))
    refused(root, r"ego_pose\.json: row 4 .*: translation: expected 3 numbers, metres, got .*nan")


# ---- fuzzing


_ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.one_of(st.none(), st.floats(), st.integers(), st.text(max_size=3)), max_size=5),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.lists(st.lists(st.floats(), min_size=3, max_size=3), min_size=3, max_size=3),
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "data"
    handmade.write_version(folder, samples=2, files=False, scenes=("scene-0103",))
    return folder / "v1.0-mini"


@contextlib.contextmanager
def changed(path, data):
    before = path.read_bytes()
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)


def outcome(folder):
    """The index, or None where it is refused in one line."""
    try:
        return build_index(folder)
    except NuScenesError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
        return None


_FIELDS = [(table, field) for table, fields in SCHEMA.items() for field in fields]
_FUZZ = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@_FUZZ
@given(where=st.sampled_from(_FIELDS), row=st.integers(0, 10**6), value=_ODD)
def test_any_value_anywhere_is_refused_or_good(small, where, row, value):
    table, field = where
    path = small / f"{table}.json"
    rows = json.loads(path.read_text())
    one = rows[row % len(rows)]
    known = [type(other[field]) for other in rows]
    one[field] = value
    with changed(path, json.dumps(rows).encode()):
        index = outcome(small)
    # What is taken is at least of the kind of its neighbours.
    good = type(value) in known or {type(value), *known} <= {int, float, bool}
    good |= value is None and field in ("prev", "next", "width", "height", "camera_intrinsic")
    assert index is None or good, (table, field, value)


@_FUZZ
@given(
    table=st.sampled_from(list(SCHEMA)),
    place=st.floats(0, 1, exclude_max=True),
    cut=st.integers(0, 40),
    put=st.binary(max_size=12),
)
def test_any_damage_is_refused_or_read(small, table, place, cut, put):
    path = small / f"{table}.json"
    data = path.read_bytes()
    at = int(place * len(data))
    with changed(path, data[:at] + put + data[at + cut :]):
        outcome(small)


def test_the_fuzzed_data_set_is_good(small):
    assert outcome(small) is not None
    assert len(NuScenesFrames(NuScenes(small.parent), "mini_val")) == 2
    assert np.isfinite(build_index(small).record_pose).all()
