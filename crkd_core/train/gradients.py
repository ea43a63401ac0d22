"""The gradient of each further loss by that of the detection loss: its size and its direction.

A loss whose gradient is larger than that of the detection loss decides what is learned; one whose
gradient vanishes teaches nothing, whatever its value; one at more than a right angle works against
detection. None of it can be seen in the values of the losses.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from crkd_core.model.head import REGRESSION
from crkd_core.train.run_folder import LOG, RunError, read_log

#: The terms that are the detection loss.
DETECTION = ("heatmap", *REGRESSION)
#: Names in the log begin with these: the loss's gradient as a share of that of the detection loss,
#: and the cosine of the angle between the two.
SHARE, COSINE = "share.", "cosine."

#: Mean share over the second half of a run, above and below which a loss has failed, and mean
#: cosine below which it has.
DOMINATES, DIES, OPPOSES = 1.0, 1e-3, -0.1

#: Loss -> (step, share, cosine) of every step that was measured.
GradientRatios = dict[str, list[tuple[int, float, float]]]


def gradient_ratios(
    terms: Mapping[str, Tensor], model: nn.Module, along: nn.Module | None = None
) -> dict[str, float]:
    """Share and cosine of every further loss, under ``SHARE`` and ``COSINE`` with its name.

    Both are over those parameters of the network that the loss and the detection loss reach. A
    loss that reaches none has neither.

    Args:
        terms: of a step, with their graph, which is left as it is.
        model: the network.
        along: what is trained along with it; None = nothing.
    """
    others = [
        name
        for name, term in terms.items()
        if name not in (*DETECTION, "total") and term.requires_grad
    ]
    detection = sum((terms[n] for n in DETECTION if n in terms), torch.zeros(()))
    if not others or not isinstance(detection, Tensor) or not detection.requires_grad:
        return {}
    parameters = [p for p in model.parameters() if p.requires_grad]
    # Asked for too and not looked at: shared norms between a loss and a network that it does not
    # reach in this process, for want of a sensor, must answer those of the other processes.
    asked = [*parameters, *(() if along is None else along.parameters())]
    own = _gradients(detection, asked)[: len(parameters)]
    found: dict[str, float] = {}
    for name in others:
        pairs = [
            (a.float(), b.float())
            for a, b in zip(own, _gradients(terms[name], asked), strict=False)
            if a is not None and b is not None
        ]
        if not pairs:
            continue
        dot = float(sum((a * b).sum() for a, b in pairs))
        ours, other = (float(sum(pair[k].square().sum() for pair in pairs)) ** 0.5 for k in (0, 1))
        if not ours:
            continue  # A batch without a labelled sample.
        found[SHARE + name] = other / ours
        found[COSINE + name] = dot / max(ours * other, 1e-24)
    return found


def _gradients(loss: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)


def read_gradient_ratios(run: Path) -> GradientRatios:
    """What a run logged of its gradients, share and cosine together; empty where nothing was.

    Raises:
        RunError: the folder has no metrics.jsonl.
    """
    found: GradientRatios = {}
    try:
        for logged in read_log(run):
            for key, share in logged.items():
                name = key.removeprefix(SHARE)
                cosine = logged.get(COSINE + name)
                # null where the gradient of a step that was left out was not finite.
                if key == name or not isinstance(share, int | float):
                    continue
                if isinstance(cosine, int | float):
                    found.setdefault(name, []).append((logged["step"], share, cosine))
    except OSError as error:
        raise RunError(f"{run}: expected a run folder with {LOG}: {error}") from error
    return found


def means(measured: Sequence[tuple[int, float, float]]) -> tuple[float, float]:
    """Mean share and cosine over the second half of the steps that were measured."""
    late = measured[len(measured) // 2 :]
    return statistics.fmean(share for _, share, _ in late), statistics.fmean(c for *_, c in late)


def failures(measured: GradientRatios) -> list[str]:
    """What went wrong with the losses of a run, one sentence each."""
    said = []
    for name, values in measured.items():
        share, cosine = means(values)
        if share > DOMINATES:
            said.append(
                f"{name} dominates: its gradient is {share:.2g} times that of the detection loss; "
                f"give it less weight, --losses {name}=..."
            )
        elif share < DIES:
            said.append(
                f"{name} has died: its gradient is {share:.2g} times that of the detection loss, "
                "so it teaches nothing"
            )
        if cosine < OPPOSES:
            said.append(
                f"{name} works against the detection loss: the cosine of their gradients is "
                f"{cosine:.2f}"
            )
    return said
