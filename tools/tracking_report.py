"""How well ids stay with their objects: ``python tools/tracking_report.py DATA``.

Two measurements. The annotated boxes of a drive at the rate of the reference camera, with noise,
misses and false boxes put on them, say what the tracker does with a detector of known quality;
detections of a bag (crkd replay wrote it) say what it does with a real one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from crkd_core import geometry
from crkd_core.boxes import Boxes, Detections
from crkd_core.command import run_function
from crkd_core.data.nuscenes.reader import NuScenes
from crkd_core.data.nuscenes.tables import read_table
from crkd_core.sensors import ANCHOR_CAMERA
from crkd_core.tables import Table, print_tables
from crkd_ros.bags.detections import LABELS
from crkd_ros.bags.reader import read_bag
from crkd_ros.convert import arrays
from crkd_ros.node.tracking import Tracker
from crkd_ros.parameters.outputs import TrackingConfig

#: A detection is of an annotated object of its class within this distance, m (as in the nuScenes
#: tracking task).
MATCHED = 2.0
#: Standard deviations of the made-up detector: position m, velocity m/s.
NOISE = 0.3, 0.5

BOXES = "/detector_node/boxes"


class TrackingReportError(ValueError):
    """Data without annotations, or a bag without detections."""


class Seen(NamedTuple):
    """Detections of one moment, and which object each is (-1: none)."""

    stamp_ns: int
    global_T_ego: NDArray[np.float64]
    detections: Detections
    owner: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What became of the ids of a drive.

    Attributes:
        objects: objects that were detected at least twice.
        detections: of them, in frames that were looked at.
        named: detections that had an id.
        switches: an object's id is another than its last one.
        fragments: an object has its id again after at least one detection without, or another's.
        shared: ids that more than one object had.
        milliseconds: median time of the tracker per frame.
    """

    objects: int
    detections: int
    named: int
    switches: int
    fragments: int
    shared: int
    milliseconds: float

    def row(self, name: str) -> list[str]:
        """Cells of ``COLUMNS``."""
        named = f"{self.named / max(self.detections, 1):.1%}"
        numbers = (self.objects, self.detections, named, self.switches, self.fragments)
        return [name, *map(str, numbers), str(self.shared), f"{self.milliseconds:.2f}"]


COLUMNS = (
    *("detections", "objects", "of them detected", "with id", "id switches", "fragmentations"),
    *("shared ids", "ms per frame"),
)


def follow(frames: Iterable[Seen], config: TrackingConfig | None = None) -> Marks:
    """Track the frames of one drive and judge the ids."""
    tracker, seconds = Tracker(config), []
    history: dict[int, list[int]] = {}
    for frame in frames:
        before = time.perf_counter()
        answer = tracker(
            frame.detections, stamp_ns=frame.stamp_ns, fixed_T_base=frame.global_T_ego
        )
        seconds.append(time.perf_counter() - before)
        for thing, number in zip(frame.owner.tolist(), answer.id.tolist(), strict=True):
            if thing >= 0:
                history.setdefault(thing, []).append(number)
    return marks(history, milliseconds=float(np.median(seconds)) * 1e3)


def marks(history: dict[int, list[int]], *, milliseconds: float = 0.0) -> Marks:
    """Judge ids: object -> its id at each of its detections in order, 0 for none."""
    switches = fragments = 0
    for ids in history.values():
        last, lost = 0, False
        for number in ids:
            if number == 0:
                lost = last != 0
                continue
            switches += last not in (0, number)
            fragments += lost or last not in (0, number)
            last, lost = number, False
    owners = [number for ids in history.values() for number in set(ids) - {0}]
    return Marks(
        objects=sum(len(ids) > 1 for ids in history.values()),
        detections=sum(map(len, history.values())),
        named=sum(number > 0 for ids in history.values() for number in ids),
        switches=switches,
        fragments=fragments,
        shared=len(owners) - len(set(owners)),
        milliseconds=milliseconds,
    )


class Annotations:
    """The objects of one scene over time.

    Raises:
        TrackingReportError: the scene is not annotated.
    """

    def __init__(self, tables: NuScenes, scene: str) -> None:
        self._tables, self._samples = tables, tables.samples_of_scene(scene)
        names: dict[str, list[str]] = {token: [] for token in self._samples}
        # The index keeps no instances; boxes of a sample are in the order of this table there too.
        for rows in read_table(tables.root / tables.version / "sample_annotation.json"):
            for row in rows:
                if row["sample_token"] in names:
                    names[row["sample_token"]].append(str(row["instance_token"]))
        if not any(names.values()):
            raise TrackingReportError(f"{tables.root}: {scene} has no annotations to judge by")
        known = {name: i for i, name in enumerate(sorted({n for v in names.values() for n in v}))}
        self._stamps = np.array([tables.stamp_ns(token) for token in self._samples])
        self._moments: list[tuple[Boxes, NDArray[np.int64]]] = []
        for token in self._samples:
            everything = np.array([known[name] for name in names[token]], np.int64)
            place = tables.sample_row(token)
            labels = tables.index.box_label[slice(*tables.index.sample_boxes[place : place + 2])]
            self._moments.append((tables.truth_global(token), everything[labels >= 0]))

    def at(self, stamp_ns: int) -> tuple[Boxes, NDArray[np.int64]] | None:
        """Boxes in global axes and their objects, between two samples on a line; None outside."""
        after = int(np.searchsorted(self._stamps, stamp_ns))
        if after == len(self._stamps) or (after == 0 and stamp_ns < self._stamps[0]):
            return None
        if self._stamps[after] == stamp_ns:
            return self._moments[after]
        before, owner = self._moments[after - 1]
        later, later_owner = self._moments[after]
        _, here, there = np.intersect1d(owner, later_owner, return_indices=True)
        start, end = self._stamps[after - 1], self._stamps[after]
        part = (stamp_ns - start) / (end - start)
        way = later.center[there] - before.center[here]
        turn = geometry.wrap_angle(later.yaw[there] - before.yaw[here])
        return Boxes(
            center=before.center[here] + part * way,
            size=before.size[here],
            yaw=before.yaw[here] + part * turn,
            velocity=way[:, :2] / ((end - start) / 1e9),
            label=before.label[here],
            classes=before.classes,
        ), owner[here]


def made_up(
    tables: NuScenes, scene: str, *, miss: float, false: int, seed: int = 0, reach: float = 50.0
) -> Iterator[Seen]:
    """Annotated boxes at every image of the reference camera, as a detector might see them.

    Args:
        tables: the data set.
        scene: its drive.
        miss: share of boxes that are not detected.
        false: boxes per frame at places of no object.
        seed: of noise and misses.
        reach: boxes further from the vehicle are left out, m.
    """
    rng, annotations = np.random.default_rng(seed), Annotations(tables, scene)
    for record in tables.records(scene, ANCHOR_CAMERA):
        found = annotations.at(record.stamp_ns)
        if found is None:
            continue
        boxes, owner = found[0].transformed(geometry.invert(record.global_T_ego)), found[1]
        near = np.hypot(boxes.center[:, 0], boxes.center[:, 1]) < reach
        kept = near & (rng.uniform(size=len(near)) >= miss)
        boxes, owner = boxes.select(kept), owner[kept]
        count = len(owner)
        noisy = Detections(
            center=np.vstack([boxes.center, rng.uniform(-reach, reach, (false, 3))]),
            size=np.vstack([boxes.size, np.ones((false, 3))]),
            yaw=np.append(boxes.yaw, np.zeros(false)),
            velocity=np.vstack([np.nan_to_num(boxes.velocity), np.zeros((false, 2))]),
            label=np.append(boxes.label, rng.integers(0, len(boxes.classes), false)),
            score=np.ones(count + false),
            classes=boxes.classes,
        )
        noisy.center[:count, :2] += rng.normal(0, NOISE[0], (count, 2))
        noisy.velocity[:count] += rng.normal(0, NOISE[1], (count, 2))
        yield Seen(
            record.stamp_ns, record.global_T_ego, noisy, np.append(owner, np.full(false, -1))
        )


def detected(tables: NuScenes, scene: str, bag: Path, *, least: float) -> Iterator[Seen]:
    """Detections of a bag from ``least`` score on; those near an annotated object are its own.

    Raises:
        TrackingReportError: the bag has none at the times of the scene.
    """
    annotations, count = Annotations(tables, scene), 0
    told = next(iter(read_bag(bag, topics=[LABELS])), None)
    if told is None:
        raise TrackingReportError(
            f"{bag}: no {LABELS}, so its labels mean nothing; write it again with crkd replay"
        )
    classes = arrays.classes_of(told.message())
    poses = {r.stamp_ns: r.global_T_ego for r in tables.records(scene, ANCHOR_CAMERA)}
    for record in read_bag(bag, topics=[BOXES]):
        message: Any = record.message()
        stamp_ns = arrays.stamp_ns(message.header.stamp)
        truth = annotations.at(stamp_ns)
        if stamp_ns not in poses or truth is None:
            continue
        found = arrays.boxes_from_cloud(message, classes)
        found = found.select(found.score >= least)
        owner = owners(found.transformed(poses[stamp_ns]), *truth)
        count += 1
        yield Seen(stamp_ns, poses[stamp_ns], found, owner)
    if not count:
        raise TrackingReportError(
            f"{bag}: no {BOXES} at the images of {scene} in {tables.root}; expected a bag that "
            "crkd replay wrote from this scene"
        )


def owners(found: Boxes, truth: Boxes, thing: NDArray[np.int64]) -> NDArray[np.int64]:
    """The object of each detection [N], -1 for none: pairs of least distance, same class."""
    away = np.linalg.norm(found.center[:, None, :2] - truth.center[None, :, :2], axis=-1)
    same = np.array(found.classes)[found.label][:, None] == np.array(truth.classes)[truth.label]
    allowed = (away < MATCHED) & same
    one, other = linear_sum_assignment(np.where(allowed, away - MATCHED, 0))
    made = allowed[one, other]
    result = np.full(len(found), -1, np.int64)
    result[one[made]] = thing[other[made]]
    return result


def report(
    tables: NuScenes, scene: str, bag: Path | None = None, *, scores: Sequence[float] = (0.1, 0.3)
) -> Table:
    """The table of both measurements. Raises TrackingReportError."""
    rows = []
    for miss, false in ((0.0, 0), (0.1, 0), (0.3, 0), (0.1, 20)):
        name = f"truth, noise {NOISE[0]} m, {miss:.0%} missed, {false} false a frame"
        rows.append(follow(made_up(tables, scene, miss=miss, false=false)).row(name))
    for least in scores if bag is not None else ():
        assert bag is not None
        frames = detected(tables, scene, bag, least=least)
        rows.append(follow(frames).row(f"bag, scores from {least:g}"))
    return Table(title=f"Ids of {scene}", columns=COLUMNS, rows=rows)


def _command(
    data: Annotated[Path, typer.Argument(help="Root folder of a nuScenes data set.")],
    scene: Annotated[str | None, typer.Option(help="Name; default: the first.")] = None,
    bag: Annotated[Path | None, typer.Option(help="Detections that crkd replay wrote.")] = None,
    markdown: Annotated[bool, typer.Option(help="Print the table as Markdown.")] = False,
) -> None:
    """Measure how well the tracker's ids stay with their objects."""
    tables = NuScenes(data)
    table = report(tables, scene or tables.scenes[0], bag)
    if markdown:
        print(table.markdown(), end="")
    else:
        print_tables(table)


def main() -> None:
    """The command's entry point."""
    run_function(_command)


if __name__ == "__main__":
    main()
