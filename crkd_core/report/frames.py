"""Which samples are worth a picture: the best, the typical and the worst of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from crkd_core.evaluate.matching import match
from crkd_core.evaluate.scoring import Countable

#: A box that is drawn, and a match: score, and metres between centres.
MIN_SCORE, DISTANCE = 0.25, 2.0


def quality(counted: Countable, classes: Sequence[str]) -> dict[str, float]:
    """Sample token -> F1 of its boxes: 2 right / (truth + shown).

    Shown are detections from MIN_SCORE on, right those that are matched within DISTANCE. Samples
    without truth and without detections are left out.

    Args:
        counted: truth and detections of a network.
        classes: of which boxes count, all of them among the network's.
    """
    truth, found = counted.truth.of_classes(classes), counted.detections.of_classes(classes)
    found = found.select(found.score >= MIN_SCORE)
    right = match(truth, found, (DISTANCE,))[0] >= 0
    samples = len(counted.tokens)
    hits = np.bincount(found.sample[right], minlength=samples)
    boxes = np.bincount(found.sample, minlength=samples) + np.bincount(
        truth.sample, minlength=samples
    )
    return {
        token: float(2 * hits[i] / boxes[i]) for i, token in enumerate(counted.tokens) if boxes[i]
    }


def chosen(
    qualities: Mapping[str, float], reference: Mapping[str, float] | None = None
) -> dict[str, str]:
    """What a sample stands for -> its token; each sample once, so there may be fewer.

    Args:
        qualities: of the network that the pictures are about.
        reference: of the one that it is compared with, over the same classes; None = no such
            samples.
    """
    tokens = list(qualities)
    if not tokens:
        return {}
    order = _ranked([qualities[token] for token in tokens])
    places = {"best": order[-1], "typical": order[len(order) // 2], "worst": order[0]}
    if reference is not None:
        gains = [qualities[token] - reference.get(token, np.nan) for token in tokens]
        by_gain = _ranked([0.0 if np.isnan(gain) else gain for gain in gains])
        places |= {"most gained": by_gain[-1], "most lost": by_gain[0]}
    found: dict[str, str] = {}
    for name, place in places.items():
        if tokens[place] not in found.values():
            found[name] = tokens[place]
    return found


def _ranked(values: list[float]) -> NDArray[np.int64]:
    return np.argsort(values, kind="stable")
