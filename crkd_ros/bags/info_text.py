"""What a bag offers, in words, and what to do next with it. Command `crkd bag info`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from crkd_core.tables import Table, print_tables
from crkd_ros.bags.foreign.kinds import Kind
from crkd_ros.bags.info import BagInfo


def show(info: BagInfo, path: Path, *, options: Sequence[str] = ()) -> None:
    """Print it as a table and sentences.

    Args:
        info: what is shown.
        path: of the bag.
        options: what was said of the bag, which the next command must be told as well.
    """
    print(f"{path}: {info.kind.value} ({info.kind.converter}), {info.seconds:.1f} s")
    columns = ("sensor", "topic", "type", "messages", "Hz", "intrinsics", "place")
    mark = {True: "yes", False: "missing", None: ""}
    rows = []
    for name, sensor in info.sensors.items():
        if sensor.topic is None:
            rows.append([name.lower(), "missing", *[""] * (len(columns) - 2)])
            continue
        rows.append(
            [
                name.lower(),
                sensor.topic.name,
                sensor.topic.type_name.rpartition("/")[2],
                str(sensor.topic.count),
                f"{sensor.rate:.1f}",
                mark[sensor.calibrated],
                mark[sensor.placed],
            ]
        )
    texts = ("topic", "type", "intrinsics", "place")
    print_tables(Table(columns=columns, rows=rows, texts=texts))
    for sentence in (*info.chosen, *info.motion.sentences()):
        print(sentence)
    print(f"cameras fire: {info.firing}")
    at = f" at stamps of {info.trigger.lower()}" if info.trigger else ""
    print(
        f"frames: {info.frames}{at}, {info.cameras:.2f} cameras and {info.radars:.2f} radars "
        f"each; all that a replay needs is known for {info.moving}"
    )
    print(f"missing: {'; '.join(info.missing) or 'nothing'}")
    for trouble in info.troubles:
        print(f"wrong: {trouble}")
    for topic, reason in info.unreadable.items():
        print(f"not read: {topic}, {reason}")
    print(_advice(info, path, options))


def _advice(info: BagInfo, path: Path, options: Sequence[str]) -> str:
    """What to do next with the bag."""
    if info.hindrance:
        return f"next: {info.hindrance}"
    lacks = any(text.startswith(("intrinsics", "the place")) for text in info.missing)
    ours = info.kind is Kind.OURS
    words = [str(path), "OUT", *(["--kind", Kind.ROS2.value] if ours else []), *options]
    words += ["--calibration", "FILE"] if lacks and "--calibration" not in options else []
    convert = f"crkd bag convert {shlex.join(words)}"
    if not ours:
        return f"next: {convert}"
    # A replay believes CameraInfo before any file; a copy has what the file says.
    if info.refused:
        return f"next: mend what is said of camera_info above, or give it to a copy: {convert}"
    if lacks or "--calibration" in options:
        return (
            "next: play it with calibration_file in a parameter file (--params FILE), or put it "
            f"into a copy: {convert}"
        )
    if "--topic" in options or info.too_late:
        return f"next: {convert}"
    if info.foreign:
        names = ", ".join(name.lower() for name in info.foreign)
        return f"next: play it with radar_fields of {names} in a parameter file (--params FILE)"
    if not info.moving:
        return "next: mend what is said above; a replay makes no whole frame of it as it is"
    if info.unused:
        names = ", ".join(name.lower() for name in info.unused)
        return f"next: mend what is said above of {names}; played as it is, no frame has any of it"
    if info.moving < info.frames:
        return f"play it as it is: {info.moving} of its {info.frames} frames are whole"
    return "play it as it is" + (f" ({shlex.join(options)})" if options else "")
