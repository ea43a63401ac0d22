"""Single messages with wrong stamps: set aside and named, and everything else stays."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import command_lines
import foreign
import numpy as np
import pytest
from handmade import write_version
from ros_rig import header

from crkd_core.data.nuscenes.reader import NuScenes
from crkd_ros.bags import strays
from crkd_ros.bags.foreign.conversion import convert_bag
from crkd_ros.bags.frames import Recording
from crkd_ros.bags.info import describe
from crkd_ros.bags.message_types import BagError, make
from crkd_ros.bags.reader import read_bag, topics_of
from crkd_ros.bags.strays import find_strays
from crkd_ros.bags.writer import BagWriter
from crkd_ros.convert.arrays import stamp_ns

SCENE = "scene-0103"
SECOND = 10**9
START = 1_700_000_000 * SECOND


@pytest.fixture(scope="module")
def watonomous(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("waterloo")
    tables = NuScenes(write_version(place / "data", samples=4, scenes=(SCENE,)))
    return foreign.watonomous(tables, SCENE, place / "bag")


@pytest.fixture(scope="module")
def clean(watonomous, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("clean") / "bag"
    convert_bag(watonomous, out, with_lidar=False, progress=False)
    return out


def moved(source: Path, out: Path, topic: str, places: set[int], seconds: float | None) -> Path:
    """A copy with some stamps of a topic moved (None: without a stamp)."""
    number = -1
    with BagWriter(out) as bag:
        for record in read_bag(source):
            message = record.message()
            if record.topic == topic:
                number += 1
                if number in places:
                    at = stamp_ns(message.header.stamp) + round((seconds or 0) * SECOND)
                    at = 0 if seconds is None else at
                    message.header = header(make, at, message.header.frame_id)
            bag.write(record.topic, message, record.stamp_ns)
    return out


@pytest.mark.parametrize(
    ("topic", "places", "seconds", "said"),
    [
        ("/CAM_FRONT/image_rect_compressed", {4}, 3600, r"1 of \d+ .* up to 360.* s ahead"),
        ("/CAM_FRONT/image_rect_compressed", {0}, 3600, r"1 of \d+ .* ahead"),
        ("/CAM_BACK_LEFT/image_rect_compressed", {6}, 3600, r"1 of \d+ .* ahead"),
        ("/RADAR_FRONT", {2, 3}, -3600, "2 of .* up to 360.* s behind"),
        ("/RADAR_FRONT", {2}, None, "1 of .* without a stamp"),
        ("/RADAR_BACK_LEFT", {1}, 4.0, "1 of .* s ahead"),
    ],
)
def test_a_stray_costs_itself(watonomous, clean, tmp_path, topic, places, seconds, said) -> None:
    bag = moved(watonomous, tmp_path / "bag", topic, places, seconds)
    done = convert_bag(bag, tmp_path / "out", with_lidar=False, progress=False)
    whole, left = topics_of(clean), topics_of(tmp_path / "out")
    out = topic.lower()
    assert {n: t.count for n, t in left.items() if n[1:4] in ("cam", "rad") and n != out} == {
        n: t.count for n, t in whole.items() if n[1:4] in ("cam", "rad") and n != out
    }
    assert left[out].count == whole[out].count - len(places)
    assert done.end_ns - done.start_ns < 3 * SECOND
    (note,) = [note for note in done.notes if "set aside" in note]
    assert re.search(f"^{topic}: {said}", note), note
    found, before = describe(bag, progress=False), describe(watonomous, progress=False)
    assert found.seconds == pytest.approx(before.seconds, abs=0.2)
    assert list(found.troubles) == [note]


def test_old_or_unstamped_camera_info_holds_for_the_images(watonomous, clean, tmp_path) -> None:
    """Drivers latch one CameraInfo when they start."""
    for name, seconds in (("old", -3600.0), ("none", None)):
        every = set(range(100))
        bag = moved(watonomous, tmp_path / name, "/CAM_BACK/camera_info", every, seconds)
        convert_bag(bag, tmp_path / f"{name}_out", with_lidar=False, progress=False)
        mine = {(r.topic, r.stamp_ns): bytes(r.data) for r in read_bag(tmp_path / f"{name}_out")}
        whole = {(r.topic, r.stamp_ns): bytes(r.data) for r in read_bag(clean)}
        # The last one comes after its image, and no image comes after it.
        assert mine.items() <= whole.items() and len(mine) >= len(whole) - 1


def test_one_damaged_message_is_left_out_and_named(watonomous, clean, tmp_path) -> None:
    topic, number = "/CAM_BACK/image_rect_compressed", -1
    with BagWriter(tmp_path / "bag") as bag:
        for record in read_bag(watonomous):
            data = record.data
            if record.topic in (topic, "/RADAR_FRONT"):
                number += record.topic == topic
                data = b"\0\1\0\0" if number == 2 else data
            bag.write_raw(record.topic, record.type_name, data, record.stamp_ns)
    done = convert_bag(tmp_path / "bag", tmp_path / "out", with_lidar=False, progress=False)
    count = topics_of(watonomous)[topic].count
    wanted = f"{topic}: 1 of {count} messages cannot be used"
    assert any(note.startswith(wanted) for note in done.notes)
    assert any(note.startswith("/RADAR_FRONT: ") for note in done.notes)
    whole, left = topics_of(clean), topics_of(tmp_path / "out")
    assert left[topic.lower()].count == whole[topic.lower()].count - 1
    assert left["/cam_front/camera_info"].count == whole["/cam_front/camera_info"].count
    assert any(
        "cannot be read" in one for one in describe(tmp_path / "bag", progress=False).troubles
    )


def test_a_bag_whose_time_goes_back_is_refused(watonomous, tmp_path) -> None:
    records = list(read_bag(watonomous))
    span = records[-1].stamp_ns - records[0].stamp_ns + SECOND
    with BagWriter(tmp_path / "bag") as bag:
        for turn in range(3):
            for record in records:
                at = record.stamp_ns + turn * span
                bag.write_raw(record.topic, record.type_name, record.data, at)
    with pytest.raises(BagError, match=r"all stamps go back by 1\..*played in a loop"):
        convert_bag(tmp_path / "bag", tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
    with pytest.raises(BagError, match=r"bag: at record time \d+ ns all stamps go back by 1\."):
        Recording(tmp_path / "bag")
    assert any("cut the bag there" in one for one in describe(tmp_path / "bag").troubles)


def test_the_command_says_what_it_set_aside(watonomous, tmp_path) -> None:
    topic = "/CAM_FRONT/image_rect_compressed"
    bag = moved(watonomous, tmp_path / "bag", topic, {3}, 3600)
    done = command_lines.run("bag:app", "convert", bag, tmp_path / "out", "--no-lidar")
    assert done.returncode == 0, done.stderr
    assert "messages are set aside, up to 360" in done.stdout


def stream(seconds: float, rates: dict[str, float]) -> list[tuple[str, int]]:
    """(topic, stamp) in time order."""
    events = [
        (name, START + round(i / rate * SECOND))
        for name, rate in rates.items()
        for i in range(round(seconds * rate))
    ]
    return sorted(events, key=lambda event: event[1])


RATES = {f"cam{i}": 12.0 for i in range(6)} | {f"radar{i}": 13.0 for i in range(5)}


def found_in(events, records=None) -> dict[str, frozenset[int]]:
    stamps = np.array([stamp for _, stamp in events], np.int64)
    records = stamps + 5_000_000 if records is None else np.array(records, np.int64)
    names = [name for name, _ in events]
    counters = {name: itertools.count() for name in names}
    numbers = [next(counters[name]) for name in names]
    return dict(find_strays(names, numbers, stamps, records).places)


@pytest.mark.parametrize("rates", [RATES, {"cam0": 1.0}, {"cam0": 0.2, "radar0": 0.2}])
@pytest.mark.parametrize("apart", [3600.0, -3600.0, 1e6, 12.0, -12.0])
def test_single_strays_anywhere_are_told_from_the_rest(rates, apart) -> None:
    events = stream(120, rates)
    records = [stamp for _, stamp in events]
    for place in (0, 1, 7, len(events) // 2, len(events) - 1):
        if abs(apart) < 13 and rates is not RATES and place in (0, len(events) - 1):
            continue  # As far as from one message to the next: nobody can tell.
        name, stamp = events[place]
        wrong = list(events)
        wrong[place] = name, stamp + round(apart * SECOND)
        number = sum(one == name for one, _ in events[:place])
        assert found_in(wrong, records) == {name: frozenset({number})}, place


def test_many_strays_and_a_sensor_with_another_clock() -> None:
    events = stream(60, RATES)
    records = [stamp for _, stamp in events]
    rng = np.random.default_rng(0)
    chosen = set(rng.choice(len(events), 80, replace=False).tolist())
    wrong = [
        (n, s + int(rng.uniform(2, 1e5) * rng.choice([-1, 1])) * SECOND if i in chosen else s)
        for i, (n, s) in enumerate(events)
    ]
    assert sum(map(len, found_in(wrong, records).values())) == 80
    for ahead in (3600, -3600, 4):
        other = [(n, s + ahead * SECOND if n == "radar2" else s) for n, s in events]
        assert found_in(other, records) == {"radar2": frozenset(range(780))}
    burst = [
        (n, s + 3600 * SECOND if n == "cam1" and 20 < (s - START) / SECOND < 22 else s)
        for n, s in events
    ]
    assert set(found_in(burst, records)) == {"cam1"}


def test_time_goes_back_where_the_next_pass_begins() -> None:
    """Nothing beside that place is wrong but what is."""
    for rates in (RATES, {"cam0": 2.0}):
        events = stream(60, rates)
        span = events[-1][1] - START + SECOND // 2
        records = [stamp + turn * span for turn in range(3) for _, stamp in events]
        looped = events * 3
        topics, stamps = [name for name, _ in looped], np.array([one for _, one in looped])
        numbers = range(len(looped))
        found = find_strays(topics, numbers, stamps, np.array(records))
        assert found.places == {}
        assert found.back is not None and found.back[0] == records[len(events)]
        stamps[len(events) + 2] += 3600 * SECOND
        found = find_strays(topics, numbers, stamps, np.array(records))
        assert found.places == {topics[len(events) + 2]: {len(events) + 2}}


def one_by_one(stamps) -> list[bool]:
    """The slow oracle: of all messages the one that contradicts most, until none does."""
    stray = np.zeros(len(stamps), bool)
    index = np.arange(len(stamps))
    near = np.abs(index[:, None] - index) <= 64
    earlier = index[:, None] < index
    wrong = near & earlier & (stamps[:, None] - stamps > SECOND)
    wrong |= wrong.T
    middle = [abs(stamps[i] - np.median(stamps[near[i]])) for i in index]
    while (counts := (wrong & ~stray & ~stray[:, None]).sum(1)).any():
        worst = max(index.tolist(), key=lambda i: (counts[i], middle[i], -i))
        stray[worst] = True
    return stray.tolist()


def test_strays_are_taken_out_one_by_one_and_each_is_looked_at_once(monkeypatch) -> None:
    rng, looked, whole = np.random.default_rng(0), [0], strays._from_middle

    def counted(stamps, index):
        looked[0] += 1
        return whole(stamps, index)

    monkeypatch.setattr(strays, "_from_middle", counted)
    for _ in range(20):
        stamps = np.sort(rng.uniform(0, 60, rng.integers(2, 200)))
        wrong = rng.random(len(stamps)) < 0.2
        stamps[wrong] += rng.normal(0, 5, wrong.sum())
        stamps, looked[0] = (stamps * 1e9).astype(np.int64), 0
        assert strays._contradicting(stamps).tolist() == one_by_one(stamps)
        assert looked[0] <= len(stamps)


def test_pauses_slow_sensors_and_disorder_are_no_strays() -> None:
    events = stream(20, RATES)
    later = [(n, s + 3600 * SECOND) for n, s in stream(0.3, RATES)]
    both = [*events, *later]
    # A pause of the recorder: its clock went on.
    assert found_in(both, [s for _, s in both]) == {}
    assert found_in(stream(300, {"cam0": 0.05})) == {}
    # A converter that writes as fast as it can.
    assert found_in(events, range(len(events))) == {}
    shuffled = sorted(events, key=lambda e: e[1] + e[1] * 7919 % 400_000_000)
    assert found_in(shuffled, range(len(events))) == {}
    assert found_in([]) == {} and found_in(events[:1]) == {} and found_in(events[:2]) == {}
