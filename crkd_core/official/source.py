"""A state dict that is read key by key, so that nothing in it is missed or left over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

#: Tensors of a BatchNorm.
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

#: Parts of a detector; a distilled file holds the student's under these names with "_student".
ROOTS = ("encoders", "fuser", "decoder", "heads")

#: More keys than this are not printed.
SHOWN = 40


class OfficialError(ValueError):
    """A state dict that does not hold a network that we can build."""


class Source:
    """Keys of a released checkpoint on their way to ours.

    Every ``move`` takes a tensor away under its released name and stores it under ours. ``finish``
    answers the tensors, or refuses with all keys that were looked for in vain or left over.

    Attributes:
        out: tensors taken so far, by our names.
    """

    def __init__(self, state: Mapping[str, Tensor], *, suffix: str = ""):
        """Take the keys of ``state``.

        Args:
            state: tensors by released names.
            suffix: what the roots of these names (encoders, fuser, ...) had at their end in the
                file, for errors.
        """
        self.left = dict(state)
        self.suffix = suffix
        self.missing: list[str] = []
        self.out: dict[str, Tensor] = {}

    def __contains__(self, key: str) -> bool:
        return key in self.left

    def has(self, prefix: str) -> bool:
        """Whether a key that begins so is left."""
        return any(key.startswith(prefix) for key in self.left)

    def take(self, key: str) -> Tensor | None:
        """The tensor of a released key, taken away; None, remembered as missing, if absent."""
        if key not in self.left:
            self.missing.append(key)
            return None
        return self.left.pop(key)

    def shape(self, key: str, *, axes: int = 1) -> tuple[int, ...]:
        """Shape of a tensor that is still there.

        Args:
            key: released name.
            axes: how many it has at least.

        Raises:
            OfficialError: it is not there, or has fewer axes.
        """
        if key not in self.left:
            raise OfficialError(f"expected a tensor {key}, which tells a size, but it is missing")
        shape = tuple(self.left[key].shape)
        if len(shape) < axes:
            raise OfficialError(f"{key}: expected a tensor of {axes} axes or more, got {shape}")
        return shape

    def move(self, old: str, new: str, change: Callable[[Tensor], Tensor] | None = None) -> None:
        """One tensor, changed on the way.

        Raises:
            OfficialError: its shape is one that cannot be changed so.
        """
        tensor = self.take(old)
        if tensor is not None:
            with self._fitting({old: tensor}):
                self.out[new] = tensor if change is None else change(tensor)

    def split(self, old: str, new: Sequence[str]) -> None:
        """One tensor in as many parts along its first axis, each under a name of its own.

        Raises:
            OfficialError: it cannot be parted so.
        """
        tensor = self.take(old)
        if tensor is not None:
            with self._fitting({old: tensor}):
                parts = tensor.tensor_split(len(new))
            for name, part in zip(new, parts, strict=True):
                self.out[name] = part.contiguous()

    def join(self, old: Sequence[str], new: str) -> None:
        """Tensors one after the other along their first axis; none where one is missing.

        Raises:
            OfficialError: their shapes do not go together.
        """
        taken = {key: self.take(key) for key in old}
        known = {key: tensor for key, tensor in taken.items() if tensor is not None}
        if len(known) == len(taken):
            with self._fitting(known):
                self.out[new] = torch.cat([*known.values()])

    @contextmanager
    def _fitting(self, tensors: Mapping[str, Tensor]) -> Iterator[None]:
        """Say of which tensors the shapes are to blame."""
        try:
            yield
        except (IndexError, RuntimeError, ValueError) as error:
            shapes = {tuple(tensor.shape): key for key, tensor in reversed([*tensors.items()])}
            listed = ", ".join(f"{self._original(k)} {shape}" for shape, k in shapes.items())
            raise OfficialError(
                f"tensors of shapes that no network of CRKD has: {listed}"
            ) from error

    def layer(self, old: str, new: str, *, bias: bool = True) -> None:
        """Weight and bias of a convolution or linear layer, or of a LayerNorm."""
        for name in ("weight", "bias") if bias else ("weight",):
            self.move(f"{old}.{name}", f"{new}.{name}")

    def norm(self, old: str, new: str) -> None:
        """The five tensors of a BatchNorm."""
        for name in NORM:
            self.move(f"{old}.{name}", f"{new}.{name}")

    def drop(self, key: str) -> None:
        """A buffer that our network computes itself; may be absent."""
        self.left.pop(key, None)

    def finish(self) -> dict[str, Tensor]:
        """Our tensors.

        Raises:
            OfficialError: missing or unknown keys; they are listed.
        """
        missing, unknown = (
            [self._original(k) for k in keys] for keys in (self.missing, self.left)
        )
        if missing or unknown:
            parts = [f"missing {_listed(missing)}"] if missing else []
            parts += [f"unknown {_listed(unknown)}"] if unknown else []
            raise OfficialError("keys do not fit: " + "; ".join(parts))
        return self.out

    def _original(self, key: str) -> str:
        root, dot, rest = key.partition(".")
        return f"{root}{self.suffix}{dot}{rest}" if root in ROOTS else key


def _listed(keys: list[str]) -> str:
    rest = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return f"({len(keys)}): " + ", ".join(sorted(keys)[:SHOWN]) + rest
