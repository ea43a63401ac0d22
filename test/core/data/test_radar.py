import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core.data.radar import (
    ENCODED_COLUMNS,
    RADAR_DTYPE,
    USED,
    RadarError,
    RadarSweep,
    accumulate,
    encode,
    from_records,
    to_records,
)
from crkd_core.data.radar_file import encode_pcd, read_pcd
from crkd_core.geometry import pose
from crkd_core.sensors import RADAR_COLUMNS, RADAR_FIELDS, RADARS

COLUMN = {name: i for i, name in enumerate(RADAR_COLUMNS)}
INTEGERS = [i for i, name in enumerate(RADAR_FIELDS) if RADAR_DTYPE[name].kind == "i"]


def cloud(rng, count=9):
    points = rng.normal(0, 20, (count, 18)).astype(np.float32)
    points[:, INTEGERS] = rng.integers(0, 18, (count, len(INTEGERS)))
    points[:, COLUMN["id"]] = rng.integers(-300, 3000, count)
    return points


def test_records_have_the_layout_of_nuscenes():
    # docs/nuscenes.md, "Radar files"
    offsets = [RADAR_DTYPE.fields[name][1] for name in RADAR_FIELDS]
    assert offsets == [0, 4, 8, 12, 13, 15, 19, 23, 27, 31, 35, 36, 37, 38, 39, 40, 41, 42]
    assert RADAR_DTYPE.itemsize == 43


@pytest.mark.parametrize("count", [0, 1, 130])
def test_files_round_trip(tmp_path, count):
    points = cloud(np.random.default_rng(0), count)
    (tmp_path / "a.pcd").write_bytes(encode_pcd(points))
    back = read_pcd(tmp_path / "a.pcd")
    assert back.dtype == np.float32 and np.array_equal(back, points)


@pytest.mark.parametrize("count", [0, 1, 130])
def test_the_devkit_reads_our_files(tmp_path, count):
    devkit = pytest.importorskip("nuscenes.utils.data_classes")
    points = cloud(np.random.default_rng(1), count)
    (tmp_path / "a.pcd").write_bytes(encode_pcd(points))
    theirs = devkit.RadarPointCloud.from_file(
        str(tmp_path / "a.pcd"), list(range(18)), list(range(-1, 18)), list(range(18))
    ).points.T
    # The devkit keeps only states in the lists: all that we draw.
    assert np.array_equal(theirs, points)


def test_rows_that_are_not_finite_are_dropped(tmp_path):
    points = cloud(np.random.default_rng(2), 5)
    records = to_records(points)
    records["rcs"][1] = np.nan
    records["vx_comp"][3] = np.inf
    assert np.array_equal(from_records(records), points[[0, 2, 4]])


@pytest.mark.parametrize("name", ["id", "x_rms", "vy_rms", "is_quality_valid", "vx", "vy", "z"])
def test_columns_that_nobody_reads_do_not_decide(name, caplog):
    points = cloud(np.random.default_rng(2), 5)
    wide = np.dtype([(field, "<f4") for field in RADAR_FIELDS])
    records = points.astype("<f4").view(wide)[:, 0].copy()
    records[name] = np.nan
    kept = from_records(records)
    assert len(kept) == 5
    used = [COLUMN[one] for one in USED if one != "z"]
    assert np.array_equal(kept[:, used], points[:, used])
    assert np.isfinite(encode_all(kept)).all()
    assert np.isnan(kept[:, COLUMN[name]]).all() == (name in ("vx", "vy"))


def encode_all(points):
    """What the network sees of a sweep."""
    one = np.eye(4)
    one[:2, :2] = [[0.6, -0.8], [0.8, 0.6]]
    sweep = RadarSweep(stamp_ns=0, sensor=0, points=points, ego_T_radar=one)
    return encode(accumulate([sweep], 0))


def test_a_cloud_that_is_emptied_is_reported(tmp_path, caplog):
    points = cloud(np.random.default_rng(2), 5)
    (tmp_path / "a.pcd").write_bytes(encode_pcd(points))
    data = (tmp_path / "a.pcd").read_bytes()
    records = to_records(points)
    records["rcs"] = np.nan
    start = data.index(b"DATA binary\n") + len(b"DATA binary\n")
    (tmp_path / "a.pcd").write_bytes(data[:start] + records.tobytes() + b"\n")
    assert len(read_pcd(tmp_path / "a.pcd")) == 0
    assert "a.pcd: none of its 5 returns is left: rcs is not finite in any" in caplog.text
    caplog.clear()
    (tmp_path / "a.pcd").write_bytes(data[:start] + bytes(len(data) - start))
    assert len(read_pcd(tmp_path / "a.pcd")) == 5
    assert "a.pcd: all of its 5 points are at x, y, z 0 0 0" in caplog.text
    caplog.clear()
    # How nuScenes says that there are no returns.
    (tmp_path / "a.pcd").write_bytes(encode_pcd(points[:0]))
    assert len(read_pcd(tmp_path / "a.pcd")) == 0 and not caplog.text


@pytest.mark.parametrize(
    ("field", "factor"), [("x", 1000.0), ("y", -1000.0), ("vx_comp", 1e4), ("rcs", 1e6)]
)
def test_other_units_are_refused_with_the_field(tmp_path, field, factor):
    points = cloud(np.random.default_rng(2), 50)
    points[:, COLUMN[field]] *= factor
    (tmp_path / "a.pcd").write_bytes(encode_pcd(points))
    with pytest.raises(RadarError, match=rf"a\.pcd: field {field}: expected at most"):
        read_pcd(tmp_path / "a.pcd")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "a.pcd"
    path.write_bytes(encode_pcd(cloud(np.random.default_rng(4), 6)))
    return path, path.read_bytes()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    place=st.one_of(st.floats(0, 1, exclude_max=True), st.floats(0, 0.6)),
    cut=st.integers(0, 12),
    put=st.binary(max_size=12),
)
def test_any_damage_of_a_file_is_refused_or_a_cloud(good, place, cut, put):
    path, data = good
    at = int(place * len(data))
    other = path.with_name("b.pcd")
    other.write_bytes(data[:at] + put + data[at + cut :])
    try:
        points = read_pcd(other)
    except RadarError as error:
        assert str(error).startswith(f"{other}: ") and "\n" not in str(error)
    else:
        assert points.shape[1] == 18 and np.isfinite(encode_all(points)).all()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    key=st.sampled_from(["FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "POINTS", "DATA"]),
    word=st.integers(0, 17),
    value=st.one_of(
        st.integers(-(2**65), 2**65).map(str),
        st.sampled_from(["", "F", "O", "M", "V", "U", "x", "nan", "1e3", "-1", "0", "\xff", "8"]),
    ),
)
def test_any_header_is_refused_or_read_as_it_is_meant(good, key, word, value):
    path, data = good
    lines = data.split(b"\n", 11)
    row = next(i for i, line in enumerate(lines) if line.startswith(key.encode()))
    words = lines[row].split(b" ")
    words[1 + word % (len(words) - 1)] = value.encode("latin-1")
    lines[row] = b" ".join(words)
    other = path.with_name("c.pcd")
    other.write_bytes(b"\n".join(lines))
    try:
        points = read_pcd(other)
    except RadarError as error:
        assert "\n" not in str(error)
    else:
        # Nothing but what was there; a type of the same width may read other numbers out of it.
        assert len(points) <= 6


@pytest.mark.parametrize("lost", [2, 44, 400, 700])
def test_truncated_file_is_an_error_naming_it(tmp_path, lost):
    path = tmp_path / "a.pcd"
    path.write_bytes(encode_pcd(cloud(np.random.default_rng(3), 10)))
    data = path.read_bytes()
    path.write_bytes(data[:-lost])
    with pytest.raises(RadarError, match=r"a\.pcd: truncated"):
        read_pcd(path)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (b"DATA binary", b"DATA ascii", "expected DATA binary, got DATA ascii"),
        (b" rcs ", b" rsc ", "radar fields rcs are missing; found x, y, z"),
        (b"POINTS 3", b"POINTS x", "malformed PCD header"),
        (b"SIZE 4 4", b"SIZE 4", "malformed PCD header"),
        (b"COUNT 1 1", b"COUNT 1 2", "expected COUNT 1"),
        (b"FIELDS", b"FEELDS", "malformed PCD header: 'FIELDS'"),
    ],
)
def test_other_headers_are_errors(tmp_path, old, new, text):
    path = tmp_path / "a.pcd"
    path.write_bytes(encode_pcd(cloud(np.random.default_rng(3), 3)))
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(RadarError, match=f"a.pcd: {text}"):
        read_pcd(path)


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(RadarError, match=r"gone\.pcd: cannot read radar file: No such file"):
        read_pcd(tmp_path / "gone.pcd")


def test_values_that_do_not_fit_are_not_written():
    points = cloud(np.random.default_rng(3), 3)
    points[1, COLUMN["pdh0"]] = 200
    with pytest.raises(RadarError, match=r"radar field pdh0: expected values in -128"):
        encode_pcd(points)
    points[1, COLUMN["pdh0"]] = np.nan
    with pytest.raises(RadarError, match="radar field pdh0"):
        encode_pcd(points)
    with pytest.raises(RadarError, match=r"expected radar points \[N, 18\], got \(3, 5\)"):
        encode_pcd(points[:, :5])


def slow_accumulate(sweeps, stamp):
    rows = []
    for sweep in sweeps:
        age = (stamp - sweep.stamp_ns) / 1e9
        for point in sweep.points.astype(float):
            out = [*point, age, sweep.sensor]
            where = sweep.ego_T_radar @ [point[0], point[1], point[2], 1]
            v = sweep.ego_T_radar @ [point[6], point[7], 0, 0]
            comp = sweep.ego_T_radar @ [point[8], point[9], 0, 0]
            out[0:3] = where[:3]
            out[6:8], out[8:10] = v[:2], comp[:2]
            out[0] += comp[0] * age
            out[1] += comp[1] * age
            rows.append(out)
    return np.array(rows).reshape(-1, 20)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 6), max_size=4))
def test_accumulation_agrees_with_a_loop(seed, counts):
    rng = np.random.default_rng(seed)
    stamp = 1_532_402_927_612_460_000
    sweeps = [
        RadarSweep(
            stamp_ns=stamp - int(rng.integers(0, 500_000_000)),
            sensor=int(rng.integers(5)),
            points=cloud(rng, count),
            ego_T_radar=pose(rng.normal(0, 3, 3), rng.normal(size=4)),
        )
        for count in counts
    ]
    got = accumulate(sweeps, stamp)
    assert got.dtype == np.float32 and got.shape == (sum(counts), 20)
    assert np.allclose(got, slow_accumulate(sweeps, stamp), rtol=1e-5, atol=1e-4)


def test_a_parked_object_does_not_move_and_a_moving_one_catches_up():
    points = np.zeros((2, 18), np.float32)
    points[:, 0] = 10
    points[1, COLUMN["vx_comp"]] = 5
    turned = pose([1.0, 2.0, 0.5], [np.cos(np.pi / 4), 0, 0, np.sin(np.pi / 4)])
    sweep = RadarSweep(stamp_ns=0, sensor=2, points=points, ego_T_radar=turned)
    out = accumulate([sweep], 200_000_000)
    assert np.allclose(out[:, :3], [[1, 12, 0.5], [1, 13, 0.5]], atol=1e-5)
    assert np.allclose(out[:, 8:10], [[0, 0], [0, 5]], atol=1e-5)
    assert np.allclose(out[:, 18:], [[0.2, 2], [0.2, 2]])


def test_sweeps_of_the_future_are_an_error():
    sweep = RadarSweep(
        stamp_ns=6, sensor=0, points=np.zeros((1, 18), np.float32), ego_T_radar=np.eye(4)
    )
    with pytest.raises(
        RadarError, match=f"{RADARS[0]}: sweep at 6 ns .* newer than the reference"
    ):
        accumulate([sweep], 5)


def test_sweeps_are_checked():
    points = np.zeros((1, 18), np.float32)
    with pytest.raises(RadarError, match="points"):
        RadarSweep(stamp_ns=0, sensor=0, points=points[:, :4], ego_T_radar=np.eye(4))
    with pytest.raises(RadarError, match=r"sensor: expected 0\.\.4, got 5"):
        RadarSweep(stamp_ns=0, sensor=5, points=points, ego_T_radar=np.eye(4))
    with pytest.raises(RadarError, match="ego_T_radar"):
        RadarSweep(stamp_ns=0, sensor=0, points=points, ego_T_radar=np.eye(3))


def test_encoding_agrees_with_a_loop():
    rng = np.random.default_rng(5)
    points = np.zeros((200, 20), np.float32)
    points[:, :18] = cloud(rng, 200)
    points[:, COLUMN["pdh0"]] = rng.integers(0, 8, 200)
    points[0, COLUMN["dyn_prop"]] = -1
    got = encode(points)
    assert got.shape == (200, len(ENCODED_COLUMNS)) == (200, 45) and got.dtype == np.float32
    for row, point in zip(got, points, strict=True):
        for value, name in zip(row, ENCODED_COLUMNS, strict=True):
            if "=" in name:
                field, code = name.split("=")
                assert value == (point[COLUMN[field]] == int(code)), name
            elif ">" in name:
                field, code = name.split(">")
                assert value == (point[COLUMN[field]] > int(code)), name
            else:
                assert value == point[COLUMN[name]], name
    assert not got[0, 7:15].any()


def test_encoding_wants_accumulated_points():
    with pytest.raises(RadarError, match=r"expected radar points \[N, 20\], got \(3, 18\)"):
        encode(np.zeros((3, 18), np.float32))


def test_published_columns_are_reproduced():
    """Numbers of the published implementation; the files are not part of this repository."""
    default = Path(__file__).parents[4] / "shared" / "golden"
    path = Path(os.environ.get("CRKD_GOLDEN", default)) / "data.npz"
    if not path.exists():
        pytest.skip(f"no golden vectors at {path}; set CRKD_GOLDEN to their folder")
    golden = np.load(path)
    clouds = []
    for sensor in range(2):
        sweeps = []
        for number in range(6):
            key = f"radar{sensor}.sweep{number}."
            if key + "raw" not in golden:
                break
            lidar_T_radar = np.eye(4)
            lidar_T_radar[:3, :3] = golden[key + "sensor2lidar_rotation"]
            lidar_T_radar[:3, 3] = golden[key + "sensor2lidar_translation"]
            sweeps.append(
                RadarSweep(
                    stamp_ns=int(golden[key + "timestamp_us"]) * 1000,
                    sensor=sensor,
                    points=golden[key + "raw"],
                    ego_T_radar=lidar_T_radar,
                )
            )
        assert len(sweeps) > 1
        # The published age counts from the radar's newest sweep.
        clouds.append(accumulate(sweeps, max(sweep.stamp_ns for sweep in sweeps)))
    got = encode(np.concatenate(clouds))
    expected = golden["radar.rows45"]
    assert np.allclose(got, expected, rtol=1e-5, atol=1e-5)
