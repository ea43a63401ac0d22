"""Files and folders appear when they are whole; what dead processes leave is swept away."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from crkd_core.files import (
    ITSELF,
    PARTIAL,
    OutputError,
    alone_in,
    check_output,
    read_file,
    replacing,
    sweep,
    write_bytes,
    write_json,
    write_text,
)
from crkd_core.png import plain, write_figure, write_png


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_and_replaces(tmp_path) -> None:
    path = tmp_path / "new" / "a.json"
    write_json({"a": [1, float("nan")]}, path)
    assert path.read_text() == '{"a": [1, NaN]}'
    write_text("é", path)
    assert path.read_bytes() == "é".encode()
    write_bytes(b"\0", path, durable=True)
    assert path.read_bytes() == b"\0"
    assert names(path.parent) == ["a.json"]


def test_a_relative_path_is_that_of_the_beginning(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with replacing("a.txt") as partial:
        os.chdir("elsewhere")
        partial.write_text("here")
    assert names(tmp_path) == ["a.txt", "elsewhere"]


def test_a_failed_write_leaves_the_old_file(tmp_path) -> None:
    path = tmp_path / "a.json"
    write_json({"a": 1}, path)
    with pytest.raises(TypeError):
        write_json({"a": object()}, path)
    with pytest.raises(KeyboardInterrupt), replacing(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert json.loads(path.read_text()) == {"a": 1}
    assert names(tmp_path) == ["a.json"]


def test_nothing_is_seen_before_the_end(tmp_path) -> None:
    with replacing(tmp_path / "a.png") as partial:
        assert partial.name == "a.png"
        partial.write_text("half")
        (room,) = tmp_path.iterdir()
        assert room.name.startswith(".a.png.")
        assert room.suffix == PARTIAL
    assert names(tmp_path) == ["a.png"]


def test_folders_replace_nothing_but_empty_ones(tmp_path) -> None:
    path = tmp_path / "folder"
    for content in ("none", "empty"):
        with replacing(path) as partial:
            partial.mkdir()
            if content == "empty":
                (partial / "a").write_text("mine")
    with pytest.raises(OSError, match="not empty"), replacing(path) as partial:
        partial.mkdir()
    assert (path / "a").read_text() == "mine"
    assert names(tmp_path) == ["folder"]


def test_an_empty_folder_behind_a_link_is_filled_where_it_lies(tmp_path) -> None:
    target = tmp_path / "disk" / "target"
    target.mkdir(parents=True)
    (tmp_path / "link").symlink_to(target)
    with replacing(tmp_path / "link") as partial:
        partial.mkdir()
        (partial / "a").write_text("mine")
    assert (target / "a").read_text() == "mine"
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path) == ["disk", "link"]
    assert names(tmp_path / "disk") == ["target"]


def test_a_mount_point_is_refused_before_the_work(tmp_path, monkeypatch) -> None:
    path = tmp_path / "mounted"
    path.mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda self: self == path)
    with pytest.raises(OSError, match="is a mount point"), replacing(path):
        pytest.fail("the work began")
    assert names(tmp_path) == ["mounted"]


def test_the_current_folder_is_refused_before_the_work(tmp_path, monkeypatch) -> None:
    """The shell in it would see nothing of what was written."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(OSError, match="is the current folder"), replacing("."):
        pytest.fail("the work began")
    assert names(tmp_path) == ["here"]


def test_permissions_are_those_of_any_new_file(tmp_path) -> None:
    old = os.umask(0o027)
    try:
        write_text("", tmp_path / "file")
        with replacing(tmp_path / "folder") as partial:
            partial.mkdir()
    finally:
        os.umask(old)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file", "folder")]
    assert modes == [0o640, 0o750]


DIES = """
import os, signal, sys
from crkd_core.files import replacing
with replacing(sys.argv[1]) as partial:
    partial.write_text("half")
    print("writing", flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_to_write_sweeps_what_a_killed_process_left(tmp_path) -> None:
    path = tmp_path / "a[1].json"
    process = subprocess.Popen(
        [sys.executable, "-c", DIES, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    # While it lives its half is left alone, and does not keep anybody from writing.
    write_json(1, path)
    assert len(names(tmp_path)) == 2
    process.communicate("die\n", timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 2
    mine = tmp_path / ".a[1].json.notes.partial"
    mine.write_text("not one of ours")
    write_json(2, tmp_path / "a1.json")  # anything in that folder
    assert names(tmp_path) == [mine.name, "a1.json", "a[1].json"]
    sweep(tmp_path)
    assert names(tmp_path) == [mine.name, "a1.json", "a[1].json"]


HOLDS = """
import os, sys
from pathlib import Path
from crkd_core.files import alone_in
reads, writes = os.pipe()
with alone_in(Path(sys.argv[1])):
    if os.fork() == 0:
        os.write(writes, b".")  # it runs, and holds nothing any more
        sys.stdin.readline()  # a child that outlives its parent
        os._exit(0)
    os.read(reads, 1)
    print("holding", flush=True)
    sys.stdout.close()
    os.kill(os.getpid(), 9)
"""


def test_a_folder_is_held_by_one_at_a_time_and_not_beyond_death(tmp_path) -> None:
    with alone_in(tmp_path):
        text = r"another process is writing into it; wait"
        with pytest.raises(OutputError, match=text), alone_in(tmp_path):
            pass
        write_json(1, tmp_path / "a.json")  # who holds it writes as ever
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == b"holding\n"
    process.wait(60)
    with alone_in(tmp_path):
        pass
    process.stdin.close()
    assert names(tmp_path) == ["a.json"]


def test_a_full_disk_is_said_with_the_file_and_leaves_nothing(tmp_path) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for error in (full, lambda: np.zeros(1 << 20).tofile("/dev/full")):
        with (
            pytest.raises(OSError, match=r"No space left|not written whole") as caught,
            replacing(tmp_path / "a.npy") as partial,
        ):
            partial.write_bytes(b"half")
            error()
        assert caught.value.filename == str(tmp_path / "a.npy")
    with pytest.raises(FileNotFoundError) as other, replacing(tmp_path / "a.npy"):
        (tmp_path / "gone").read_bytes()
    assert other.value.filename == str(tmp_path / "gone")
    assert names(tmp_path) == []


def test_all_who_write_at_once_succeed(tmp_path) -> None:
    path = tmp_path / "a"

    def write(number: int) -> None:
        for _ in range(100):
            write_bytes(bytes([number]) * 1000, path)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert names(tmp_path) == ["a"]
    content = path.read_bytes()
    assert len(content) == 1000
    assert len(set(content)) == 1


def test_places_that_cannot_be_written_are_told_early(tmp_path) -> None:
    check_output(tmp_path / "a" / "b")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(OutputError, match=r"file is not a folder; choose another --out"):
        check_output(file / "a")
    for place in (Path("/proc/x"), tmp_path / ("long" * 100)):
        for results in ((), ITSELF):
            with pytest.raises(OutputError, match=r"cannot write to .*; choose another --out"):
                check_output(place, results=results)
    assert names(tmp_path) == ["file"]


def test_results_that_are_there_are_told_early(tmp_path) -> None:
    check_output(tmp_path, results=("a.json", "b.json"))
    (tmp_path / "a.json").touch()
    (tmp_path / "b.json").symlink_to("nowhere")
    text = r"already holds a.json, b.json; pass --overwrite to replace them, or choose another"
    with pytest.raises(OutputError, match=text):
        check_output(tmp_path, results=("a.json", "b.json", "c.json"))
    check_output(tmp_path, results=("a.json",), overwrite=True)
    check_output(tmp_path / "new.json", results=ITSELF)
    with pytest.raises(OutputError, match=r"already holds a.json; pass --overwrite to replace it"):
        check_output(tmp_path / "a.json", results=ITSELF)
    check_output(tmp_path / "a.json", results=ITSELF, overwrite=True)
    for overwrite in (True, False):
        with pytest.raises(OutputError, match="it is a folder; choose another --out"):
            check_output(tmp_path, results=ITSELF, overwrite=overwrite)


def test_only_files_are_read(tmp_path) -> None:
    write_bytes(b"12345", tmp_path / "a")
    (tmp_path / "link").symlink_to("a")
    assert read_file(tmp_path / "a") == read_file(tmp_path / "link") == b"12345"
    with pytest.raises(OSError, match="has 5 bytes, expected at most 4"):
        read_file(tmp_path / "a", most=4)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(OSError, match="is a device or a pipe, not a file"):
            read_file(tmp_path / name)
    with pytest.raises(IsADirectoryError):
        read_file(tmp_path)


def test_pictures(tmp_path) -> None:
    import cv2

    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    write_png(pixels, tmp_path / "a.png")
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], pixels)
    write_figure(Figure(figsize=(2, 1), dpi=50, facecolor="#ff0000"), tmp_path / "b.png")
    drawn = cv2.imread(str(tmp_path / "b.png"))
    assert drawn.shape == (50, 100, 3)
    assert (drawn == (0, 0, 255)).all()


def test_names_are_drawn_as_they_are(tmp_path) -> None:
    """Not as formulas, which may be none, and none is left out of a legend."""
    names = ["_old", r"a$\frac$b", "cost$", "plain"]
    figure = Figure()
    axes = figure.subplots()
    for name in names:
        axes.plot([0, 1], label=plain(name))
    shown = [text.get_text() for text in axes.legend().get_texts()]
    assert [text.lstrip("\u200b").replace(r"\$", "$") for text in shown] == names
    write_figure(figure, tmp_path / "names.png")
