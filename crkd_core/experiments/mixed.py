"""What must not stand in one table: runs of weights that are gone, and of data that has changed.

docs/decisions/0026 and 0027.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from crkd_core.data.nuscenes.reader import NuScenesFrames
from crkd_core.data.nuscenes.scenes import NuScenes
from crkd_core.evaluate.scored_data import DATA, scored_data
from crkd_core.experiments.folder import Folder
from crkd_core.experiments.plan import RunSpec
from crkd_core.experiments.settings import ExperimentError, Settings
from crkd_core.train.run_folder import RECORD

#: Where an evaluation says what it is of.
METRICS = "metrics.json"
#: Options of a training's command line that name the run whose weights it needs.
_PARENTS = ("--start", "--student", "--teacher", "--pseudo-labels")


def check_unmixed(
    folder: Folder, specs: Sequence[RunSpec], settings: Settings, splits: Sequence[str]
) -> None:
    """Refuse to go on where the tables would be of different things.

    Args:
        folder: of the experiment.
        specs: runs of this call.
        settings: of the folder; the trainings from elsewhere are not asked where they come from.
        splits: "validation", "test": where runs are scored.

    Raises:
        ExperimentError: a run is to be trained anew and others began from its former weights; or
            runs were trained or scored when the data set was another.
        NuScenesError: the data set cannot be used.
    """
    _check_parents(folder, specs, settings)
    _check_data(folder, specs, settings, splits)


def _check_parents(folder: Folder, specs: Sequence[RunSpec], settings: Settings) -> None:
    there = [path.name for path in (folder.path / "runs").glob("[!.]*")]
    records = {name: folder.record(name) for name in there}
    began = {
        name: _parents(record)
        for name, record in records.items()
        if record is not None and name not in settings.trained
    }
    for spec in specs:
        if records.get(spec.name) is not None:
            continue
        if children := sorted(name for name, parents in began.items() if spec.name in parents):
            raise ExperimentError(
                f"{folder.run(spec.name)} is to be trained, and {', '.join(children)} began from "
                "weights that once lay there: one table would be of both; bring that folder back, "
                f"or remove under {folder.run(spec.name).parent} those of {', '.join(children)} "
                "too, to train them anew"
            )


def _parents(record: dict[str, Any]) -> set[str]:
    """Names of the runs of the same folder from which, or from whom, a run learned."""
    words = record.get("command")
    if not isinstance(words, list):
        return set()
    named = {value for option, value in pairwise(map(str, words)) if option in _PARENTS}
    # runs/RUN, and the boxes in evaluations/RUN/PART/results.json.
    return {Path(v).parts[1] for v in named if v.startswith(("runs/", "evaluations/"))}


def _check_data(
    folder: Folder, specs: Sequence[RunSpec], settings: Settings, splits: Sequence[str]
) -> None:
    now: dict[tuple[str, bool], str] = {}
    for part, root, scenes, file, was in _kept(folder, specs, settings, splits):
        # Training keeps the order of its samples, scores do not.
        scored = file.name == METRICS
        if (part, scored) not in now:
            now[part, scored] = _digest(root, ",".join(scenes), scored=scored)
        if was != now[part, scored]:
            raise ExperimentError(
                f"{file} is of other {part} drives than {root} holds (digest {was}, now "
                f"{now[part, scored]}): its tables have changed since, and one table here would "
                "be of both; bring the data set back, or choose another --out"
            )


def _kept(
    folder: Folder, specs: Sequence[RunSpec], settings: Settings, splits: Sequence[str]
) -> Iterator[tuple[str, str, tuple[str, ...], Path, str]]:
    """Of what there is: part of the drives, root, scenes, the file that says so, their digest."""
    for spec in specs:
        record = None if spec.name in settings.trained else folder.record(spec.name)
        digests = str((record or {}).get("digest") or "").split()
        sets = [(str(spec.drives), settings.data, settings.drives[spec.drives])]
        if spec.unlabelled is not None:
            sets.append((str(spec.unlabelled), *settings.unlabelled(spec.unlabelled)))
        for (part, root, scenes), was in zip(sets, digests, strict=False):
            yield part, root, scenes, folder.run(spec.name) / RECORD, was
        for split in splits:
            file = folder.evaluation(spec.name, split) / METRICS
            if folder.is_evaluated(spec.name, split) and file.exists():
                was = json.loads(file.read_text()).get(DATA, {}).get("digest", "")
                if was:  # Earlier versions did not say it.
                    yield split, settings.data, settings.drives[split], file, was


def _digest(root: str, split: str, *, scored: bool) -> str:
    tables = NuScenes(root, split=split, quiet=True)
    tokens = tables.samples_of(split)
    if scored:
        return str(scored_data(tables, tokens, split=split)[DATA]["digest"])
    return NuScenesFrames(tables, tokens, radar_sweeps=0, sensors=()).digest()
