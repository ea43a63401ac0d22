"""Streaming metrics: detections are scored against the truth of the moment they are used at.

After Li, Wang and Ramanan, "Towards Streaming Perception" (ECCV 2020, section 3), for 3D boxes:
at each truth time t the latest detections that had BECOME AVAILABLE by t are scored against the
truth at t, so latency and skipped frames cost accuracy. Three variants of one stream:

* ``offline``: the answer with stamp t, whenever it came. Key frames without one count as empty.
* ``streaming``, the headline: the latest answer available at t, its boxes where they were.
* ``forwarded``: the same, each box moved on by its own velocity from its stamp to t.

Boxes live in the map: the user of late detections is taken to know the vehicle's own motion, so
that only the motion of the objects, and what was not seen yet, costs. Truth times are the key
frames of the data set, t the stamp of the key image of ANCHOR_CAMERA (the annotations are of the
LiDAR sweep a millisecond later). Pure; the metrics are ``crkd_core.evaluate``'s, unchanged.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from crkd_core.boxes import Detections
from crkd_core.evaluate.submission import Submission, make_submission

if TYPE_CHECKING:
    from crkd_core.data.nuscenes.reader import NuScenes
    from crkd_core.evaluate.metrics import Evaluation

Variant = Literal["offline", "streaming", "forwarded"]

#: In the order of the tables.
VARIANTS: tuple[Variant, ...] = ("offline", "streaming", "forwarded")


class StreamingError(ValueError):
    """Answers that no node can have given."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a detector published for one frame, and when.

    Attributes:
        stamp_ns: reference time of the frame.
        available_ns: when the detections reached their user, in the time of the stamps: at playing
            rate r a latency of L real seconds is r L.
        detections: in ego axes at ``stamp_ns``.
        global_T_ego: [4, 4] pose of the vehicle at ``stamp_ns``.

    Raises:
        StreamingError: available before its stamp.
    """

    stamp_ns: int
    available_ns: int
    detections: Detections
    global_T_ego: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.available_ns < self.stamp_ns:
            raise StreamingError(
                f"the answer to {self.stamp_ns} ns is said to be available at "
                f"{self.available_ns} ns, before it; expected bag time for both"
            )


class Stream:
    """The answers of one pass over a drive. Of several with the same stamp the first counts.

    Args:
        answers: in any order.
        classes: of the detector, also where it answered nothing.
    """

    def __init__(self, answers: Iterable[Answer], *, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self._by_stamp: dict[int, Answer] = {}
        self._available: list[int] = []
        self._latest: list[Answer] = []
        # Equal times: the newest stamp last, so that a search from the right finds it.
        for answer in sorted(answers, key=lambda a: (a.available_ns, a.stamp_ns)):
            if answer.stamp_ns in self._by_stamp:
                continue
            self._by_stamp[answer.stamp_ns] = answer
            newest = self._latest[-1] if self._latest else answer
            self._available.append(answer.available_ns)
            # A late answer to an old frame does not replace a newer one.
            self._latest.append(answer if answer.stamp_ns >= newest.stamp_ns else newest)

    def __len__(self) -> int:
        return len(self._by_stamp)

    def __iter__(self) -> Iterator[Answer]:
        return iter(self._by_stamp.values())

    def of(self, stamp_ns: int) -> Answer | None:
        """The answer to the frame with this stamp, whenever it came."""
        return self._by_stamp.get(stamp_ns)

    def latest(self, at_ns: int) -> Answer | None:
        """The answer with the newest stamp among those available at a time; None: none yet."""
        count = bisect.bisect_right(self._available, at_ns)
        return self._latest[count - 1] if count else None


def forwarded(detections: Detections, seconds: float) -> Detections:
    """The boxes after ``seconds`` at constant velocity; unknown velocities (NaN) stand still."""
    center = detections.center.copy()
    center[:, :2] += np.nan_to_num(detections.velocity) * seconds
    return dataclasses.replace(detections, center=center)


def submission_of(stream: Stream, samples: Mapping[int, str], variant: Variant) -> Submission:
    """What the benchmark would have got from this stream.

    Args:
        stream: the answers.
        samples: truth time ns -> sample token; samples without an answer are empty.
        variant: see the module.
    """
    answers = []
    for at_ns, token in samples.items():
        found = stream.of(at_ns) if variant == "offline" else stream.latest(at_ns)
        if found is None:
            continue
        boxes = found.detections
        if variant == "forwarded":
            boxes = forwarded(boxes, (at_ns - found.stamp_ns) * 1e-9)
        answers.append((token, found.global_T_ego, boxes))
    return make_submission(answers, classes=stream.classes, tokens=samples.values())


@dataclass(frozen=True, kw_only=True)
class StreamScores:
    """How good a stream of answers was.

    Attributes:
        evaluations: variant -> nuScenes metrics.
        ages: per sample that had an answer, seconds from the stamp of the latest one to t.
        samples: how many samples were scored.
    """

    evaluations: Mapping[Variant, Evaluation]
    ages: tuple[float, ...]
    samples: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON: mAP and NDS of each variant, and how old the detections were."""
        scores: dict[str, Any] = {
            str(variant): {
                "mean_ap": evaluation.summary["mean_ap"],
                "nd_score": evaluation.summary["nd_score"],
            }
            for variant, evaluation in self.evaluations.items()
        }
        return {
            **scores,
            "samples": self.samples,
            "samples_with_detections": len(self.ages),
            "mean_age_s": float(np.mean(self.ages)) if self.ages else None,
        }


def score_stream(tables: NuScenes, stream: Stream, samples: Mapping[int, str]) -> StreamScores:
    """Score a stream in all variants.

    Args:
        tables: the annotated data set.
        stream: the answers of one pass.
        samples: truth time ns (reference stamp of the key frame) -> sample token.

    Raises:
        EvaluateError: a version without annotations.
    """
    from crkd_core.evaluate.scoring import score

    latest = [(at_ns, stream.latest(at_ns)) for at_ns in samples]
    return StreamScores(
        evaluations={
            variant: score(tables, submission_of(stream, samples, variant), list(samples.values()))
            for variant in VARIANTS
        },
        ages=tuple((at_ns - a.stamp_ns) * 1e-9 for at_ns, a in latest if a is not None),
        samples=len(samples),
    )
