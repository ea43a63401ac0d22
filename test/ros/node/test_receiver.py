"""The thread that receives the sensors' messages: in order, alone, and gone when it is closed."""

from __future__ import annotations

import threading
import time

import pytest

rclpy = pytest.importorskip("rclpy")

from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from rclpy.serialization import deserialize_message  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from crkd_ros.node.inputs import SubscriptionEventCallbacks  # noqa: E402
from crkd_ros.node.receiver import Receiver  # noqa: E402

PATIENCE = 60.0


def until(condition) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "nothing came in time"
        time.sleep(0.01)


@pytest.fixture
def node():
    rclpy.init(args=[])
    node = rclpy.create_node("receiving")
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


class Rig:
    """A receiver of two topics, one of them raw, and their publishers."""

    def __init__(self, node) -> None:
        self.heard: list = []
        self.wrong: list[str] = []
        self.threads: set[str] = set()
        self.problems: list[str] = []
        self.node = node
        self.receiver = Receiver(node, self.problems.append)
        self.publishers = []
        self.subscriptions = []
        for topic, raw in (("plain", False), ("raw", True)):
            subscription = node.create_subscription(
                String,
                topic,
                self.wrong.append,
                QoSProfile(depth=50),
                callback_group=self.receiver.group,
            )
            self.receiver.add(subscription, self.on_message, raw=raw)
            self.subscriptions.append(subscription)
            self.publishers.append(node.create_publisher(String, topic, QoSProfile(depth=50)))
        self.receiver.start()
        until(lambda: all(p.get_subscription_count() for p in self.publishers))

    def on_message(self, message) -> None:
        self.threads.add(threading.current_thread().name)
        raw = isinstance(message, bytes)
        text = (deserialize_message(message, String) if raw else message).data
        if text == "fail":
            raise ValueError("cannot be used")
        self.heard.append(("raw" if raw else "plain", text))


def test_all_messages_come_in_order_and_to_no_executor(node):
    rig = Rig(node)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    for index in range(20):
        for publisher in rig.publishers:
            publisher.publish(String(data=str(index)))
    until(lambda: len(rig.heard) == 40)
    for _ in range(5):
        executor.spin_once(timeout_sec=0.01)
    for name in ("plain", "raw"):
        assert [text for kind, text in rig.heard if kind == name] == [str(i) for i in range(20)]
    assert rig.threads == {"receive"}
    assert rig.wrong == rig.problems == []
    rig.receiver.close()
    executor.shutdown()


def test_a_callback_that_fails_costs_its_message_alone(node):
    rig = Rig(node)
    for text in ("before", "fail", "after"):
        for publisher in rig.publishers:
            publisher.publish(String(data=text))
    until(lambda: len(rig.heard) == 4)
    assert {text for _, text in rig.heard} == {"before", "after"}
    assert sorted(rig.problems) == ["/plain: cannot be used", "/raw: cannot be used"]
    rig.receiver.close()


def test_after_closing_nothing_is_called_and_the_node_goes_on(node):
    rig = Rig(node)
    rig.receiver.close()
    assert not [t for t in threading.enumerate() if t.name == "receive"]
    rig.publishers[0].publish(String(data="late"))
    for subscription in rig.subscriptions:
        assert node.destroy_subscription(subscription)
    time.sleep(0.1)
    assert rig.heard == rig.problems == []


def test_the_end_of_ros_ends_the_thread_without_a_word(node):
    rig = Rig(node)
    rclpy.shutdown()
    until(lambda: not [t for t in threading.enumerate() if t.name == "receive"])
    assert rig.problems == []
    rig.receiver.close()


def test_messages_and_events_of_the_receiver_wake_no_executor(node):
    """The middleware wakes whoever waits for an event of a subscription for its messages too."""
    rig = Rig(node)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    for subscription in rig.subscriptions:
        assert subscription.event_handlers
        assert not any(map(executor.can_execute, [subscription, *subscription.event_handlers]))
    executor.spin_once(timeout_sec=0.1)  # What was to do before.
    for index in range(20):
        for publisher in rig.publishers:
            publisher.publish(String(data=str(index)))
    executor.spin_once(timeout_sec=0.2)
    until(lambda: len(rig.heard) == 40)
    rig.receiver.close()
    executor.shutdown()


def test_a_publisher_that_cannot_be_heard_is_told_by_the_receiver(node):
    receiver, told = Receiver(node, lambda text: None), []
    subscription = node.create_subscription(
        String,
        "reliable",
        told.append,
        QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE),
        callback_group=receiver.group,
        event_callbacks=SubscriptionEventCallbacks(
            incompatible_qos=lambda event: told.append(threading.current_thread().name),
            use_default_callbacks=False,
        ),
    )
    receiver.add(subscription, told.append)
    receiver.start()
    node.create_publisher(
        String, "reliable", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    )
    until(lambda: told)
    assert told == ["receive"]
    receiver.close()
