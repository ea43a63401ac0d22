"""Bags that are not whole: cut short, not finished, or not all listed in metadata.yaml."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from rosbags.rosbag2 import Reader
from rosbags.rosbag2.reader import DirectoryReader

from crkd_ros.bags.mcap_crc import MCAP_MAGIC
from crkd_ros.bags.message_types import BagError

_ZSTD = b"\x28\xb5\x2f\xfd"


def repair(path: Path) -> str:
    """What may save the messages of a damaged bag; "" where no tool is known for it."""
    if path.is_dir():
        damaged = [file for file in sorted(path.glob("*.mcap")) if _is_cut(file)]
        return repair(damaged[0]) if damaged else ""
    if path.suffix == ".bag":
        return f"; if it was cut short: `rosbag reindex {path}`"
    with path.open("rb") as file:
        mcap = file.read(len(MCAP_MAGIC)) == MCAP_MAGIC
    return f"; if it was cut short: `mcap recover {path} -o NEW.mcap`" if mcap else ""


def _is_cut(file: Path) -> bool:
    """Whether an mcap file lacks its end."""
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - len(MCAP_MAGIC)))
        return stream.read() != MCAP_MAGIC


def refuse_unfinished(path: Path) -> None:
    """What a reader of the finished files would leave out, or not find.

    A recorder that was killed, or still runs, leaves a folder without metadata.yaml, or an sqlite
    database whose last messages are in its write-ahead log only: rosbags reads past that log.

    Raises:
        BagError: such a bag; names the file and what to do.
    """
    if path.suffix == ".active":
        raise BagError(
            f"{path}: the recorder was killed, or runs still: `rosbag reindex {path}` makes a bag "
            "of it; then give it the name .bag"
        )
    if path.is_dir() and not (path / "metadata.yaml").exists():
        files = sorted(one.name for one in path.iterdir() if one.suffix in (".mcap", ".db3"))
        if files:
            raise BagError(
                f"{path}: not a readable rosbag2: metadata.yaml is missing (was the recorder "
                f"killed?); make it with `ros2 bag reindex {path}`, or give a file itself: "
                f"{', '.join(files)}"
            )
        raise BagError(
            f"{path}: not a readable rosbag2: expected metadata.yaml and .mcap or .db3 files in "
            "the folder, found none of them"
        )
    databases = path.glob("*.db3") if path.is_dir() else [path] if path.suffix == ".db3" else []
    for database in sorted(databases):
        log = database.with_name(f"{database.name}-wal")
        if log.exists() and log.stat().st_size:
            raise BagError(
                f"{path}: {log.name} holds messages that are not in {database.name} yet; stop the "
                "recorder, or if it was killed, bring them in: "
                f'sqlite3 {database} "PRAGMA wal_checkpoint(TRUNCATE)"'
            )


def refuse_unlisted(path: Path, reader: Reader) -> None:
    """What a reader passes over since metadata.yaml does not say it, or is not there.

    Args:
        path: a folder, or one file.
        reader: of it, open.

    Raises:
        BagError: files or messages that metadata.yaml does not list; compressed messages in a file
            without it.
    """
    if not isinstance(reader.storage, DirectoryReader):
        _refuse_compressed(path, reader)
        return
    storages: list[Any] = list(reader.storage.storages)
    listed = {storage.path.name for storage in storages}
    files = {one.name for one in path.iterdir() if _is_storage(one)}
    if more := sorted(name for name in files if name.removesuffix(".zstd") not in listed):
        raise BagError(
            f"{path}: metadata.yaml does not list {', '.join(more)}; move them elsewhere, or make "
            f"it anew with `ros2 bag reindex {path}`"
        )
    announced, held = Counter[str](), Counter[str]()
    for one in reader.connections:
        announced[one.topic] += one.msgcount
    for storage in storages:
        for one in storage.connections:
            held[one.topic] += one.msgcount
    if less := [name for name in sorted(held) if held[name] > announced[name]]:
        texts = [f"{announced[name]} of {held[name]} messages of {name}" for name in less[:3]]
        texts += [f"less of {len(less) - 3} other topics"] if len(less) > 3 else []
        raise BagError(
            f"{path}: metadata.yaml lists only {', '.join(texts)}; make it anew with "
            f"`ros2 bag reindex {path}`"
        )


def _is_storage(file: Path) -> bool:
    return Path(file.name.removesuffix(".zstd")).suffix in (".mcap", ".db3")


def _refuse_compressed(path: Path, reader: Reader) -> None:
    """Only metadata.yaml says that messages are compressed one by one."""
    try:
        data = next((data for _, _, data in reader.messages()), b"")
    except Exception:
        return  # What is wrong is said when the messages are read.
    if data[: len(_ZSTD)] == _ZSTD:
        raise BagError(
            f"{path}: its messages are compressed one by one; give the folder with its "
            "metadata.yaml, which says so"
        )
