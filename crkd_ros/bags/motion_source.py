"""How the vehicle moved, by the source in a bag that knows it best. Pure.

Odometry topics and the transforms of /tf are compared by how many of the sensors' stamps they know
a pose for, not by how many messages they have: /tf may hold wheels only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from crkd_core import geometry
from crkd_ros.bags.message_types import BagError
from crkd_ros.bags.strays import Times
from crkd_ros.bags.survey import Survey
from crkd_ros.motion.pose_table import PoseTable
from crkd_ros.motion.poses import Extrinsics, MotionError
from crkd_ros.motion.twists import contradiction, sideways
from crkd_ros.parameters.framing import MotionConfig

#: A source that knows so much more of the drive than the preferred one is taken instead.
_BETTER = 0.02


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One source of the ego motion.

    Attributes:
        name: topic of odometry, or "/tf".
        table: poses of the vehicle; None: it has none that can be used, and ``reason`` says why.
        share: of the sensors' stamps, those that it knows a pose for, 0 to 1.
        parent: frame of the poses.
        trouble: what is wrong with it though it can be used.
    """

    name: str
    table: PoseTable | None = field(default=None, compare=False, repr=False)
    reason: str = ""
    share: float = 0.0
    parent: str = ""
    trouble: str = ""

    def text(self) -> str:
        """What it holds."""
        if self.table is None:
            return f"{self.name} ({self.reason})"
        known = f"{100 * self.share:.0f} % of the sensors' stamps"
        return f"{self.name} ({len(self.table)} poses, known for {known})"


@dataclass(frozen=True, kw_only=True)
class MotionSource:
    """The choice.

    Attributes:
        taken: the best one; its table may be None.
        others: those that were not taken.
    """

    taken: Candidate
    others: tuple[Candidate, ...] = field(default=())

    @property
    def table(self) -> PoseTable:
        """The poses; an empty table where nothing is known."""
        return PoseTable() if self.taken.table is None else self.taken.table

    @property
    def known(self) -> bool:
        """Whether there is a pose at any of the sensors' stamps."""
        return len(self.table) > 0 and self.taken.share > 0

    def sentences(self) -> Iterator[str]:
        """What was taken, what was not, and what is wrong with it."""
        yield f"ego motion: {self.taken.text()}" + "".join(
            f"; not taken: {one.text()}" for one in self.others
        )
        if self.taken.trouble:
            yield f"{self.taken.name}: {self.taken.trouble}"
        if outliers := self.table.outliers:
            yield f"{self.taken.name}: {outliers} poses that no vehicle can reach are left out"
        if leaps := self.table.leaps:
            yield (
                f"{self.taken.name}: the pose jumps {len(leaps)} times, first at {leaps[0]} ns; "
                "frames that need poses from both sides are not made"
            )


def find_motion(
    survey: Survey,
    stamps: Mapping[str, Times],
    *,
    motion: MotionConfig,
    preferred: str = "",
    tf_first: bool = False,
    extrinsics: Extrinsics | None = None,
) -> MotionSource:
    """The source that knows the most of a drive.

    Args:
        survey: of the bag.
        stamps: of its sensors.
        motion: ``source`` tf asks for /tf alone; ``fixed_frame``.
        preferred: topic of odometry that is taken when others are as good.
        tf_first: /tf is taken when odometry is as good: odometry of other converters is the
            vehicle's own estimate, and the exactness of their /tf is known.
        extrinsics: where the child frame of odometry sits, before the bag's own transforms.

    Raises:
        BagError: the user names an odometry topic of which no pose can be used.
    """
    every = np.concatenate([np.zeros(0, np.int64), *stamps.values()])
    named = survey.layout.named_odometry
    candidates = [_of_odometry(survey, topic, every, extrinsics) for topic in survey.odometry]
    if named:
        (chosen,) = (one for one in candidates if one.name == named)
        if chosen.table is None:
            raise BagError(f"--topic odometry={named}: {chosen.reason}")
        return _choice(chosen, candidates)
    candidates.sort(key=lambda one: (one.name.strip("/") != preferred.strip("/"), one.name))
    tf = _of_tf(survey, every, motion.fixed_frame)
    if motion.source == "tf":
        return _choice(tf, candidates)
    candidates.insert(0 if tf_first else len(candidates), tf)
    best = candidates[0]
    for other in candidates[1:]:
        if other.table is not None and (best.table is None or other.share > best.share + _BETTER):
            best = other
    return _choice(best, candidates)


def _choice(taken: Candidate, every: list[Candidate]) -> MotionSource:
    # A bag without /tf need not say so.
    others = [one for one in every if one is not taken and one.reason != _NOTHING]
    return MotionSource(taken=taken, others=tuple(others))


_NOTHING = "it holds no transform of the vehicle"


def _of_tf(survey: Survey, every: Times, fixed: str) -> Candidate:
    tree = survey.tree
    parent = tree.still(fixed)
    if parent == tree.base:
        return Candidate(name="/tf", reason=_NOTHING)
    table = tree.poses(fixed)
    if not len(table):
        above = tree.ancestors(tree.base)[1:]
        hangs = f"{tree.base} hangs on {' on '.join(above)}"
        hangs = hangs if above else f"{parent} hangs on {tree.base}"
        why = "what moves has no stamps" if tree.moving(parent) else "nothing moves"
        return Candidate(name="/tf", reason=f"{hangs}, and {why}")
    name = f"/tf ({parent} -> {tree.base})"
    return Candidate(
        name=name,
        table=table,
        share=_share(table, every),
        parent=parent,
        trouble=sideways(table),
    )


def _of_odometry(
    survey: Survey, topic: str, every: Times, extrinsics: Extrinsics | None
) -> Candidate:
    log, tree = survey.odometry[topic], survey.tree
    frames = log.most()
    if frames is None:
        _, why = survey.broken.get(topic, (0, "it holds none"))
        return Candidate(name=topic, reason=f"none of its messages can be used: {why}")
    parent, child = frames
    table, child_T_base = log.tables[frames], np.eye(4)
    if child and child.lower() != tree.base:
        try:
            child_T_base = geometry.invert(_base_T(survey, child, extrinsics))
        except MotionError as error:
            return Candidate(name=topic, reason=f"it is of {child!r}: {error}")
        table = table.composed(right=child_T_base)
    trouble = []
    if len(log.tables) > 1:
        pairs = ", ".join(f"{child} in {parent}" for parent, child in sorted(log.tables))
        trouble.append(f"its messages are of {pairs}; only the most frequent ones are used")
    if wrong := contradiction(log.tables[frames], log.twists[frames].kept):
        trouble.append(wrong)
    if wrong := sideways(table):
        trouble.append(wrong)
    share = _share(table, every)
    return Candidate(
        name=topic, table=table, share=share, parent=parent, trouble="; ".join(trouble)
    )


def _base_T(survey: Survey, frame: str, extrinsics: Extrinsics | None) -> np.ndarray:
    if extrinsics is not None:
        try:
            return extrinsics.base_T(frame)
        except MotionError:
            pass
    if moving := survey.tree.moving(frame):
        raise MotionError(f"{', '.join(moving)} moves against the vehicle")
    return survey.tree.base_T(frame)


def _share(table: PoseTable, every: Times) -> float:
    return float(table.known(every).mean()) if len(every) else 0.0
