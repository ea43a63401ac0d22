"""The transforms of a whole drive as a tree: any chain, of static and moving links. Pure.

Frames are compared without case and without a leading slash, as in calibration files.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from crkd_core import geometry
from crkd_ros.motion.pose_table import PoseTable
from crkd_ros.motion.poses import Array, MotionError, frame_key

#: A link that changes by less is the same one, rounded: metres and sines of angles.
_SAME = 1e-3


@dataclass
class Link:
    """The transforms of one frame under one parent.

    Attributes:
        parent: the frame above.
        table: of those that came on /tf, by time.
        static: those of /tf_static by stamp; the last one before a time holds.
        first: the first of all, and ``moves``: whether one differs from it.
        count: of all.
        sources: topic -> the first static transform that came on it.
    """

    parent: str
    table: PoseTable
    static: dict[int, Array] = field(default_factory=dict)
    first: Array | None = None
    moves: bool = False
    count: int = 0
    sources: dict[str, Array] = field(default_factory=dict)

    def add(self, stamp_ns: int, parent_T_child: Array, *, static: bool, source: str) -> None:
        """Learn one transform."""
        if self.first is None:
            self.first = parent_T_child
        self.moves |= float(np.abs(parent_T_child - self.first).max()) > _SAME
        self.count += 1
        if static:
            self.static[stamp_ns] = parent_T_child
            self.sources.setdefault(source, parent_T_child)
        elif stamp_ns > 0:
            self.table.add(stamp_ns, parent_T_child)

    def at(self, stamp_ns: int | None) -> Array:
        """``parent_T_child`` at a time; None: the last. Raises MotionError."""
        assert self.first is not None
        if not self.moves:
            return self.first
        if self.static:
            before = [one for one in self.static if stamp_ns is None or one <= stamp_ns]
            return self.static[max(before) if before else min(self.static)]
        if not len(self.table):
            raise MotionError(
                f"{self.table.name}: it moves, and its transforms have no stamps; publish it with "
                "stamps, or on /tf_static if it should not move"
            )
        return self.table.pose(int(self.table.stamps[-1]) if stamp_ns is None else stamp_ns)


class TransformTree:
    """What the tf messages of a bag say; an Extrinsics.

    Args:
        base: the vehicle's frame.
    """

    def __init__(self, *, base: str = "base_link") -> None:
        self.base = frame_key(base)
        self._links: dict[str, dict[str, Link]] = {}

    @property
    def frames(self) -> list[str]:
        """Frames that have a parent, sorted."""
        return sorted(self._links)

    def add(
        self,
        parent: str,
        child: str,
        stamp_ns: int,
        parent_T_child: Array,
        *,
        static: bool,
        source: str = "",
    ) -> None:
        """Learn one transform of a topic.

        A frame with two parents has the one that is named more often.
        """
        links = self._links.setdefault(frame_key(child), {})
        name = frame_key(parent)
        if name not in links:
            links[name] = Link(name, PoseTable(f"{name} -> {frame_key(child)} on /tf"))
        links[name].add(stamp_ns, parent_T_child, static=static, source=source)

    def contradiction(self) -> str:
        """Which two topics, or parents, place one frame differently for good; "": none do."""
        for child in self.frames:
            link = self.link(child)
            for one, other in itertools.pairwise(link.sources if link is not None else ()):
                assert link is not None
                if float(np.abs(link.sources[one] - link.sources[other]).max()) > _SAME:
                    return (
                        f"{one} and {other} say different static transforms of {child}; are "
                        "they of two vehicles? give a calibration file, or leave one topic out "
                        "of the bag"
                    )
            places = self._static_places(child)
            for (one, here), (other, there) in itertools.pairwise(places.items()):
                if float(np.abs(here - there).max()) > _SAME:
                    return (
                        f"{child} has static transforms from {one} and from {other}, which place "
                        "it differently; publish one of them, or give a calibration file"
                    )
        return ""

    def _static_places(self, child: str) -> dict[str, Array]:
        """Parent -> ``base_T_child`` by its static transform, where the parent hangs on base."""
        places: dict[str, Array] = {}
        links = self._links.get(child, {})
        if len(links) > 1 and child not in self.ancestors(self.base):
            for name, link in links.items():
                with contextlib.suppress(MotionError):
                    if link.static and not self.moving(name) and child not in self.ancestors(name):
                        places[name] = self.base_T(name) @ link.at(None)
        return places

    def link(self, frame: str) -> Link | None:
        """How a frame hangs on its parent; None: it has none."""
        links = self._links.get(frame_key(frame), {})
        return max(links.values(), key=lambda one: one.count, default=None)

    def ancestors(self, frame: str) -> list[str]:
        """The frame itself, its parent, and so on to the root."""
        names = [frame_key(frame)]
        while (link := self.link(names[-1])) is not None and link.parent not in names:
            names.append(link.parent)
        return names

    def moving(self, frame: str) -> list[str]:
        """The frames between a frame and the base whose links move. Raises MotionError."""
        return [name for name in self._between(frame) if (n := self.link(name)) and n.moves]

    def base_T(self, frame: str, stamp_ns: int | None = None) -> Array:
        """``base_T_frame`` [4, 4] at a time (None: the last), up and down the tree.

        Raises:
            MotionError: the frame does not hang together with the base; names the frames that do.
        """
        up, down = self.ancestors(frame), self.ancestors(self.base)
        self._between(frame)
        common = next(name for name in up if name in down)
        return geometry.invert(self._chain(down[: down.index(common)], stamp_ns)) @ self._chain(
            up[: up.index(common)], stamp_ns
        )

    def still(self, fixed: str) -> str:
        """The frame that stands still in the world; the base itself: there is none.

        That is ``fixed`` where it is above the base and the links above it move (map -> odom
        corrects itself by jumps), or where it moves below the base or a frame above it (odometry
        that publishes the inverse, as the base has another parent), else the root of the tree.
        """
        names, name = self.ancestors(self.base), frame_key(fixed)
        if name in names[1:]:
            place = names.index(name)
            if any(self._moves(one) for one in names[place:-1]):
                return name
        elif any(self._moves(one) for one in self._below(name)):
            return name
        return names[-1]

    def poses(self, fixed: str) -> PoseTable:
        """The poses of the base in the frame that stands still, along the links between."""
        still = self.still(fixed)
        chain, below = self._between(still), bool(self._below(still))
        name = f"{still} -> {self.base} on /tf"
        if not below:
            name = " -> ".join([still, *reversed(chain)]) + " on /tf"
        timed = [one for one in chain if (link := self.link(one)) and not link.static]
        alone = not any(self._moves(one) for one in chain if one not in timed)
        if len(timed) == 1 and alone and not below:
            # The usual tree; many times faster than one by one.
            link, place = self.link(timed[0]), chain.index(timed[0])
            assert link is not None
            return link.table.composed(
                left=self._chain(chain[place + 1 :], None),
                right=self._chain(chain[:place], None),
                name=name,
            )
        table = PoseTable(name)
        links = [link for one in timed if (link := self.link(one)) is not None]
        for stamp in sorted({stamp for one in links for stamp in one.table.stamps.tolist()}):
            try:
                table.add(stamp, geometry.invert(self.base_T(still, stamp)))
            except MotionError:
                continue  # Links that move are not known all at once.
        return table

    def _moves(self, name: str) -> bool:
        link = self.link(name)
        return link is not None and link.moves

    def _below(self, frame: str) -> list[str]:
        """The frames whose links lead from a frame up to the base, or to one above the base."""
        up, down = self.ancestors(frame), self.ancestors(self.base)
        return [*itertools.takewhile(lambda one: one not in down, up)] if up[-1] in down else []

    def _between(self, frame: str) -> list[str]:
        """The frames whose links lead from a frame to the base."""
        up, down = self.ancestors(frame), self.ancestors(self.base)
        common = next((name for name in up if name in down), None)
        if common is None:
            known = ", ".join(self.frames) or "none"
            raise MotionError(
                f"no transform from {self.base} to {frame!r}; known frames: {known}. Publish it "
                "on /tf_static or list the sensor in calibration_file"
            )
        return [*up[: up.index(common)], *down[: down.index(common)]]

    def _chain(self, names: Sequence[str], stamp_ns: int | None) -> Array:
        """From the first of these frames to the parent of the last."""
        matrix = np.eye(4)
        for name in names:
            link = self.link(name)
            assert link is not None
            matrix = link.at(stamp_ns) @ matrix
        return matrix
