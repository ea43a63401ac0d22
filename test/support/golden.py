"""Golden vectors: numbers that the released CRKD code computed, and the rule of their inputs.

The folder is the environment variable CRKD_GOLDEN, by default ``../shared/golden`` beside the
repository; its seed is CRKD_GOLDEN_SEED, by default 7. Without the folder these tests skip.

    from golden import Vectors, check, needs_golden, tensor, value, weights

    @needs_golden
    def test_fuser():
        vectors = Vectors("modules_r50_student")
        camera = tensor("input/fuser/camera", (1, 80, 40, 36))
        check(fuser(camera, ...), vectors, "fuser.fused")
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

FOLDER = Path(
    os.environ.get("CRKD_GOLDEN", str(Path(__file__).resolve().parents[3] / "shared" / "golden"))
)
SEED = int(os.environ.get("CRKD_GOLDEN_SEED", "7"))

needs_golden = pytest.mark.skipif(
    not (FOLDER / "view.npz").is_file(), reason=f"no golden vectors in {FOLDER} (CRKD_GOLDEN)"
)

#: Greatest absolute error of a module, as a share of the greatest absolute value.
MODULE_TOLERANCE = 1e-5

#: How each kind of tensor is made of standard normal numbers times its scale.
_RULES = {
    "weight": lambda v: v,
    "bias": lambda v: v,
    "norm_bias": lambda v: v,
    "running_mean": lambda v: v,
    "rel_pos_bias": lambda v: v,
    "norm_weight": lambda v: np.float32(1) + v,
    "norm_weight_res": lambda v: np.float32(0.25) * (np.float32(1) + v),
    "running_var": lambda v: np.float32(1) + np.abs(v),
}


def value(key: str, shape: tuple[int, ...] | list[int], scale: float = 1.0) -> NDArray[np.float32]:
    """Numbers of a key: the same key, shape and seed give the same numbers."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()) ^ SEED))
    return generator.standard_normal(tuple(shape), np.float32) * np.float32(scale)


def tensor(key: str, shape: tuple[int, ...], scale: float = 1.0) -> Tensor:
    """``value`` as a tensor."""
    return torch.from_numpy(value(key, shape, scale))


def weights(model: str, *, prefix: str = "") -> dict[str, Tensor]:
    """The state dict of a model (r50_student, swint_teacher, ...) in official naming.

    Only keys that begin with ``prefix``. Buffers of kind "constant" are left out: the released
    code computes them.
    """
    entries = json.loads((FOLDER / f"keys_{model}.json").read_text())["entries"]
    state: dict[str, Tensor] = {}
    for key, shape, _, kind, scale in entries:
        if not key.startswith(prefix) or kind == "constant":
            continue
        if kind == "zero":
            state[key] = torch.zeros(shape, dtype=torch.int64)
        else:
            state[key] = torch.from_numpy(np.asarray(_RULES[kind](value(key, shape, scale))))
    return state


class Vectors:
    """One .npz of the golden folder; ``vectors[name]`` is a stored array."""

    def __init__(self, name: str):
        self.file = np.load(FOLDER / f"{name}.npz")
        self.names = frozenset(self.file.files)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.file[name]

    def __contains__(self, name: str) -> bool:
        return name in self.names or f"{name}__sample" in self.names

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the full tensor, also where only a sample of it is stored."""
        if name in self.names:
            return self[name].shape
        return tuple(int(n) for n in self[f"{name}__shape"])

    def pairs(self, actual: Tensor | NDArray[Any], name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """(found, stored) values at the stored places, flat, after a check of the shape."""
        found = np.asarray(actual.detach().cpu() if isinstance(actual, Tensor) else actual)
        assert found.shape == self.shape(name), f"{name}: {found.shape} != {self.shape(name)}"
        flat = np.ascontiguousarray(found).reshape(-1)
        if name in self.names:
            return flat, self[name].reshape(-1)
        return flat[:: int(self[f"{name}__stride"])], self[f"{name}__sample"]


def check(
    actual: Tensor | NDArray[Any],
    vectors: Vectors,
    name: str,
    *,
    tolerance: float = MODULE_TOLERANCE,
) -> float:
    """Assert that the greatest error is at most ``tolerance`` times the greatest stored value.

    Where only a sample is stored, mean, deviation, sum of magnitudes and extremes of the whole
    tensor are compared too.

    Returns:
        The greatest error as a share of the greatest value.
    """
    found, stored = vectors.pairs(actual, name)
    peak = float(np.abs(stored).max()) or 1.0
    if f"{name}__stats" in vectors.names:
        full = np.asarray(
            actual.detach().cpu() if isinstance(actual, Tensor) else actual, np.float64
        )
        mean, std, total, low, high = vectors[f"{name}__stats"]
        peak = max(abs(low), abs(high))
        assert np.isclose(full.mean(), mean, rtol=0, atol=tolerance * peak), name
        assert np.isclose(full.std(), std, rtol=0, atol=tolerance * peak), name
        assert np.isclose(np.abs(full).sum(), total, rtol=tolerance * 10, atol=0), name
        assert np.isclose(full.min(), low, rtol=0, atol=tolerance * peak), name
        assert np.isclose(full.max(), high, rtol=0, atol=tolerance * peak), name
    error = float(np.abs(found.astype(np.float64) - stored).max()) / peak
    assert error <= tolerance, f"{name}: error {error:.3g} of the peak {peak:.4g}"
    return error
