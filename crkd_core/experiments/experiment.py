"""An experiment from its name to its tables. Command `crkd experiment`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from crkd_core.experiments.asked import Asked
from crkd_core.experiments.folder import Folder
from crkd_core.experiments.lists import runs_of
from crkd_core.experiments.plan import PlanError, RunSpec, in_order
from crkd_core.experiments.plots import draw_arms, draw_parts
from crkd_core.experiments.results import (
    SPLITS,
    published,
    put_aside,
    read_results,
    write_result,
)
from crkd_core.experiments.runner import run_all
from crkd_core.experiments.settings import ExperimentError, Settings
from crkd_core.experiments.table import tables
from crkd_core.files import write_text
from crkd_core.tables import Table
from crkd_core.train.curves import compare_losses, logged_runs


def experiment(
    name: str,
    path: Path,
    asked: Asked,
    *,
    seeds: int | None = None,
    only: Sequence[str] = (),
    jobs: int = 2,
    test: bool = False,
) -> dict[str, str]:
    """Train and score the runs of a list that are not yet, and write their tables.

    Args:
        name: of the list, or of several: "main,few".
        path: the folder of all lists of one data set; runs that two lists share are made once.
        asked: what the call says of the settings of the folder.
        seeds: how many; None = as many as the list has.
        only: runs or arms; their parents are made too.
        jobs: processes at once, of one core each.
        test: score on the test drives too.

    Returns:
        Name -> why, of the runs that failed or wait for one that did.

    Raises:
        ExperimentError: somebody else at work there, or see ``Asked.settled``.
        ConfigError, DrivesError, NuScenesError: likewise.
        PlanError: no such list or run, or `trained` names one that is not made.
    """
    every = {one: in_order(runs_of(one, seeds=seeds)) for one in name.split(",")}
    chosen = in_order([spec for specs in every.values() for spec in specs], only)
    if unknown := sorted({*(asked.trained or ())} - {spec.name for spec in chosen}):
        names = ", ".join(spec.name for spec in chosen)
        raise PlanError(f"--trained {unknown[0]}: not one of the runs of this call: {names}")
    folder = Folder(path)
    with folder.locked() as lock:
        settings = asked.settled(folder, chosen)
        _take(folder, settings, chosen)
        splits = SPLITS if test else SPLITS[:1]

        def publish(failed: Mapping[str, str]) -> None:
            for one, specs in every.items():
                for spec in specs:
                    write_result(folder, spec, settings)
                known = published(folder, one, seeds=seeds)
                _publish(one, folder, known, failed, asked={spec.name for spec in chosen})

        failed = run_all(
            folder,
            chosen,
            settings,
            lock=lock,
            jobs=jobs,
            splits=splits,
            finished=lambda _: publish({}),
        )
        publish(failed)
    return failed


def trainings_from(words: Sequence[str]) -> dict[str, Path]:
    """RUN=FOLDER, run -> folder.

    Raises:
        ExperimentError: another form, or a run twice.
    """
    found: dict[str, Path] = {}
    for word in words:
        name, separator, source = word.partition("=")
        if not (name and separator and source) or name in found:
            raise ExperimentError(
                f"--trained {word}: expected RUN=FOLDER or RUN=WEIGHTS, each run once, "
                "such as teacher=runs/mine"
            )
        found[name] = Path(source)
    return found


def shown(name: str, path: Path, *, seeds: int | None = None) -> list[Table]:
    """The tables of what is ready, of further seeds than ``seeds`` too.

    Raises:
        PlanError: no such list.
        ExperimentError: no experiment there.
    """
    folder = Folder(path)
    if folder.settings() is None:
        raise ExperimentError(f"{path} holds no experiment; begin one with --data")
    found: list[Table] = []
    for one in name.split(","):
        specs = published(folder, one, seeds=seeds)
        results = read_results(folder, specs)
        splits = [s for s in SPLITS if any(s in result for result in results.values())]
        compared = _compared(folder, specs, asked=())
        found += [table for split in splits for table in tables(compared, results, split, {})[:-1]]
        found.append(tables(specs, results, SPLITS[0], {})[-1])
    return found


def _compared(folder: Folder, specs: Sequence[RunSpec], asked: Collection[str]) -> list[RunSpec]:
    """The runs of the arms that were asked for or have begun.

    The others of a list that is made in part would be empty rows and names in legends; the table
    of all runs, which comes last, says that they are missing.
    """
    arms = {
        spec.arm for spec in specs if spec.name in asked or folder.record(spec.name) is not None
    }
    return [spec for spec in specs if spec.arm in arms]


def _publish(
    name: str,
    folder: Folder,
    specs: Sequence[RunSpec],
    failed: Mapping[str, str],
    *,
    asked: Collection[str],
) -> None:
    """Write ``results/LIST.md`` and the pictures beside it."""
    results = read_results(folder, specs)
    compared = _compared(folder, specs, asked)
    place = folder.path / "results"
    found: list[Table] = []
    for split in SPLITS:
        if not any(split in result for result in results.values()):
            continue
        found += tables(compared, results, split, failed)[:-1]
        draw_arms(compared, results, split, place / f"{name}_{split}.png")
        draw_parts(compared, results, split, place / f"{name}_{split}_parts.png")
    found.append(tables(specs, results, SPLITS[0], failed)[-1])
    text = "\n".join(f"{table.title}:\n\n{table.markdown()}" for table in found)
    write_text(text, place / f"{name}.md")
    groups: dict[str, list[Path]] = {}
    for spec in specs:
        groups.setdefault(spec.arm, []).append(folder.run(spec.name))
    # Runs that have not begun have no curve yet, and weights alone never have one.
    logged = {arm: runs for arm, runs in logged_runs(groups)[0].items() if runs}
    if logged:
        compare_losses(logged, place / f"{name}_losses")


def _take(folder: Folder, settings: Settings, specs: Sequence[RunSpec]) -> None:
    """Copy the trainings from elsewhere that stand for runs, where they are not yet."""
    for spec in specs:
        if spec.name in settings.trained and not folder.is_trained(spec.name):
            folder.take(spec.name, Path(settings.trained[spec.name]), spec.preset)
            put_aside(folder, spec.name)
