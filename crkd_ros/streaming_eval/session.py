"""A bag played to the real node, each in its own process, and what the node answered.

What it publishes is recorded here with its arrival in bag time. The demo scores a drive this way;
rates.py measures what latency costs.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crkd_ros.convert import cdr
from crkd_ros.convert.arrays import ConvertError
from crkd_ros.convert.ros_packages import message_class
from crkd_ros.node.launching import detector_command, own_network, process, wait_until
from crkd_ros.streaming_eval.naming import Naming
from crkd_ros.streaming_eval.players import PlayerName, SessionError, player_command
from crkd_ros.streaming_eval.recorder import Pass, Recorder

if TYPE_CHECKING:
    from crkd_ros.node.receiver import Receiver

_ODOMETRY = "nav_msgs/msg/Odometry"
#: Messages of a topic that are taken at once, /clock before the others: a turn costs more.
_AT_ONCE = 50
#: Seconds that the node may take to load its weights and subscribe, on a busy machine.
START_TIMEOUT = 240.0
#: The node is silent for so long: its last frame has come. Its diagnostics come every second.
_QUIET = 1.5
#: The bag's time has not moved for so long, since the player started or since then: opening a bag
#: that must be indexed takes minutes, and one whose player hangs would be waited for without end.
_STILL = 300.0
#: Nothing came at all: the first frame of a busy machine may still be in the network, seconds.
_FIRST = 30.0


def subscribe(
    node: Any,
    recorder: Recorder,
    *,
    detector: str = "detector_node",
    odometry: str = "odom",
    receiver: Receiver,
) -> None:
    """Hand a recorder what it records.

    Args:
        node: an rclpy node.
        recorder: takes the messages.
        detector: name of the detector node; without a leading slash in the namespace of ``node``.
        odometry: topic of odometry.
        receiver: of ``node``, not started, hands the messages over: the node's executor would
            spend several times as much on each.
    """
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    # /clock and odometry come from players and drivers that may be best-effort; nothing may be
    # lost of what the detector says.
    loose, firm = ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE
    for topic, kind, callback, reliability in (
        ("/clock", "rosgraph_msgs/msg/Clock", recorder.on_clock, loose),
        (odometry, _ODOMETRY, functools.partial(_on_odometry, recorder), loose),
        (f"{detector}/boxes", "sensor_msgs/msg/PointCloud2", recorder.on_boxes, firm),
        ("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", recorder.on_diagnostics, firm),
    ):
        profile = QoSProfile(depth=1000, reliability=reliability)
        subscription = node.create_subscription(
            message_class(kind), topic, callback, profile, callback_group=receiver.group
        )
        receiver.add(subscription, callback, raw=kind == _ODOMETRY, at_once=_AT_ONCE)


def _on_odometry(recorder: Recorder, data: bytes) -> None:
    """A serialised pose, to know whose drive it is; what is none is the detector's to tell."""
    with contextlib.suppress(ConvertError):
        recorder.on_odometry(cdr.odometry(data))


def run_session(
    bag: Path,
    *,
    parameters: Mapping[str, object],
    logs: Path,
    rate: float = 1.0,
    files: Sequence[Path] = (),
    player: PlayerName = "auto",
    naming: Naming | None = None,
) -> Pass:
    """Play a bag to a node once and record what it publishes.

    The network is ``own_network``.

    Args:
        bag: a rosbag2 in the layout of crkd bag.
        parameters: of the node; ``weights`` at least.
        logs: folder for node.log and player.log.
        rate: of playing.
        files: parameter files of the node; ``parameters`` stand above them.
        player: see ``player_command``.
        naming: where the bag's topics have other names than the node's; its parameters stand
            above all.

    Raises:
        ProcessError: the node did not come up, or ended early.
        SessionError: the player failed or stands still, or nothing was published, or the node
            told no classes.
    """
    import rclpy

    from crkd_ros.node.receiver import Receiver

    own_network()
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = rclpy.create_node("crkd_session", context=context)
    recorder, problems = Recorder(), list[str]()
    naming = naming or Naming()
    receiver = Receiver(node, problems.append)
    subscribe(node, recorder, odometry=naming.odometry, receiver=receiver)
    receiver.start()
    node_log, player_log = logs / "node.log", logs / "player.log"
    try:
        command = detector_command(
            {**parameters, **naming.parameters}, files=files, remaps=naming.remaps
        )
        with process(command, log=node_log) as detector:
            wait_until(lambda: _is_up(node), detector, limit=START_TIMEOUT)
            command = player_command(bag, rate=rate, player=player)
            with process(command, log=player_log) as playing:
                began = time.monotonic()
                while playing.ended() is None:
                    detector.check()
                    if time.monotonic() - max(began, recorder.last_tick) > _STILL:
                        raise SessionError(
                            f"the player runs, and /clock has not moved for {_STILL:g} s: "
                            f"{playing.last_words()}"
                        )
                    time.sleep(0.1)
                if playing.ended():
                    raise SessionError(f"the player failed: {playing.last_words()}")
            ended = time.monotonic()
            while time.monotonic() - max(ended, recorder.last_boxes) < (
                _QUIET if any(one.arrivals for one in recorder.passes) else _FIRST
            ):
                time.sleep(0.1)
    finally:
        receiver.close()
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    if problems:
        raise SessionError(f"what the node published could not be heard: {problems[0]}")
    if not recorder.passes:
        raise SessionError(f"nothing was heard of /clock; see {player_log}")
    if not recorder.passes[0].arrivals:
        raise SessionError(f"the node published nothing; see {node_log}")
    if not recorder.passes[0].classes:
        raise SessionError(f"nothing was heard of the node's /diagnostics; see {node_log}")
    return recorder.passes[0]


def _is_up(node: Any) -> bool:
    """Whether the detector has advertised its boxes and subscribed to a sensor."""
    from rclpy.node import NodeNameNonExistentError

    if not node.count_publishers("/detector_node/boxes"):
        return False
    try:
        inputs = node.get_subscriber_names_and_types_by_node("detector_node", "/")
    except NodeNameNonExistentError:
        return False
    return any(kind.startswith("sensor_msgs/") for _, kinds in inputs for kind in kinds)
