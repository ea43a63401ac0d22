"""What the node knows of rclpy's inside: a method it overrides by its mangled name, and a cycle.

rclpy ends the process of a node that is asked for a transition which its state does not allow. The
node refuses instead, which needs a private method. If rclpy changes it, this fails, and
``DetectorNode._LifecycleNodeMixin__change_state`` must follow.
"""

from __future__ import annotations

import gc
import inspect
import os

import pytest

pytest.importorskip("rclpy")

import node_rig
from lifecycle_msgs.msg import Transition
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.lifecycle.node import LifecycleNodeMixin

from crkd_ros.node.detector_node import DetectorNode

NAME = "_LifecycleNodeMixin__change_state"


def test_rclpy_has_the_method_with_these_arguments():
    theirs, ours = vars(LifecycleNodeMixin)[NAME], vars(DetectorNode)[NAME]
    assert list(inspect.signature(theirs).parameters) == ["self", "transition_id"]
    assert inspect.signature(ours).parameters.keys() == inspect.signature(theirs).parameters.keys()


def test_every_way_to_a_transition_goes_through_it():
    ways = [
        *("trigger_configure", "trigger_activate", "trigger_deactivate", "trigger_cleanup"),
        *("trigger_shutdown", f"_{LifecycleNodeMixin.__name__}__on_change_state"),
    ]
    for way in ways:
        code = inspect.unwrap(vars(LifecycleNodeMixin)[way]).__code__
        assert NAME in code.co_names, f"{way} does not call {NAME} any more"


def test_a_transition_that_the_state_does_not_allow_is_refused():
    import rclpy

    rclpy.init(args=[], domain_id=1)
    try:
        node = DetectorNode()
        change = getattr(node, NAME)
        assert change(Transition.TRANSITION_ACTIVATE) == TransitionCallbackReturn.FAILURE
        with pytest.raises(RuntimeError):
            getattr(super(DetectorNode, node), NAME)(Transition.TRANSITION_ACTIVATE)
        node.close(patience=0.0)
    finally:
        rclpy.shutdown()


def test_a_node_that_is_closed_has_left_the_network():
    """Not when Python collects its garbage: 32 participants are all that local discovery finds."""
    import rclpy

    rclpy.init(args=[], domain_id=1)
    gc.disable()
    try:
        before = node_rig.segments(os.getpid())
        node = DetectorNode()
        made = node_rig.segments(os.getpid()) - before
        node.close(patience=0.0)
        assert not made & node_rig.segments(os.getpid())
    finally:
        gc.enable()
        rclpy.shutdown()
    if not made:
        pytest.skip("this middleware has no shared memory")
