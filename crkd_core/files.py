"""Reading what is a file and no device, and writing so that a reader never sees half of it.

Files and folders appear when they are whole.

What is being written lies in a room of its own beside its place, ``.NAME.xxxxxxxx.partial``, and
is renamed at the end. Whoever writes in that folder next sweeps away what a killed process has
left: a room is locked while its process lives, whatever way that ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

#: More bytes than any file has that is read whole: an image, a radar or LiDAR sweep, a result.
LARGEST = 1 << 30

#: For ``check_output``: the path is what is written.
ITSELF = ("",)

#: Every unfinished thing ends so, and nothing else does.
PARTIAL = ".partial"

#: Errors of a full disk, of a share of one, or of a file that must not grow.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_ROOM = re.compile(rf"\..+\.\w{{8}}{re.escape(PARTIAL)}")

# Descriptors that hold locks. A lock lasts until the last process that has it open is gone: one
# that is forked off, such as a loading process of a training, must not keep those of its parent.
_held: set[int] = set()


def _let_go() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


class OutputError(ValueError):
    """A place where a command cannot write."""


def check_output(
    path: Path,
    *,
    results: Sequence[str] = (),
    overwrite: bool = False,
    option: str = "--overwrite",
    place: str = "--out",
    read: Sequence[Path] = (),
) -> None:
    """Refuse a place where nothing can or must be written before long work is begun for it.

    The rule for all commands (docs/decisions/0026): results are never replaced unasked.

    Args:
        path: the folder that results go into, or the file.
        results: what a command writes into that folder; ``ITSELF`` = the path is a file.
        overwrite: whether results that are there are replaced.
        option: what would say so, for the error.
        place: the option that names ``path``, for the error.
        read: what the command reads, which is never replaced.

    Raises:
        OutputError: ``path`` is what is read; something on the way to it is no folder, or nothing
            can be made there; or results are there already.
    """
    if results == ITSELF and os.path.isdir(path):  # noqa: PTH112  # False of names too long.
        raise OutputError(f"cannot write to {path}: it is a folder; choose another {place}")
    for source in read:
        with contextlib.suppress(OSError):  # Neither is there to be lost.
            if path.samefile(source):
                raise OutputError(f"cannot write to {path}: it is read; choose another {place}")
    there = [path / name for name in results if os.path.lexists(path / name)]
    if there and not overwrite:
        names = ", ".join(place.name for place in there)
        where = path.parent if results == ITSELF else path
        raise OutputError(
            f"{where} already holds {names}; pass {option} to replace "
            f"{'it' if len(there) == 1 else 'them'}, or choose another {place}"
        )
    folder = path.absolute()
    if results == ITSELF:
        folder = folder.parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise OutputError(
            f"cannot write to {path}: {folder} is not a folder; choose another {place}"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write to {path}: {folder} is read-only; choose another {place}")
    try:
        _try_out(folder, path.absolute())
    except OSError as error:
        raise OutputError(
            f"cannot write to {path}: {folder}: {error.strerror}; choose another {place}"
        ) from error


def _try_out(folder: Path, path: Path) -> None:
    """Make what is missing of a path, elsewhere in a folder that is there, and remove it.

    Only an attempt tells: rights do not say what a file system, a quota or a name's length forbid.
    """
    room, lock = _open_room(folder / "trial")
    try:
        if folder != path:
            (room / path.relative_to(folder)).mkdir(parents=True)
    finally:
        shutil.rmtree(room, ignore_errors=True)
        _release(lock)


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading; a symbolic link to one is fine.

    Raises:
        OSError: there is none, or it is a folder, a device, a pipe or a socket, which could be
            without end; names it.
    """
    mode = Path(path).stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is a device or a pipe, not a file", str(path))
    return Path(path).open("rb")


def read_file(path: str | os.PathLike[str], *, most: int = LARGEST) -> bytes:
    """All bytes of a regular file.

    Raises:
        OSError: see ``open_file``; or it has more than ``most`` bytes.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(errno.EFBIG, f"has {size} bytes, expected at most {most}", str(path))
        return file.read()


@contextmanager
def replacing(path: str | os.PathLike[str], *, durable: bool = False) -> Iterator[Path]:
    """A path to make a file or a folder at, which becomes ``path`` when the block ends well.

    It has the name of ``path``, so that a library which looks at names sees the right one, and
    nothing lies there yet. Otherwise the block's error goes on, and what was at ``path`` is still
    there. Two that write the same file at once both succeed; the later one stays.

    Args:
        path: a file there is replaced, an empty folder too, be it at the end of a link; its own
            folder is made.
        durable: a file survives a power cut right after the block, too.

    Raises:
        OSError: it cannot be written there, or a folder that is not empty is in the way; before
            the block, that it is a mount point or the current folder. That of a full disk names
            ``path``, whatever library wrote.
    """
    path = Path(path).absolute()
    if path.is_dir() and not any(path.iterdir()):
        path = path.resolve()
        # A shell in a folder that is replaced goes on seeing the old one, which is empty.
        for held, what in (
            (path.is_mount(), "a mount point"),
            (path.samefile("."), "the current folder"),
        ):
            if held:
                why = f"is {what}, which cannot be replaced; choose a folder in it"
                raise OSError(errno.EBUSY, why, str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    room, lock = _open_room(path)
    try:
        yield room / path.name
        if durable:
            _sync(room / path.name)
        (room / path.name).replace(path)
        if durable:
            _sync(path.parent)
    except OSError as error:
        if error.errno in FULL:
            raise OSError(error.errno, error.strerror, str(path)) from error
        if error.errno is None and "written" in str(error):  # NumPy's own words
            raise OSError(errno.ENOSPC, f"not written whole ({error})", str(path)) from error
        raise
    finally:
        shutil.rmtree(room, ignore_errors=True)
        _release(lock)


def write_bytes(
    data: bytes | memoryview, path: str | os.PathLike[str], *, durable: bool = False
) -> None:
    """Write a file as ``replacing`` does."""
    with replacing(path, durable=durable) as partial:
        partial.write_bytes(data)


def write_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write a file in UTF-8 as ``replacing`` does."""
    write_bytes(text.encode(), path)


def write_json(data: object, path: str | os.PathLike[str], *, indent: int | None = None) -> None:
    """Write JSON. NaN stays NaN, as in the devkit's files."""
    write_text(json.dumps(data, indent=indent), path)


def _open_room(path: Path) -> tuple[Path, int]:
    """A new folder for the unfinished, and the lock that says that somebody is writing in it."""
    while True:
        room = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent))
        # Another process may sweep it away before it is locked.
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(room, os.O_RDONLY)
            _held.add(lock)
            # A file system without locks is never swept.
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_SH)
            if room.exists():
                return room, lock
            _release(lock)


def _release(lock: int) -> None:
    if lock in _held:
        _held.discard(lock)
        os.close(lock)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold an existing folder against other processes that ask for it; nothing is left behind.

    On a file system without locks nobody is refused.

    Raises:
        OutputError: another process, or another thread of this one, holds it.
    """
    lock = os.open(folder, os.O_RDONLY)
    _held.add(lock)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                f"{folder}: another process is writing into it; wait until it has ended, or "
                "choose another --out"
            ) from error
        except OSError:
            pass
        yield
    finally:
        _release(lock)


def holds_files(folder: Path) -> bool:
    """Whether a folder is there and holds anything but what is being written."""
    return folder.is_dir() and any(one.suffix != PARTIAL for one in folder.iterdir())


def sweep(folder: Path) -> None:
    """Remove what processes that are gone have left unfinished in a folder."""
    with os.scandir(folder) as entries:
        names = [one.name for one in entries if _ROOM.fullmatch(one.name) and one.is_dir()]
    for name in names:
        room = folder / name
        with contextlib.suppress(OSError):
            lock = os.open(room, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(room, ignore_errors=True)
            finally:
                os.close(lock)


def _sync(path: Path) -> None:
    """Wait until the disk has it: the content of a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
