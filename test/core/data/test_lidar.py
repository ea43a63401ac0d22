import numpy as np
import pytest

from crkd_core.data.lidar import LidarError, LidarSweep, accumulate, encode_bin, read_bin
from crkd_core.geometry import pose


def cloud(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 2, (count, 5)).astype(np.float32)


@pytest.mark.parametrize("count", [0, 1, 500])
def test_files_round_trip(tmp_path, count):
    points = cloud(count)
    (tmp_path / "a.pcd.bin").write_bytes(encode_bin(points))
    back = read_bin(tmp_path / "a.pcd.bin")
    assert back.dtype == np.float32 and np.array_equal(back, points)
    assert back.flags.writeable


def test_the_devkit_reads_our_files(tmp_path):
    devkit = pytest.importorskip("nuscenes.utils.data_classes")
    (tmp_path / "a.pcd.bin").write_bytes(encode_bin(cloud(30)))
    theirs = devkit.LidarPointCloud.from_file(str(tmp_path / "a.pcd.bin")).points.T
    assert np.array_equal(theirs, cloud(30)[:, :4])


def test_broken_files_are_errors_naming_them(tmp_path):
    path = tmp_path / "a.pcd.bin"
    with pytest.raises(LidarError, match=r"a\.pcd\.bin: cannot read LiDAR file: No such file"):
        read_bin(path)
    path.write_bytes(encode_bin(cloud(3)))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(LidarError, match=r"a\.pcd\.bin: truncated, .* multiple of 20 .* got 57"):
        read_bin(path)
    with pytest.raises(LidarError, match=r"expected LiDAR points \[N, 5\], got \(3, 4\)"):
        encode_bin(cloud(3)[:, :4])


def test_a_file_of_which_nothing_is_left_is_warned_of(tmp_path, caplog):
    path, points = tmp_path / "a.pcd.bin", cloud(30)
    points[:29, 3] = points[:, 4] = np.nan  # The ring is not read.
    path.write_bytes(encode_bin(points))
    assert len(read_bin(path)) == 30 and not caplog.text
    points[29, 3] = np.inf
    path.write_bytes(encode_bin(points))
    sweep = LidarSweep(stamp_ns=0, points=read_bin(path), ego_T_lidar=np.eye(4))
    assert not len(accumulate([sweep], 0))
    assert "a.pcd.bin: none of its 30 points is left: intensity is not finite" in caplog.text
    # No column is lost, and every point is. Told once, however often the file is read.
    points = cloud(30)
    points[:15, 0] = points[15:, 1] = np.nan
    path.write_bytes(encode_bin(points))
    assert len(read_bin(path)) == len(read_bin(path)) == 30
    assert caplog.text.count("a.pcd.bin: none of its 30 points is left: some field") == 1
    path.write_bytes(b"")
    assert not len(read_bin(path)) and "a.pcd.bin: holds no point" in caplog.text
    path.write_bytes(bytes(30 * 20))
    assert len(read_bin(path)) == 30
    assert "a.pcd.bin: all of its 30 points are at x, y, z 0 0 0" in caplog.text


def test_accumulation_agrees_with_a_loop():
    rng = np.random.default_rng(1)
    key = 1_532_402_927_612_460_000
    sweeps = [
        LidarSweep(
            stamp_ns=key - i * 50_000_000,
            points=cloud(80, seed=i),
            ego_T_lidar=pose(rng.normal(0, 3, 3), rng.normal(size=4)),
        )
        for i in range(3)
    ]
    sweeps[1].points[0, 2] = np.nan
    expected = []
    for i, sweep in enumerate(sweeps):
        for x, y, z, intensity, _ in sweep.points.astype(float):
            if not np.isfinite(z) or (i > 0 and abs(x) < 1 and abs(y) < 1):
                continue
            moved = sweep.ego_T_lidar @ [x, y, z, 1]
            expected.append([*moved[:3], intensity, 0.05 * i])
    got = accumulate(sweeps, key)
    assert got.dtype == np.float32 and 80 < len(got) < 239
    assert np.allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert got[:, 4].min() == 0


def test_no_sweeps_are_no_points_and_future_sweeps_an_error():
    assert accumulate([], 0).shape == (0, 5)
    sweep = LidarSweep(stamp_ns=2, points=cloud(1), ego_T_lidar=np.eye(4))
    with pytest.raises(LidarError, match="newer than the key sweep"):
        accumulate([sweep], 1)
    with pytest.raises(LidarError, match="points"):
        LidarSweep(stamp_ns=2, points=cloud(1)[:, :3], ego_T_lidar=np.eye(4))
