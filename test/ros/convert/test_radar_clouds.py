"""Radar clouds of every layout and maker to the columns of nuScenes; broken ones to errors."""

from __future__ import annotations

import dataclasses
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import ros_rig
import vod_tiny
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core import geometry
from crkd_core.data.batch import collate
from crkd_core.data.radar import ENCODED_COLUMNS, USED, RadarSweep, accumulate, to_records
from crkd_core.data.vod.layout import Vod
from crkd_core.data.vod.lidar import EGO_T_LIDAR
from crkd_core.data.vod.radar import read_scans
from crkd_core.data.vod.reader import VodFrames
from crkd_core.presets import preset
from crkd_core.sensors import RADAR_DEFAULTS, RADAR_FIELDS, RADARS
from crkd_ros import frames
from crkd_ros.bags import message_types
from crkd_ros.convert import radar_clouds, ros_packages
from crkd_ros.convert.arrays import ConvertError
from crkd_ros.convert.radar_clouds import RadarFieldsConfig, Sweep, radar_points
from crkd_ros.motion.pose_buffer import PoseBuffer
from crkd_ros.motion.poses import NoMotion
from crkd_ros.parameters.knobs import ParameterError
from crkd_ros.sync.history import Timed
from crkd_ros.sync.synchroniser import FrameSet

STAMP = 1_700_000_000_123_456_789
REQUIRED = ("x", "y", "z", "rcs", "vx_comp", "vy_comp")


def test_native_radar_clouds_give_the_points_of_the_file(make):
    message = ros_rig.radar_cloud(make, "RADAR_FRONT", STAMP, seed=4)
    assert message.point_step == 43
    sweep = radar_clouds.sweep(message, radar="RADAR_FRONT")
    assert sweep.points.dtype == np.float32
    np.testing.assert_array_equal(sweep.points, ros_rig.radar_points(4))
    assert sweep.frame_id == "radar_front"
    message.header.frame_id = ""
    assert radar_clouds.sweep(message, radar="RADAR_FRONT").frame_id == "radar_front"


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_radar_clouds_of_any_order_type_step_and_endian(data):
    points = ros_rig.radar_points(7, count=data.draw(st.integers(0, 5)))
    required = list(REQUIRED)
    optional = [name for name in RADAR_FIELDS if name not in required]
    names = required + data.draw(st.lists(st.sampled_from(optional), unique=True))
    names = data.draw(st.permutations([*names, "extra"]))
    order = data.draw(st.sampled_from("<>"))
    layout, offset = {"names": [], "formats": [], "offsets": []}, 0
    for name in names:
        integers = "i4" if name in RADAR_DEFAULTS else "f8"
        kind = order + data.draw(st.sampled_from(["f4", "f8", integers]))
        offset += data.draw(st.integers(0, 3))
        layout["names"].append(name)
        layout["formats"].append(kind)
        layout["offsets"].append(offset)
        offset += int(kind[-1])
    layout["itemsize"] = offset + data.draw(st.integers(0, 4))
    records = np.zeros(len(points), np.dtype(layout))
    for column, name in enumerate(RADAR_FIELDS):
        if name in names:
            records[name] = points[:, column]
    message = ros_rig.cloud(message_types.make, "radar_front", STAMP, records)
    got = radar_points(message)
    for column, name in enumerate(RADAR_FIELDS):
        want = points[:, column]
        if name in ("vx", "vy") and name not in names:
            want = points[:, column + 2]
        elif name not in names:
            want = np.full(len(points), RADAR_DEFAULTS[name], np.float32)
        np.testing.assert_array_equal(got[:, column], want, err_msg=name)


def test_defaults_are_a_valid_return_of_unknown_motion(make):
    assert set(RADAR_DEFAULTS) | {"vx", "vy"} | set(REQUIRED) == set(RADAR_FIELDS)
    points = np.zeros((1, 18))
    for name, value in RADAR_DEFAULTS.items():
        points[0, RADAR_FIELDS.index(name)] = value
    # docs/nuscenes.md, "Radar files": unknown, unambiguous, valid, below 25 % false alarm.
    assert points[0, [3, 11, 14, 15]].tolist() == [4, 3, 0, 1]
    to_records(points)


def test_padded_rows_and_bad_rows(make):
    points = ros_rig.radar_points(2, count=6)
    points[1, 0], points[4, 9] = np.nan, np.inf
    message = ros_rig.cloud(make, "radar_front", STAMP, to_records(points))
    data = np.asarray(message.data).reshape(2, 3 * 43)
    padded = np.pad(data, ((0, 0), (0, 10))).ravel()
    fields = {
        name: getattr(message, name) for name in ("header", "fields", "point_step", "is_dense")
    }
    message = make(
        "sensor_msgs/msg/PointCloud2", height=2, width=3, row_step=139, data=padded, **fields
    )
    np.testing.assert_array_equal(radar_points(message), points[[0, 2, 3, 5]])
    # Some drivers pad between rows only.
    message.data = padded[:-10]
    np.testing.assert_array_equal(radar_points(message), points[[0, 2, 3, 5]])
    message.row_step = 128
    with pytest.raises(ConvertError, match=r"rows \(row_step\) of at least 129 bytes .*got 128"):
        radar_points(message)


def test_clouds_that_contradict_themselves_are_errors(make):
    good = ros_rig.radar_cloud(make, "RADAR_FRONT", STAMP)

    def broken(**changes):
        message = ros_rig.radar_cloud(make, "RADAR_FRONT", STAMP)
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    with pytest.raises(ConvertError, match="need 172043 bytes, got 1720"):
        radar_points(broken(width=4001))
    with pytest.raises(ConvertError, match="does not fit a point of 40 bytes"):
        radar_points(broken(point_step=40))
    with pytest.raises(ConvertError, match=r"RADAR_FRONT.*lacks rcs, vx_comp; found .*y_rms, z"):
        fields = [f for f in good.fields if f.name not in ("rcs", "vx_comp")]
        radar_points(broken(fields=fields), source="RADAR_FRONT")
    with pytest.raises(ConvertError, match="found no fields"):
        radar_points(broken(fields=[]))
    fields = list(good.fields)
    fields[2].datatype = 99
    with pytest.raises(ConvertError, match=r"'z' .datatype 99"):
        radar_points(broken(fields=fields))
    with pytest.raises(ConvertError, match=r"no data of 40 x 0 points, got 1720 bytes.*height"):
        radar_points(broken(height=0))
    assert radar_points(broken(width=0)).shape == (0, 18)
    assert radar_points(broken(width=0, height=0)).shape == (0, 18)
    nothing = broken(width=0, point_step=0, row_step=0, data=np.zeros(0, np.uint8), fields=[])
    assert radar_points(nothing).shape == (0, 18)
    nothing.fields = good.fields[:2] + good.fields[3:]  # Without a point to lie in.
    assert radar_points(nothing).shape == (0, 18)
    with pytest.raises(ConvertError, match="does not fit a point of 0 bytes"):
        radar_points(broken(point_step=0))


# -- radars of other makers -----------------------------------------------------------------------


def table(**columns):
    """A cloud of float32 fields."""
    records = np.zeros(len(next(iter(columns.values()))), [(name, "f4") for name in columns])
    for name, values in columns.items():
        records[name] = values
    return ros_rig.cloud(message_types.make, "radar", STAMP, records)


def column(points, name):
    return points[:, RADAR_FIELDS.index(name)]


X, Y, Z = np.array([[10.0, 0.0, 20.0, 0.0], [0.0, 5.0, -20.0, 0.0], [0.0, 0.0, 10.0, 0.0]])
#: Metres to the returns, and how much of a radial speed lies in x and y.
RANGE = np.maximum(np.sqrt(X**2 + Y**2 + Z**2), 1e-9)


def test_fields_have_the_names_that_the_parameters_give():
    cloud = table(px=X, py=Y, height=Z, RCS=[1, 2, 3, 4], v_x=[1, 2, 3, 4], v_y=[5, 6, 7, 8])
    fields = RadarFieldsConfig(position="px py height", rcs="RCS", vx_comp="v_x", vy_comp="v_y")
    points = radar_points(cloud, fields=fields)
    np.testing.assert_array_equal(points[:, :3], np.stack([X, Y, Z], -1).astype(np.float32))
    assert column(points, "rcs").tolist() == [1, 2, 3, 4]
    for name in ("vx", "vx_comp"):
        assert column(points, name).tolist() == [1, 2, 3, 4]
    for name in ("vy", "vy_comp"):
        assert column(points, name).tolist() == [5, 6, 7, 8]


def test_planar_radars_have_no_z_but_a_name_given_must_be_there():
    cloud = table(x=X, y=Y, rcs=X, vx_comp=X, vy_comp=X)
    assert column(radar_points(cloud), "z").tolist() == [0, 0, 0, 0]
    assert column(radar_points(cloud, fields=RadarFieldsConfig(position="x y")), "z").max() == 0
    with pytest.raises(ConvertError, match="lacks height; found rcs, vx_comp, vy_comp, x, y"):
        radar_points(cloud, fields=RadarFieldsConfig(position="x y height"))
    with pytest.raises(ConvertError, match="lacks v_rel"):
        radar_points(cloud, fields=RadarFieldsConfig(vx="v_rel", vy="vy"))


def test_a_missing_cross_section_takes_its_default_when_asked_for():
    cloud = table(x=X, y=Y, vx_comp=X, vy_comp=X)
    with pytest.raises(ConvertError, match=r"radar cloud lacks rcs.*radar_fields\.\*"):
        radar_points(cloud)
    points = radar_points(cloud, fields=RadarFieldsConfig(rcs="", default_rcs=7.5))
    assert column(points, "rcs").tolist() == [7.5] * 4


def test_padding_is_a_field_without_a_name_and_not_one_that_is_not_asked_for():
    cloud = table(x=X, y=Y, z=Z, speed=X, padding=X)
    fields = RadarFieldsConfig(rcs="", doppler="speed")
    points = radar_points(cloud, fields=fields)
    next(field for field in cloud.fields if field.name == "padding").name = ""
    np.testing.assert_array_equal(radar_points(cloud, fields=fields), points)


def test_radial_speed_lies_along_the_ray():
    speed = np.array([4.0, -2.0, 3.0, 1.0])
    cloud = table(x=X, y=Y, z=Z, rcs=X, v_r=speed)
    fields = RadarFieldsConfig(doppler="v_r", doppler_compensated=True)
    sweep = radar_clouds.sweep(cloud, radar="RADAR_FRONT", fields=fields)
    assert not sweep.relative
    for name, axis in (("vx_comp", X), ("vy_comp", Y), ("vx", X), ("vy", Y)):
        np.testing.assert_allclose(
            column(sweep.points, name), speed * axis / RANGE, rtol=1e-6, err_msg=name
        )
    # A return at the radar itself has no direction.
    assert np.isfinite(sweep.points).all()
    other = dataclasses.replace(fields, doppler_approaching=True)
    np.testing.assert_array_equal(
        column(radar_points(cloud, fields=other), "vx_comp"), -column(sweep.points, "vx_comp")
    )


def test_a_radar_without_speeds_must_say_so():
    cloud = table(x=X, y=Y, rcs=X)
    with pytest.raises(ConvertError, match=r"lacks vx_comp, vy_comp; .*doppler: one with radial"):
        radar_points(cloud)
    none = RadarFieldsConfig(vx_comp="", vy_comp="", vx="", vy="")
    assert not none.relative
    assert column(radar_points(cloud, fields=none), "vx_comp").max() == 0
    with pytest.raises(ParameterError, match="vx_comp and vy_comp must both name a field"):
        RadarFieldsConfig(vy_comp="")


SPEEDS = st.floats(-30, 30, width=32)


@settings(deadline=None, max_examples=40)
@given(own=st.tuples(SPEEDS, SPEEDS), turn=st.floats(-1, 1), seen=st.integers(0, 2**32 - 1))
def test_the_radars_own_motion_is_taken_out(own, turn, seen):
    """What stands still has no speed over ground, whatever the vehicle does."""
    base_T_radar = geometry.pose([3.0, 1.0, 0.5], geometry.yaw_to_quat_wxyz(0.7))
    before, now = (
        np.eye(4),
        geometry.pose([own[0] * 0.05, own[1] * 0.05, 0.0], geometry.yaw_to_quat_wxyz(turn * 0.05)),
    )
    motion = PoseBuffer()
    motion.add(STAMP - 50_000_000, before)
    motion.add(STAMP, now)
    # The velocity of the radar by brute force: where it was, where it is, in its own axes.
    old, new = (pose @ base_T_radar for pose in (before, now))
    velocity = geometry.rotate(geometry.invert(new), (new - old)[:3, 3] / 0.05)

    rng = np.random.default_rng(seen)
    positions = rng.uniform([1, -20, -2], [60, 20, 4], (20, 3))
    rays = positions / np.linalg.norm(positions, axis=1, keepdims=True)
    over_ground = np.where(rng.random(20) < 0.5, 0.0, rng.uniform(-20, 20, 20))
    radial = over_ground - rays @ velocity
    rcs = np.zeros(20)
    x, y, z = positions.T
    vectors = radial[:, None] * rays[:, :2] / np.square(rays[:, :2]).sum(1, keepdims=True)
    for cloud, fields in [
        (table(x=x, y=y, z=z, rcs=rcs, v=radial), RadarFieldsConfig(doppler="v")),
        (
            table(x=x, y=y, z=z, rcs=rcs, vx=vectors[:, 0], vy=vectors[:, 1]),
            RadarFieldsConfig(vx_comp="", vy_comp=""),
        ),
    ]:
        sweep = radar_clouds.sweep(cloud, radar="RADAR_FRONT", fields=fields)
        assert sweep.relative
        rig = ros_rig.calibration()
        rig.add("base_link", "radar", base_T_radar)
        frame_set = FrameSet(
            stamp_ns=STAMP,
            trigger="RADAR_FRONT",
            images={},
            sweeps={"RADAR_FRONT": (Timed(STAMP, sweep),)},
        )
        frame = frames.frame_from_set(frame_set, extrinsics=rig, motion=motion, image=None)
        turned = geometry.rotate(
            base_T_radar, np.c_[over_ground[:, None] * rays[:, :2], np.zeros(20)]
        )
        np.testing.assert_allclose(frame.radar[:, 8:10], turned[:, :2], atol=2e-3)
        # With motion off the vehicle stands still: the speeds stay as they were measured.
        still = frames.frame_from_set(frame_set, extrinsics=rig, motion=NoMotion(), image=None)
        as_measured = geometry.rotate(
            base_T_radar, np.c_[radial[:, None] * rays[:, :2], np.zeros(20)]
        )
        np.testing.assert_allclose(still.radar[:, 8:10], as_measured[:, :2], atol=2e-3)


def test_every_radar_of_a_frame_keeps_its_own_speeds():
    sweeps = {
        radar: (Timed(STAMP, Sweep(points=ros_rig.radar_points(seed), frame_id=radar)),)
        for seed, radar in enumerate(RADARS)
    }
    frame_set = FrameSet(stamp_ns=STAMP, trigger=RADARS[0], images={}, sweeps=sweeps)
    frame = frames.frame_from_set(
        frame_set, extrinsics=ros_rig.calibration(), motion=NoMotion(), image=None
    )
    for seed, radar in enumerate(RADARS):
        want = geometry.rotate(ros_rig.extrinsics()[radar], ros_rig.radar_points(seed)[:, 8:10])[
            :, :2
        ]
        got = frame.radar[frame.radar[:, 19] == seed][:, 8:10]
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


# -- broken ---------------------------------------------------------------------------------------


def test_points_with_many_numbers_and_twice_the_same_name_are_refused(make):
    message = ros_rig.radar_cloud(make, "RADAR_FRONT", STAMP)
    message.fields[3].count = 5
    message.fields[3].offset = 0
    assert radar_points(message).shape == (40, 18)
    message.fields[4].name = "x"
    message.fields[4].datatype = 7
    with pytest.raises(ConvertError, match=r"^RADAR_FRONT: "):
        radar_points(message, source="RADAR_FRONT")
    wide = ros_rig.radar_cloud(make, "RADAR_FRONT", STAMP)
    wide.point_step = len(wide.data)
    wide.row_step, wide.width = wide.point_step, 1
    wide.fields[3].count = 1000
    with pytest.raises(ConvertError, match="1017 numbers in a point; expected at most 256"):
        radar_points(wide)


def test_fields_without_a_count_are_named_as_such(make):
    """Drivers forget it: the default of a message is 0. Then no field is missing by its name."""
    message = ros_rig.radar_cloud(make, "RADAR_FRONT", STAMP)
    for field in message.fields:
        field.count = 0
    with pytest.raises(ConvertError, match="RADAR_FRONT: field 'x' has count 0; expected 1"):
        radar_points(message, source="RADAR_FRONT")


NUMBERS = st.one_of(st.integers(0, 60), st.integers(0, 2**32 - 1))
POINT_FIELDS = st.builds(
    SimpleNamespace,
    name=st.sampled_from([*REQUIRED, "vx", "dyn_prop", "", "x"]),
    offset=NUMBERS,
    datatype=st.integers(0, 255) | st.sampled_from([7, 7, 7, 8, 1]),
    count=st.sampled_from([1, 1, 1, 0, 2, 2**32 - 1]),
)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_cloud_is_an_error_or_points(data):
    good = ros_rig.radar_cloud(message_types.make, "RADAR_FRONT", STAMP)
    parts = {name: getattr(good, name) for name in ("height", "width", "point_step", "row_step")}
    for name in data.draw(st.sets(st.sampled_from(sorted(parts)))):
        parts[name] = data.draw(NUMBERS)
    fields = data.draw(st.just(list(good.fields)) | st.lists(POINT_FIELDS, max_size=8))
    content = np.random.default_rng(0).integers(0, 256, 2000, dtype=np.uint8)
    message = SimpleNamespace(
        header=good.header,
        fields=fields,
        is_bigendian=data.draw(st.booleans()),
        data=data.draw(st.sampled_from([good.data, content, content[:0], content[:43]])),
        is_dense=True,
        **parts,
    )
    tracemalloc.start()
    try:
        points = radar_points(message, source="RADAR_FRONT")
    except ConvertError as error:
        assert str(error).startswith("RADAR_FRONT: ")
    else:
        assert points.shape[1] == 18
        used = [RADAR_FIELDS.index(name) for name in USED]
        assert np.isfinite(points[:, used]).all()
        assert len(points) <= max(1, len(message.data))
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 4e6


def columns(**fields) -> np.ndarray:
    """Structured records of float32 columns."""
    records = np.zeros(len(next(iter(fields.values()))), [(name, "<f4") for name in fields])
    for name, values in fields.items():
        records[name] = values
    return records


def of(records, fields=None):
    cloud = ros_rig.cloud(message_types.make, "radar_front", STAMP, records)
    return radar_points(cloud, source="RADAR_FRONT", fields=fields)


def test_a_network_of_view_of_delft_sees_of_a_cloud_what_it_saw_of_its_file(tmp_path):
    """With the mapping of docs/ros.md; a cloud has no codes, and files taught it none."""
    root = vod_tiny.write(tmp_path)
    (trained,) = VodFrames(Vod(root), "train", radar_sweeps=1)
    scan = read_scans(Vod(root).radar(trained.token, 1))
    names = ("x", "y", "z", "RCS", "v_r", "v_r_compensated", "time")
    cloud = columns(**dict(zip(names, scan.T, strict=True)))
    mapping = RadarFieldsConfig(rcs="RCS", doppler="v_r_compensated", doppler_compensated=True)
    sweep = RadarSweep(
        stamp_ns=STAMP,
        sensor=RADARS.index("RADAR_FRONT"),
        points=of(cloud, mapping),
        ego_T_radar=EGO_T_LIDAR @ vod_tiny.lidar_T_radar(),
    )
    live = dataclasses.replace(trained, radar=accumulate([sweep], STAMP))
    config = dataclasses.replace(preset("vod_student").detector, camera=None)
    seen, ours = (collate([frame], config).radar.numpy() for frame in (live, trained))
    assert len(ours) and not ours[:, 7:].any(), "no code"
    np.testing.assert_allclose(seen, ours, atol=1e-5)
    # A network of nuScenes has learned what its own radars say.
    other = collate([live], preset("demo_radar").detector).radar
    assert other[:, ENCODED_COLUMNS.index("dyn_prop=4")].all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", RADAR_FIELDS)
def test_only_columns_in_use_drop_a_return(name, value):
    points = np.abs(ros_rig.radar_points(2, count=6)) + 1
    values = {field: points[:, i].copy() for i, field in enumerate(RADAR_FIELDS)}
    values[name][2] = value
    got = of(columns(**values))
    if name in USED and not (name == "z" and np.isnan(value)):
        np.testing.assert_array_equal(got, np.delete(points, 2, 0))
        return
    assert len(got) == 6
    if name in ("vx", "vy"):
        assert np.isnan(got[2, RADAR_FIELDS.index(name)])
    else:
        assert np.isfinite(got).all() and got[2, RADAR_FIELDS.index(name)] == 0
    # A column that nobody fills costs no return.
    values[name][:] = value
    assert len(of(columns(**values))) == 6


def test_an_emptied_cloud_is_an_error_and_an_empty_one_is_none():
    points = ros_rig.radar_points(2, count=6)
    values = {field: points[:, i].copy() for i, field in enumerate(RADAR_FIELDS)}
    values["rcs"][:] = np.nan
    with pytest.raises(ConvertError, match="RADAR_FRONT: 6 returns, and not one has a finite rcs"):
        of(columns(**values))
    values["x"][:] = np.nan  # "No return", as nuScenes writes it.
    assert len(of(columns(**values))) == 0
    assert len(of(columns(**{name: [] for name in RADAR_FIELDS}))) == 0


MAKERS = {
    "View-of-Delft": (
        "x y z RCS v_r v_r_compensated time",
        "rcs: RCS, doppler: v_r_compensated, doppler_compensated: true",
    ),
    "77 GHz board": ("x y z velocity intensity", "rcs: '', doppler: velocity"),
    "polar": (
        "range azimuth elevation doppler rcs",
        "range: range, azimuth: azimuth, elevation: elevation, doppler: doppler",
    ),
    "corner": (
        "Range Speed_Radial Azimuth_Angle Elevation_Angle RCS Power",
        "range: Range, azimuth: Azimuth_Angle, elevation: Elevation_Angle, rcs: RCS, "
        "doppler: Speed_Radial",
    ),
    "radial distance": (
        "radial_distance azimuth_angle radial_velocity rcs",
        "range: radial_distance, azimuth: azimuth_angle, doppler: radial_velocity",
    ),
    "long range": (
        "f_Range f_AzimuthAngle f_RangeRate f_RCS",
        "range: f_Range, azimuth: f_AzimuthAngle, rcs: f_RCS, doppler: f_RangeRate",
    ),
    "event": (
        "Range VrelRad Azimuth RCS",
        "range: Range, azimuth: Azimuth, rcs: RCS, doppler: VrelRad",
    ),
    "imaging": ("x y z v r RCS azimuth elevation", "rcs: RCS, doppler: v"),
    "capitals": ("X Y Z Doppler Power", "position: X Y Z, rcs: '', doppler: Doppler"),
    "short": ("x y z pw vel", "rcs: '', doppler: vel"),
    "degrees": (
        "range azimuth_deg elevation_deg doppler s_RCS",
        "range: range, azimuth: azimuth_deg, elevation: elevation_deg, degrees: true, "
        "rcs: s_RCS, doppler: doppler",
    ),
    "positions": (
        "pos_x pos_y pos_z v_r rcs_db",
        "position: pos_x pos_y pos_z, rcs: rcs_db, doppler: v_r",
    ),
    "relative": ("x y vx vy rcs", "vx_comp: '', vy_comp: ''"),
    "places only": ("x y z", "rcs: '', vx_comp: '', vy_comp: '', vx: '', vy: ''"),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_the_error_names_a_mapping_that_reads_the_cloud(maker):
    names, said = MAKERS[maker]
    records = columns(**{name: np.linspace(0.1, 0.9, 5) for name in names.split()})
    with pytest.raises(ConvertError) as caught:
        of(records)
    text = str(caught.value)
    assert f"perhaps radar_fields: {{{said}}}" in text, text
    mapping = yaml.safe_load(text.partition("perhaps radar_fields: ")[2])
    assert len(of(records, RadarFieldsConfig(**mapping))) == 5


def test_a_speed_that_nobody_recognises_is_not_thrown_away():
    with pytest.raises(ConvertError) as caught:
        of(columns(x=[1.0], y=[2.0], z=[0.0], id=[0.0], fast=[3.0], rcs=[0.0]))
    text = str(caught.value)
    assert "perhaps radar_fields.doppler, but no speed recognised among: fast;" in text, text


def test_angles_in_degrees_are_not_read_as_radians():
    polar = {"range": "r", "azimuth": "az", "elevation": "el", "doppler": "v"}
    fields = RadarFieldsConfig(**polar, rcs="")
    turns = [np.nan, np.inf, 2 * np.pi, -2 * np.pi, -1.0]
    flat = {"r": [5.0] * 5, "el": [np.pi / 2, -np.pi / 2, 0, 0, np.nan], "v": [1.0] * 5}
    assert len(of(columns(az=turns, **flat), fields)) == 3
    for name, at, limit in (("az", -48.0, "6.28"), ("el", 9.0, "1.57")):
        bad = columns(**{**flat, "az": turns, name: [0.0, np.nan, at, 0.0, 0.0]})
        text = f"expected {name} in radians, at most {limit}, got {abs(at):g}; is it in degrees"
        with pytest.raises(ConvertError, match=text):
            of(bad, fields)
        assert len(of(bad, dataclasses.replace(fields, degrees=True))) >= 3
    # The suggestion of names says it as well.
    named = columns(range=[5.0], azimuth=[48.0], doppler=[1.0], rcs=[0.0])
    with pytest.raises(ConvertError, match="azimuth: azimuth, degrees: true, doppler: doppler}"):
        of(named)


def test_polar_coordinates_become_places():
    records = columns(r=[10.0, 20.0], az=[0.0, 90.0], el=[30.0, np.nan], v=[1.0, -2.0])
    fields = RadarFieldsConfig(
        range="r", azimuth="az", elevation="el", degrees=True, rcs="", doppler="v"
    )
    got = of(records, fields)
    np.testing.assert_allclose(got[:, :3], [[8.6602540, 0, 5], [0, 20, 0]], atol=1e-5)
    np.testing.assert_allclose(got[:, 8:10], [[0.8660254, 0], [0, -2]], atol=1e-6)
    right = of(records, dataclasses.replace(fields, clockwise=True))
    np.testing.assert_allclose(right[1, :2], [0, -20], atol=1e-5)
    for wrong in ({"range": "r"}, {"azimuth": "az"}, {"elevation": "el"}):
        with pytest.raises(ParameterError, match="range and azimuth belong together"):
            RadarFieldsConfig(**wrong)


def real_read_points(cloud):
    """What sensor_msgs_py.point_cloud2 does (ROS 2 humble and jazzy), for clouds of any class."""
    kinds = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 8: "<f8"}
    names, offsets, formats = [], [], []
    for i, field in enumerate(cloud.fields):
        kind = np.dtype(kinds[field.datatype])
        name = field.name or f"unnamed_field_{i}"
        assert field.count > 0, "Can't process fields with count = 0."
        for a in range(field.count):
            part = f"{name}_{a}" if field.count > 1 else name
            assert part not in names, "Duplicate field names are not allowed!"
            names.append(part)
            offsets.append(field.offset + a * kind.itemsize)
            formats.append(kind.str)
    dtype = np.dtype(
        {"names": names, "formats": formats, "offsets": offsets, "itemsize": cloud.point_step}
    )
    return np.ndarray((cloud.width * cloud.height,), dtype, buffer=cloud.data)


def hostile_clouds():
    """(what is wrong, cloud)."""

    def cloud(**changes):
        made = ros_rig.radar_cloud(message_types.make, "RADAR_FRONT", STAMP, seed=1)
        for name, value in changes.items():
            setattr(made, name, value)
        return made

    def field(number, **changes):
        made = cloud()
        for name, value in changes.items():
            setattr(made.fields[number], name, value)
        return made

    yield "nothing", cloud()
    yield "count 0 of x", field(0, count=0)
    yield "count 0 of an unused one", field(4, count=0)
    yield "no name", field(4, name="")
    yield "no names", cloud(fields=[])
    yield "two names", field(4, name="x")
    yield "an array of two", field(4, count=2, datatype=2)
    yield "an array called as a field", field(4, name="id", count=2, datatype=2)
    yield "datatype 0", field(4, datatype=0)
    yield "datatype 9", field(4, datatype=9)
    yield "an offset beyond", field(4, offset=43)
    yield "step 0", cloud(point_step=0)
    yield "step 1", cloud(point_step=1)
    yield "more points than bytes", cloud(width=10**6)
    yield "rows", cloud(height=2)
    yield "no data", cloud(data=np.zeros(0, np.uint8))
    yield "no points", cloud(width=0, data=np.zeros(0, np.uint8))


@pytest.mark.parametrize("what", [name for name, _ in hostile_clouds()])
def test_the_stand_in_and_the_real_reader_give_one_verdict(what, monkeypatch):
    verdicts = []
    for reader in (ros_packages.read_points, real_read_points):
        monkeypatch.setattr(ros_packages, "read_points", reader)
        try:
            points = radar_points(dict(hostile_clouds())[what], source="RADAR_FRONT")
            verdicts.append(points.tolist())
        except ConvertError as error:
            verdicts.append(type(error))
    assert verdicts[0] == verdicts[1]
    assert (verdicts[0] is ConvertError) == (
        what
        not in ("nothing", "no name", "an array of two", "no points", "an array called as a field")
    )
