"""What a node answers to a bag: recorded, told in bag time, scored; then the whole command."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import command_lines
import numpy as np
import pytest
import rig_bags
import ros_rig
from fleet import at_once
from model_tiny import saved

from crkd_core import geometry
from crkd_core.boxes import SCORED_FROM, Detections
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.data.nuscenes.reader import NuScenes
from crkd_core.sensors import ANCHOR_CAMERA
from crkd_ros.bags import recorded_calibration
from crkd_ros.bags.frames import layout_of
from crkd_ros.bags.message_types import make
from crkd_ros.bags.samples import key_frames
from crkd_ros.bags.writer import BagWriter
from crkd_ros.convert import box_messages
from crkd_ros.convert.arrays import stamp_fields
from crkd_ros.motion.calibration_file import Calibration
from crkd_ros.node import launching
from crkd_ros.parameters.node import NodeConfig
from crkd_ros.parameters.parameter_file import load_all
from crkd_ros.streaming_eval import players, rates, session
from crkd_ros.streaming_eval.players import SessionError
from crkd_ros.streaming_eval.rates import score_rates
from crkd_ros.streaming_eval.recorder import Arrival, BagClock, Pass, Recorder
from crkd_ros.streaming_eval.report import streaming_table, write_scores
from crkd_ros.streaming_eval.scores import (
    ScoreError,
    refuse_other_drives,
    samples_between,
    score_pass,
)
from crkd_ros.streaming_eval.session import run_session
from crkd_ros.streaming_eval.streaming import VARIANTS

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


class Time:
    """Real time that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def clock(stamp_ns: int):
    return SimpleNamespace(
        clock=SimpleNamespace(sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND)
    )


def boxes(stamp_ns: int, detections: Detections | None = None, frame_id: str = "base_link"):
    found = Detections.empty(NUSCENES_CLASSES) if detections is None else detections
    return box_messages.boxes_cloud(found, stamp_ns=stamp_ns, make=make, frame_id=frame_id)


def status(name: str, **values):
    pairs = [SimpleNamespace(key=key, value=str(value)) for key, value in values.items()]
    return SimpleNamespace(status=[SimpleNamespace(name=name, values=pairs)])


def classes_status(name: str = "/detector_node"):
    names = {str(label): one for label, one in enumerate(NUSCENES_CLASSES)}
    return status(f"{name}: classes", **names)


@pytest.mark.parametrize("rate", [0.5, 1.0, 4.0])
def test_bag_time_runs_on_between_two_ticks(rate):
    bag = BagClock()
    assert bag.at(5.0) is None and bag.rate == 0
    for index in range(11):
        assert not bag.tick(START + round(index * 0.1 * rate * SECOND), 50 + index * 0.1)
    assert bag.rate == pytest.approx(rate)
    assert bag.at(51.0) == START + round(rate * SECOND)
    assert bag.at(51.2) == pytest.approx(START + 1.2 * rate * SECOND, abs=1e3)
    # Over: what comes now comes after the end.
    assert bag.at(61.0) == pytest.approx(START + 11 * rate * SECOND, abs=1e3)
    for index in range(30):  # Paused: /clock goes on with the same time.
        bag.tick(START + round(rate * SECOND), 62 + index * 0.1)
    assert bag.at(65.0) == START + round(rate * SECOND)


def test_a_tick_that_was_overtaken_is_no_jump_and_a_jump_begins_anew():
    bag = BagClock()
    bag.tick(START, 0.0)
    bag.tick(START + SECOND, 1.0)
    assert not bag.tick(START + SECOND // 2, 1.1)
    assert bag.at(1.0) == START + SECOND
    assert bag.tick(START - 9 * SECOND, 2.0)
    assert bag.at(2.0) == START - 9 * SECOND and bag.rate == 0


def test_arrivals_are_told_in_bag_time_and_loops_are_passes():
    time = Time()
    recorder = Recorder(clock=time)
    recorder.on_boxes(boxes(START))
    assert recorder.unplaced == 1
    for index in range(21):  # Ten seconds at twice the speed.
        recorder.on_clock(clock(START + index * SECOND // 2))
        if index < 20:
            time.now += 0.25
    recorder.on_boxes(boxes(START + 9 * SECOND))
    time.now += 0.25
    recorder.on_clock(clock(START))  # The bag begins again,
    time.now += 0.25
    recorder.on_boxes(boxes(START + 10 * SECOND))  # and a frame of its end is answered.
    recorder.on_clock(clock(START + SECOND // 2))
    recorder.on_boxes(boxes(START))
    first, second = recorder.passes
    assert first.rate == pytest.approx(2.0) and second.rate == pytest.approx(2.0)
    assert [a.stamp_ns for a in first.arrivals] == [START + 9 * SECOND, START + 10 * SECOND]
    assert first.arrivals[0].available_ns == START + 10 * SECOND
    assert first.arrivals[1].available_ns == START + 10 * SECOND + SECOND // 2
    assert [a.available_ns for a in second.arrivals] == [START + SECOND // 2]


def test_boxes_never_arrive_before_their_stamp():
    recorder = Recorder(clock=Time())
    recorder.on_clock(clock(START))
    recorder.on_boxes(boxes(START + 40_000_000))
    (arrival,) = recorder.passes[0].arrivals
    assert arrival.available_ns == arrival.stamp_ns


def test_counters_of_the_node_are_taken_per_pass():
    time = Time()
    recorder = Recorder(clock=time)
    counters = {"published": 5, "skipped (newer one was ready)": 3, "dropped (see problems)": 1}
    recorder.on_clock(clock(START + 9 * SECOND))
    assert recorder.passes[0].skipped is None
    recorder.on_diagnostics(status("/detector_node: frames", **counters))
    recorder.on_diagnostics(status("other: frames", **{"skipped": 99}))
    recorder.on_clock(clock(START))
    counters["skipped (newer one was ready)"] = 7
    recorder.on_diagnostics(status("/detector_node: frames", **counters))
    assert [(one.skipped, one.dropped) for one in recorder.passes] == [(3, 1), (4, 0)]


def test_odometry_that_is_no_pose_does_not_end_the_recording():
    rclpy = pytest.importorskip("rclpy")
    from nav_msgs.msg import Odometry
    from rclpy.qos import QoSProfile
    from rosgraph_msgs.msg import Clock

    from crkd_ros.node.receiver import Receiver

    rclpy.init(args=[])
    node, recorder, problems = rclpy.create_node("recording"), Recorder(), []
    receiver = Receiver(node, problems.append)
    session.subscribe(node, recorder, receiver=receiver)
    receiver.start()
    try:
        poses = node.create_publisher(Odometry, "odom", QoSProfile(depth=10))
        clocks = node.create_publisher(Clock, "/clock", QoSProfile(depth=10))
        patience = time.monotonic() + 60.0
        while not recorder.passes and time.monotonic() < patience:
            bad = Odometry()
            bad.pose.pose.orientation.w = 0.0
            if poses.get_subscription_count() and clocks.get_subscription_count():
                poses.publish(bad)
                time.sleep(0.3)
                clocks.publish(Clock(clock=Odometry().header.stamp))
            time.sleep(0.1)
        assert recorder.passes and not problems
    finally:
        receiver.close()
        node.destroy_node()
        rclpy.shutdown()


def test_what_the_node_counted_before_the_first_pass_is_not_of_it():
    recorder = Recorder(clock=Time())
    counters = {"published": 5, "skipped (newer one was ready)": 30, "dropped (see problems)": 9}
    recorder.on_diagnostics(status("/detector_node: frames", **counters))
    recorder.on_clock(clock(START))
    counters["skipped (newer one was ready)"] = 32
    recorder.on_diagnostics(status("/detector_node: frames", **counters))
    assert (recorder.passes[0].skipped, recorder.passes[0].dropped) == (2, 0)


def test_classes_of_the_node_are_those_of_every_pass():
    recorder = Recorder(clock=Time())
    recorder.on_diagnostics(status("/detector_node: classes"))  # No weights are loaded yet.
    recorder.on_clock(clock(START + 9 * SECOND))
    assert recorder.passes[0].classes == ()
    recorder.on_diagnostics(classes_status("other"))
    assert recorder.passes[0].classes == ()
    recorder.on_diagnostics(classes_status())
    recorder.on_clock(clock(START))
    assert [one.classes for one in recorder.passes] == [NUSCENES_CLASSES] * 2


def test_stage_means_are_weighted_by_frames():
    recorder = Recorder(clock=Time())
    recorder.on_clock(clock(START))
    name = "/detector_node: latency"
    first = {"frames": 1, "network mean (ms)": 40, "wait mean (ms)": 8, "network max (ms)": 99}
    recorder.on_diagnostics(status(name, **first))
    recorder.on_diagnostics(status(name, **{"frames": 3, "network mean (ms)": 80}))
    recorder.on_diagnostics(status(name, **{"frames": 0}))
    assert recorder.passes[0].stages == {"network": 70.0, "wait": 2.0}
    assert recorder.passes[0].frames == 4


def test_the_detectors_own_diagnostics_are_understood():
    """Against the real health.py: names of entries and keys."""
    from crkd_ros.node.health import Health
    from crkd_ros.reporter import Reporter

    reporter = Reporter()
    health = Health(reporter, name="/detector_node", hardware="cpu")
    reporter.published({"network": 0.05, "other": 0.01, "total": 0.06})
    reporter.skipped(2)
    reporter.dropped()
    recorder = Recorder(clock=Time())
    recorder.on_clock(clock(START))
    recorder.on_diagnostics(health.diagnostics(make, stamp_ns=START, sensors={}, listeners=True))
    one = recorder.passes[0]
    assert (one.skipped, one.dropped, one.frames) == (2, 1, 1)
    assert one.stages["network"] == pytest.approx(50.0)
    assert one.stages["total"] == pytest.approx(60.0)


# -- scores ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tables(tiny_world) -> NuScenes:
    return NuScenes(tiny_world)


@pytest.fixture(scope="module")
def recorded(tables) -> Pass:
    """The truth of one drive as detections, 0.1 s late at rate 2, the third frame skipped."""
    time = Time()
    recorder = Recorder(clock=time)
    samples = key_frames(tables, tables.scenes[:1])
    for index, (stamp, token) in enumerate(sorted(samples.items())):
        pose = tables.key_record(token, ANCHOR_CAMERA).global_T_ego
        truth = tables.truth_global(token).transformed(geometry.invert(pose))
        recorder.on_clock(clock(stamp))
        recorder.on_odometry(odometry_at(pose, stamp))
        time.now += 0.1
        recorder.on_clock(clock(stamp + SECOND // 5))
        if index != 2:
            found = Detections(
                **{
                    name: getattr(truth, name)
                    for name in ("center", "size", "yaw", "velocity", "label")
                },
                score=np.linspace(0.9, 0.5, len(truth)),
                classes=NUSCENES_CLASSES,
            )
            recorder.on_boxes(boxes(stamp, found))
        time.now += 0.15
    counters = {"skipped (newer one was ready)": 1, "dropped (see problems)": 0}
    recorder.on_diagnostics(status("/detector_node: frames", **counters))
    recorder.on_diagnostics(classes_status())
    return recorder.passes[0]


def odometry_at(pose, stamp_ns):
    message = ros_rig.odometry(make, stamp_ns)
    place = message.pose.pose.position
    place.x, place.y, place.z = pose[:3, 3]
    return message


def test_a_recorded_pass_is_scored_and_reported(tables, recorded, tmp_path):
    scored = score_pass(tables, "world_all", recorded)
    assert scored.rate == pytest.approx(2.0, rel=0.02)
    assert scored.possible == len(key_frames(tables, tables.scenes[:1]))
    assert scored.published == scored.possible - 1
    assert (scored.skipped, scored.dropped, scored.lost) == (1, 0, 0)
    assert scored.latency() == pytest.approx(0.1, rel=0.03)
    scores = {
        variant: scored.scores.evaluations[variant].summary["mean_ap"] for variant in VARIANTS
    }
    assert 1 > scores["offline"] > scores["streaming"]
    written = write_scores(tmp_path, [scored], about={"bag": "a bag"})
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["passes"] == [json.loads(json.dumps(scored.as_dict()))]
    assert found["passes"][0]["streaming"]["mean_ap"] == scores["streaming"]
    assert (tmp_path / "streaming.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "report.html").read_text()
    assert f"{scores['streaming']:.3f}" in page and "a bag" in page
    rows = dict(written[0].rows)
    assert written[0].columns == ("", "2x")
    assert rows["streaming mAP"] == f"{scores['streaming']:.3f}" and rows["skipped"] == "1"
    assert int(rows["published"]) == int(rows["frames possible"]) - 1 and rows["lost"] == "0"
    assert rows["latency mean, ms"] in ("99", "100", "101", "102")
    assert rows["latency p50, ms"] in ("99", "100", "101", "102")


def test_a_pass_without_answers_scores_nothing_and_says_question_mark(tables, recorded):
    silent = dataclasses.replace(recorded, arrivals=[], skipped=None)
    scored = score_pass(tables, "world_all", silent)
    assert scored.lost is None and np.isnan(scored.latency())
    assert scored.as_dict()["latency_s"]["p95"] is None
    offline = scored.scores.evaluations["offline"]
    table = streaming_table([scored], offline=offline)
    assert table.columns[1:] == ("every frame", f"{scored.rate:.2g}x")
    rows = {name: cells for name, *cells in table.rows}
    assert rows["offline NDS"] == ["0.000", "0.000"]
    assert rows["streaming NDS"] == rows["forwarded mAP"] == ["-", "0.000"]
    assert rows["latency p95, ms"] == ["-", "-"] and rows["published"] == ["-", "0"]
    assert rows["skipped"] == rows["lost"] == ["-", "?"]


def test_what_cannot_be_scored_is_explained(tables, recorded):
    def refused(text, **changes):
        with pytest.raises(ScoreError, match=text):
            score_pass(tables, "world_all", dataclasses.replace(recorded, **changes))

    refused("no sample of split 'world_all' .* was the bag made of another", first_ns=5, last_ns=9)
    refused("start the player with --clock", seconds=0.0)
    (stamp, pose), *_ = recorded.poses.items()
    moved = pose + geometry.pose([3.0, 0, 0], [1, 0, 0, 0]) - np.eye(4)
    refused(r"the odometry is 3\.0 m from where", poses={stamp: moved})
    one = recorded.arrivals[0]
    refused("/diagnostics told no classes", classes=())
    refused(r"expected labels 0 to 0 \(car\), got", classes=("car",))
    refused("boxes are in frame 'odom'", arrivals=[dataclasses.replace(one, frame_id="odom")])
    other = dataclasses.replace(one, stamp_ns=one.stamp_ns + 7)
    refused("has no sensor message", arrivals=[other])


def test_the_vehicles_frame_may_be_written_with_a_slash(tables, recorded):
    plain, slashed = (
        score_pass(tables, "world_all", recorded, base_frame=base).scores.evaluations
        for base in ("base_link", "/base_link")
    )
    for variant in VARIANTS:
        assert plain[variant].summary["nd_score"] == slashed[variant].summary["nd_score"]


def test_boxes_in_the_map_need_no_pose(tables, recorded):
    samples = key_frames(tables, tables.scenes[:1])

    class InMap(Arrival):
        # Moved here: a message would round to float32, far from the origin of the map.
        def detections(self, classes):
            record = tables.key_record(samples[self.stamp_ns], ANCHOR_CAMERA)
            return super().detections(classes).transformed(record.global_T_ego)

    in_map = [InMap(**{**vars(one), "frame_id": "map"}) for one in recorded.arrivals]
    expected = score_pass(tables, "world_all", recorded).scores
    found = score_pass(tables, "world_all", dataclasses.replace(recorded, arrivals=in_map)).scores
    for variant in VARIANTS:
        a, b = (s.evaluations[variant].summary["nd_score"] for s in (expected, found))
        assert a == pytest.approx(b, abs=1e-6)


def test_a_drive_of_another_vehicle_at_the_same_time_is_not_asked_for(
    tables, tiny_world, recorded, tmp_path
):
    """Two vehicles of a fleet: the second scene begins 3 microseconds after the first."""
    shutil.copytree(tiny_world / "v1.0-mini", tmp_path / "v1.0-mini")
    first, second = tables.scenes
    fleet = at_once(tmp_path, first, second)
    alone, found = (score_pass(t, "world_all", recorded) for t in (tables, fleet))
    assert found.scores.as_dict() == alone.scores.as_dict() and found.possible == alone.possible
    stamps = {one.stamp_ns for one in recorded.arrivals}
    span = recorded.first_ns, recorded.last_ns
    assert samples_between(fleet, "world_all", *span, stamps=stamps)[1] == [first]
    # Nothing tells them apart where nothing was answered.
    assert samples_between(fleet, "world_all", *span)[1] == sorted((first, second))
    # One after the other, both count, answered or not.
    span = recorded.first_ns, max(key_frames(tables, [second]))
    assert samples_between(tables, "world_all", *span, stamps=stamps)[1] == sorted((first, second))


# -- processes ------------------------------------------------------------------------------------


def test_ros2_bag_play_is_used_where_it_is_installed(monkeypatch):
    def installed(*names):
        monkeypatch.setattr(players.shutil, "which", lambda name: f"/bin/{name}")
        monkeypatch.setattr(
            players.importlib.util, "find_spec", lambda name: name if name in names else None
        )

    bag = Path("a/bag")
    installed("ros2bag", "rosbag2_py")
    command = players.player_command(bag, rate=0.5)
    assert command == players.ros2_play_command(bag, rate=0.5)
    assert command[:4] == ["ros2", "bag", "play", "a/bag"]
    options = dict(zip(command[4::2], command[5::2], strict=False))
    assert options["--rate"] == "0.5" and float(options["--clock"]) >= 100
    assert "--loop" not in command and "--start-offset" not in command
    command = players.ros2_play_command(bag, rate=1.0, start_offset=3.5, loop=True)
    assert "--loop" in command and command[command.index("--start-offset") + 1] == "3.5"
    assert players.player_command(bag, rate=0.5, player="own")[0] == sys.executable
    installed("ros2bag")
    command = players.player_command(bag, rate=2.0)
    assert command[0] == sys.executable and {"--clock", "--wait", "2.0"} <= set(command)
    with pytest.raises(players.SessionError, match="ros2 bag play is not installed"):
        players.player_command(bag, rate=1.0, player="ros2")


def test_a_process_that_ends_early_is_quoted(tmp_path):
    words = [sys.executable, "-c", "print('weights: there is no file x')"]
    log = tmp_path / "logs" / "node.log"
    with (
        launching.process(words, log=log) as running,
        pytest.raises(
            launching.ProcessError, match="did not come up: weights: there is no file x"
        ),
    ):
        launching.wait_until(lambda: False, running, limit=60.0)


def test_a_process_that_is_never_heard_of_is_told_from_one_that_ended(tmp_path):
    words = [sys.executable, "-c", "import time; time.sleep(60)"]
    with (
        launching.process(words, log=tmp_path / "node.log") as running,
        pytest.raises(launching.ProcessError, match=r"not heard of within 0\.2 s.*/dev/shm"),
    ):
        launching.wait_until(lambda: False, running, limit=0.2)


# -- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--rate", "0"], "--rate: expected finite numbers above 0, got 0"),
        (["--rate", "1", "--rate", "inf"], "--rate: expected finite numbers above 0, got inf"),
        (["--player", "mpv"], "--player: expected auto, ros2 or own, got 'mpv'"),
        (["--player", "ros2"], "ros2 bag play is not installed here; leave --player out"),
        (["--parameter", "device"], "--parameter: expected NAME=VALUE, got 'device'"),
        ([], "--weights: there is no file none.safetensors"),
    ],
)
def test_wrong_options_are_explained(arguments, text, tmp_path, monkeypatch, capsys):
    from crkd_core.command import run_function
    from crkd_ros.commands.live import live

    fixed = ["bag", "--weights", "none.safetensors", "--data", "d", "--split", "s"]
    monkeypatch.setattr(players.shutil, "which", lambda name: None)
    monkeypatch.setattr("sys.argv", ["crkd live", *fixed, "--out", str(tmp_path), *arguments])
    with pytest.raises(SystemExit):
        run_function(live)
    assert text in capsys.readouterr().err


def test_results_and_weights_are_looked_at_before_a_node_starts(tiny_drive, tmp_path):
    def refused(*options: object) -> str:
        done = command_lines.run(
            *("live", bag, "--weights", tmp_path / "run", "--data", tiny_drive),
            *("--split", "world_all", "--out", tmp_path / "out", *options),
        )
        assert done.returncode == 1 and "Traceback" not in done.stderr
        return done.stderr

    bag = rig_bags.write(tmp_path / "bag", seconds=0.3)
    for folder in ("run", "out"):
        (tmp_path / folder).mkdir()
    assert "a folder without weights.safetensors" in refused()
    assert "parameter sensors=[CAM]: sensors: expected some" in refused(
        "--parameter=sensors=[CAM]"
    )
    assert "boxes are in frame 'odom'; expected base_link or map" in refused(
        "--parameter=output_frame=odom"
    )
    (tmp_path / "out" / "calibration.yaml").write_text("mine")
    assert "already holds calibration.yaml; pass --overwrite" in refused()


def test_a_bag_of_another_drive_is_refused_before_it_is_played(tiny_drive, tmp_path):
    bag, out = rig_bags.write(tmp_path / "bag", seconds=0.3), tmp_path / "out"
    done = command_lines.run(
        *("live", bag, "--weights", saved(tmp_path), "--data", tiny_drive),
        *("--split", "world_all", "--out", out),
    )
    assert done.returncode == 1 and not out.exists()
    assert "error: ScoreError: no sample of split 'world_all' of" in done.stderr


def sessions(monkeypatch, recorded) -> list[SimpleNamespace]:
    """In place of nodes: what each is told. Above rate 1 it fails."""
    told = []

    def session(bag, *, parameters, rate, naming, **options):
        told.append(SimpleNamespace(parameters=parameters, naming=naming))
        if rate > 1:
            raise players.SessionError("too fast")
        return recorded

    monkeypatch.setattr(rates, "run_session", session)
    return told


def test_what_was_scored_outlasts_a_rate_that_fails(tables, recorded, tmp_path, monkeypatch):
    told = sessions(monkeypatch, recorded)
    bag, out = rig_bags.write(tmp_path / "bag", seconds=0.3), tmp_path / "out"
    common = {"tables": tables, "split": "world_all", "out": out, "offline": False}
    with pytest.raises(players.SessionError, match="too fast"):
        score_rates(bag, config=NodeConfig(weights="w"), rates=[1.0, 2.0], **common)
    found = json.loads((out / "metrics.json").read_text())
    assert len(found["passes"]) == 1 and found["weights"] == "w"
    assert (out / "report.html").is_file() and len(told) == 2
    assert told[0].parameters["calibration_file"] == out / "calibration.yaml"
    assert told[0].parameters["score_threshold"] == SCORED_FROM


def test_the_nodes_files_hold_for_all_that_is_made_of_a_bag(
    tables, recorded, tmp_path, monkeypatch
):
    def change(topic, message, number):
        if topic == "/tf_static":
            message = rig_bags.static_tf(base="car")
        yield topic, message

    told = sessions(monkeypatch, recorded)
    offline = []
    monkeypatch.setattr(
        rates, "evaluate_offline", lambda t, tokens, config: offline.append(config)
    )
    bag, out = rig_bags.write(tmp_path / "bag", change, seconds=0.3), tmp_path / "out"
    file = tmp_path / "node.yaml"
    file.write_text(
        "/**: {ros__parameters: {base_frame: car, precision: bf16, score_threshold: 0.4, "
        "topics: {radar: points/<sensor>}, sensors: [CAM_FRONT, RADAR_FRONT]}}"
    )
    common = {"tables": tables, "split": "world_all", "out": out, "rates": [1.0], "files": [file]}
    config = load_all([file], NodeConfig, node="detector_node", above={"device": "cuda:1"})
    with pytest.raises(ScoreError, match="boxes are in frame 'base_link'; expected car"):
        score_rates(bag, config=config, parameters={"device": "cuda:1"}, **common)
    assert told[0].naming.remaps == {"points/radar_front": "/radar_front"}
    written = Calibration.load(out / "calibration.yaml", base="car")
    assert written.frames == ["cam_front", "radar_front"]
    own = dataclasses.replace(
        config, base_frame="base_link", calibration_file=str(out / "calibration.yaml")
    )
    score_rates(bag, config=own, parameters={"device": "cuda:1"}, **common)
    assert "calibration_file" not in told[1].parameters
    (used,) = offline
    assert (used.device, used.precision, used.sensors) == ("cuda:1", "bf16", own.sensors)
    assert used.score_threshold == told[1].parameters["score_threshold"] == SCORED_FROM


def test_the_command_plays_a_drive_to_the_node_and_scores_it(tiny_drive, tmp_path):
    pytest.importorskip("rclpy")

    from crkd_ros.bags.nuscenes import write_bag

    data = NuScenes(tiny_drive)
    write_bag(data, data.scenes[0], tmp_path / "bag", with_lidar=False, progress=False)
    done = command_lines.run(
        *("live", tmp_path / "bag", "--weights", saved(tmp_path)),
        *("--data", tiny_drive, "--split", "world_all", "--out", tmp_path / "out"),
        *("--rate", "0.5", "--player", "own", "--parameter", "score_threshold=0.3"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    (one,) = found["passes"]
    assert found["weights"] == "tiny.safetensors" and found["offline"]["mean_ap"] >= 0
    counts = one["frames"]
    assert counts["possible"] == len(list(data.records(data.scenes[0], ANCHOR_CAMERA)))
    assert 1 <= counts["published"] <= counts["possible"]
    assert (
        counts["published"] + counts["skipped"] + counts["dropped"] + counts["lost"]
        == (counts["possible"])
    )
    assert one["latency_s"]["mean"] > 0 and one["stages_ms"]["network"] > 0
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_player_that_stands_still_is_not_waited_for(tiny_drive, tmp_path, monkeypatch):
    """At a rate at which no tick of /clock moves on."""
    pytest.importorskip("rclpy")
    from crkd_ros.bags.nuscenes import write_bag

    data = NuScenes(tiny_drive)
    write_bag(data, data.scenes[0], tmp_path / "bag", with_lidar=False, progress=False)
    calibration = tmp_path / "calibration.yaml"
    recorded_calibration.of_bag(tmp_path / "bag", base="base_link").save(calibration)
    monkeypatch.setattr(session, "_STILL", 6.0)
    parameters = {"weights": saved(tmp_path), "calibration_file": calibration}
    with pytest.raises(SessionError, match=r"/clock has not moved for 6 s.*player\.log"):
        run_session(
            tmp_path / "bag", parameters=parameters, logs=tmp_path, rate=1e-15, player="own"
        )


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_a_bag_may_be_recorded_at_another_hour_than_its_headers_say(hours, tables, tmp_path):
    stamps = key_frames(tables, tables.scenes[:1])
    first, last = min(stamps), max(stamps)
    with BagWriter(tmp_path / "bag") as bag:
        for topic, message in rig_bags.messages(0.2):
            if topic in rig_bags.image_topics():
                message.header.stamp = make(
                    "builtin_interfaces/msg/Time", **stamp_fields((first + last) // 2)
                )
                bag.write(topic, message, first + hours * 3600 * rig_bags.SECOND)
    layout = layout_of(tmp_path / "bag")
    refuse_other_drives(tmp_path / "bag", layout, tables, "world_all")
