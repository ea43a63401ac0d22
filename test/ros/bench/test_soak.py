"""The soak: its arithmetic, its endless drive, and a few seconds of the real thing."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from crkd_ros.bench import soak_report
from crkd_ros.bench.node_peer import Told, by_sensor
from crkd_ros.bench.process_stats import ProcessSample, cpu_by_thread, sample, spent_between
from crkd_ros.bench.soak_report import Slope, SoakRecord, judge, slope
from crkd_ros.node.threads import name_thread

HOUR = 3600.0


def samples(rss, *, start=1000.0):
    return [
        ProcessSample(
            at=start + i,
            rss=float(value),
            anonymous=float(value) - 100,
            shared=10.0,
            threads=20,
            files=30,
            cpu=0.5 * i,
        )
        for i, value in enumerate(rss)
    ]


def record(rss, **fields):
    return SoakRecord(settings={"rate_hz": 12.0}, started=1000.0, samples=samples(rss), **fields)


def noisy(minutes, hourly, *, seed, step=0.5):
    """RSS as allocators make it: a random walk that is pulled back, in steps, plus growth."""
    rng = np.random.default_rng(seed)
    walk, value = [], 0.0
    for _ in range(round(60 * minutes)):
        value = 0.95 * value + rng.normal(0, 0.3)
        walk.append(round(value / step) * step)
    return 700 + np.asarray(walk) + hourly * np.arange(len(walk)) / HOUR


@pytest.mark.parametrize("hourly", [0.0, 20.0, 100.0])
def test_the_interval_holds_the_true_slope_in_most_of_many_runs(hourly):
    hits = 0
    for seed in range(40):
        found = slope(range(1620), noisy(27, hourly, seed=seed))
        hits += found.low <= hourly <= found.high
        assert found.low < found.value < found.high
    assert hits >= 34


def test_memory_that_never_changes_has_no_slope_at_all():
    assert slope(range(600), [700.0] * 600) == Slope(value=0.0, low=0.0, high=0.0)


def test_a_leak_is_seen_and_noise_is_not():
    flat = record(noisy(30, 0.0, seed=1))
    assert judge(flat, warm_up=180, tolerance=5.0).good
    leak = record(noisy(30, 30.0, seed=1))
    verdict = judge(leak, warm_up=180, tolerance=5.0)
    assert verdict.grows
    assert not verdict.good


def test_growth_while_warming_up_is_not_a_leak_and_short_runs_prove_nothing():
    warming = np.concatenate([np.linspace(300, 700, 180), noisy(10, 0.0, seed=3)])
    assert judge(record(warming), warm_up=180, tolerance=5.0).good
    assert judge(record(warming), warm_up=0, tolerance=5.0).grows
    short = judge(record(noisy(0.5, 1e4, seed=3)), warm_up=0, tolerance=5.0)
    assert (short.memory, short.grows, short.good) == (None, None, True)


def test_what_was_sent_and_not_received_is_lost():
    told = Told(received={"CAM_FRONT": 99, "odometry": 500})
    lossy = record(noisy(5, 0, seed=0), told=told)
    lossy.sent = {"CAM_FRONT": 100, "odometry": 500, "RADAR_FRONT": 7}
    verdict = judge(lossy, warm_up=10, tolerance=5.0)
    assert verdict.lost == {"CAM_FRONT": 1, "RADAR_FRONT": 7}
    assert not verdict.good
    types = {
        "/cam_front/image_rect_compressed": "sensor_msgs/msg/CompressedImage",
        "/cam_front/camera_info": "sensor_msgs/msg/CameraInfo",
        "/radar_front": "sensor_msgs/msg/PointCloud2",
        "/odom": "nav_msgs/msg/Odometry",
    }
    assert by_sensor(dict.fromkeys(types, 3), types) == {
        "CAM_FRONT": 3,
        "CAM_FRONT camera_info": 3,
        "RADAR_FRONT": 3,
        "odometry": 3,
    }


def test_reports_are_written_whole_however_short_the_run(tmp_path):
    told = Told(latency={"total": [100.0, 130.0], "other": []}, latency_at=[1001.0, 1002.0])
    for rss in (noisy(5, 0, seed=0), [700.0], []):
        run = record(rss, told=told, sent={"CAM_FRONT": 2}, error="interrupted")
        verdict = judge(run, warm_up=30, tolerance=5.0)
        overall, latency = soak_report.tables(run, verdict, warm_up=30, tolerance=5.0)
        assert "FAILED" in overall.title
        assert "interrupted" in overall.title
        assert dict(overall.rows)["messages lost"] == "2 (CAM_FRONT 2)"
        assert [row[0] for row in latency.rows] == ["total"]
        soak_report.save(run, verdict, tmp_path / "soak.json")
        saved = json.loads((tmp_path / "soak.json").read_text())
        assert saved["lost"] == {"CAM_FRONT": 2}
        assert saved["latency_ms"]["total"]["mean"] == 115.0
        assert len(saved["samples"]) == len(rss)
        soak_report.picture(run, tmp_path / "soak.png", warm_up=30, verdict=verdict)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["soak.json", "soak.png"]


def test_a_process_is_sampled_from_proc():
    ballast = np.ones(30_000_000, np.uint8)
    before = sample(os.getpid())
    assert before.rss > before.anonymous > len(ballast) / 2**20
    with Path(os.devnull).open():
        assert sample(os.getpid()).files == before.files + 1
    # Of the time since: threads that ended before are in the process's time and in no thread's.
    threads = cpu_by_thread(os.getpid())
    since = sample(os.getpid()).cpu
    while sample(os.getpid()).cpu < since + 0.5:
        pass
    spent = sample(os.getpid()).cpu - since
    by_name = spent_between(threads, cpu_by_thread(os.getpid()))
    assert sum(by_name.values()) == pytest.approx(spent, abs=0.2)
    with pytest.raises(OSError, match="No such file"):
        sample(2**22 + 1)


def test_a_thread_is_one_whatever_it_is_called_in_between():
    looks = []

    def work() -> None:
        # As the detecting thread does, looked at while it is in the network.
        for name in ("network", "detect"):
            name_thread(name)
            until = time.thread_time() + 0.3
            while time.thread_time() < until:
                pass
            looks.append(cpu_by_thread(os.getpid()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    spent = spent_between(*looks)
    assert spent["detect"] == pytest.approx(0.3, abs=0.1)
    assert spent["network"] == 0
