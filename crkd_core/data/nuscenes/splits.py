"""Which scenes a split of a version is: splits.json, predefined splits, names of scenes."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from crkd_core.data.nuscenes.tables import (
    SPLIT_SUFFIX,
    NuScenesError,
    custom_splits,
    predefined_splits,
)
from crkd_core.data.warn import warn_once


def splits_held(version: Path, scenes: Collection[str]) -> dict[str, list[str]]:
    """Split name -> names of its scenes that are here; splits.json comes first.

    Args:
        version: the version folder.
        scenes: names of those that it holds.
    """
    known = predefined_splits(version.name) | custom_splits(version)
    return {split: [name for name in names if name in scenes] for split, names in known.items()}


def scenes_of(version: Path, scenes: Collection[str], split: str) -> list[str]:
    """Scene names of a split; warns once of those in splits.json that are not here.

    Args:
        version: the version folder.
        scenes: names of those that it holds.
        split: its name, or else a scene, or several, joined by commas.

    Raises:
        NuScenesError: unknown split or scene, or none of its scenes is here; lists what is.
    """
    splits = splits_held(version, scenes)
    if splits.get(split):
        _warn_of_lacking(version, scenes, split)
        return splits[split]
    if split in scenes:  # Its name may have a comma.
        return [split]
    named = dict.fromkeys(split.split(","))
    lacking = [name for name in named if name not in scenes]
    if not lacking:
        return list(named)
    if split not in splits and "," in split and lacking[0] in splits:
        raise NuScenesError(
            f"{version.parent}: {split!r} joins splits; expected one split, or scenes joined by "
            f"commas; a split of your own is a line in {version / 'splits.json'}"
        )
    if split not in splits and "," in split:
        raise unknown_scene(version, scenes, lacking[0])
    here = ", ".join(name for name, held in splits.items() if held) or "none"
    reason = "is not known"
    if split in splits:
        reason = f"has no scene in {version.name}"
    elif split in SPLIT_SUFFIX:
        reason = f"belongs to versions ending in {SPLIT_SUFFIX[split]}"
    raise NuScenesError(
        f"{version.parent}: split {split!r} {reason}; splits of {version.name}: {here}"
    )


def unknown_scene(version: Path, scenes: Collection[str], scene: str) -> NuScenesError:
    """The error of a scene that is not here."""
    shown = ", ".join([*scenes][:10]) + (", ..." if len(scenes) > 10 else "")
    return NuScenesError(f"no scene {scene!r} in {version}; {len(scenes)} scenes: {shown}")


def _warn_of_lacking(version: Path, scenes: Collection[str], split: str) -> None:
    names = custom_splits(version).get(split, [])
    lacking = [name for name in names if name not in scenes]
    if lacking:
        warn_once(
            f"{version / 'splits.json'}: {len(lacking)} of {len(names)} scenes of {split!r} "
            f"are not in {version.name}, first {lacking[0]}; the split is the others"
        )
