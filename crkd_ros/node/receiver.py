"""One thread that waits for the sensors' messages alone and hands them to their callbacks.

rclpy's executors build a wait set of everything that a node has for each message: here two dozen
subscriptions, their events, services and timers, several times what the messages themselves cost.
Subscriptions in this group are kept out of every executor and waited for in a wait set that stays.

So are their events: Fast DDS wakes whoever waits for an event of a subscription for every message
there too. An executor that waited for them built its wait set anew four hundred times a second,
which took most of a core and, with Python's lock, half of the other.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

from rclpy.callback_groups import CallbackGroup
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node

from crkd_ros.node.threads import name_thread

#: Seconds between two looks at events, such as a publisher that cannot be heard.
_EVENTS = 1.0


class _Elsewhere(CallbackGroup):
    """What is in it no executor executes or waits for."""

    def can_execute(self, entity: Any) -> bool:
        return False

    def beginning_execution(self, entity: Any) -> bool:
        return False

    def ending_execution(self, entity: Any) -> None:
        pass


class _Waiting(NamedTuple):
    subscription: Any
    callback: Callable[[Any], None]
    raw: bool
    at_once: int


class Receiver:
    """Subscriptions whose callbacks run one after another in a thread of their own.

    Args:
        node: subscribes.
        problem: takes one sentence about a message that cannot be taken, or its callback's error.

    Attributes:
        group: the callback group of these subscriptions; name it when they are made.
    """

    def __init__(self, node: Node, problem: Callable[[str], None]) -> None:
        self.group = _Elsewhere()
        self._node, self._problem = node, problem
        self._waiting: list[_Waiting] = []
        self._ending = self._closed = False
        self._guard = node.create_guard_condition(lambda: None, self.group)
        self._thread = threading.Thread(target=self._run, name="receive", daemon=True)
        node.context.on_shutdown(self._wake)

    def add(
        self,
        subscription: Any,
        callback: Callable[[Any], None],
        *,
        raw: bool = False,
        at_once: int = 1,
    ) -> None:
        """Before ``start``: call back with each message of a subscription of ``group``.

        Args:
            subscription: as the node made it; its own callback is not called.
            callback: takes the message.
            raw: with its bytes instead, not deserialised.
            at_once: messages that are handed out before other topics have their turn. Of a
                backlog, more than one would make the others look late.
        """
        self._waiting.append(_Waiting(subscription, callback, raw, at_once))

    def start(self) -> None:
        """Hand out messages from now on."""
        self._thread.start()

    def close(self) -> None:
        """End the thread, after the callback that runs; the subscriptions are the node's."""
        self._ending = True
        self._wake()
        if self._thread.is_alive():
            self._thread.join()
        self._closed = True
        self._node.destroy_guard_condition(self._guard)

    def _wake(self) -> None:
        if not self._closed:
            self._guard.trigger()

    def _run(self) -> None:
        name_thread("receive")
        try:
            with ExitStack() as held:
                context: Any = self._node.context.handle
                held.enter_context(context)
                held.enter_context(self._guard.handle)
                for one in self._waiting:
                    held.enter_context(one.subscription.handle)
                    for event in one.subscription.event_handlers:
                        held.enter_context(event)
                self._wait()
        except Exception:
            # The end of the process pulls the context from under us; all else must be known.
            if not self._ending and self._node.context.ok():
                self._problem(f"messages are no longer received: {traceback.format_exc()}")

    def _wait(self) -> None:
        context = self._node.context
        waits = rclpy_implementation.WaitSet(len(self._waiting), 1, 0, 0, 0, 0, context.handle)
        by_pointer = {one.subscription.handle.pointer: one for one in self._waiting}
        looked = time.monotonic()
        while not self._ending and context.ok():
            if time.monotonic() - looked >= _EVENTS:
                self._look_at_events()
                looked = time.monotonic()
            waits.clear_entities()
            for one in self._waiting:
                waits.add_subscription(one.subscription.handle)
            waits.add_guard_condition(self._guard.handle)
            waits.wait(round(1e9 * _EVENTS))
            for pointer in waits.get_ready_entities("subscription"):
                self._hand_out(by_pointer[pointer])

    def _look_at_events(self) -> None:
        events = [event for one in self._waiting for event in one.subscription.event_handlers]
        context = self._node.context.handle
        waits = rclpy_implementation.WaitSet(0, 0, 0, 0, 0, len(events), context)
        waits.clear_entities()
        for event in events:
            event.add_to_wait_set(waits)
        waits.wait(0)
        for event in events:
            if event.is_ready(waits) and (said := event.take_data()) is not None:
                event.callback(said)

    def _hand_out(self, one: _Waiting) -> None:
        handle, kind = one.subscription.handle, one.subscription.msg_type
        for _ in range(one.at_once):
            if self._ending:
                return
            try:
                taken = handle.take_message(kind, one.raw)
                if taken is None:
                    return
                one.callback(taken[0])
            except Exception as error:  # Of this message; the next one may do.
                self._problem(f"{one.subscription.topic_name}: {error}")
                return
