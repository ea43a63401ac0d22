"""What every command does with errors and places that it cannot use."""

import pytest
import typer

from crkd_core.command import run_function
from crkd_core.files import OutputError, check_output


class Broken(ValueError):
    pass


def failing(error: Exception):
    def command(out: str = typer.Option("x")) -> None:
        raise error

    return command


def run_failing(error, monkeypatch, capsys) -> str:
    monkeypatch.setattr("sys.argv", ["command"])
    with pytest.raises(SystemExit) as exit_:
        run_function(failing(error))
    assert exit_.value.code == 1
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_an_error_is_one_line_and_status_1(monkeypatch, capsys):
    text = "data/[x].pcd: truncated; " + "copy it again " * 20
    assert run_failing(Broken(text), monkeypatch, capsys) == f"error: Broken: {text}\n"


def test_system_errors_name_the_file_first(monkeypatch, capsys):
    error = FileNotFoundError(2, "No such file or directory", "a/b.json")
    text = "error: FileNotFoundError: a/b.json: No such file or directory\n"
    assert run_failing(error, monkeypatch, capsys) == text


def test_errors_of_data_loading_processes_lose_their_trace(monkeypatch, capsys):
    trace = (
        "Caught Broken in DataLoader worker process 0.\nOriginal Traceback (most recent call "
        'last):\n  File "x.py", line 1, in y\n    raise Broken()\na.Broken: c.pcd: truncated: 3\n'
    )
    text = run_failing(Broken(trace), monkeypatch, capsys)
    assert text == "error: Broken: c.pcd: truncated: 3\n"


def test_bugs_are_not_hidden(monkeypatch):
    monkeypatch.setattr("sys.argv", ["command"])
    with pytest.raises(KeyError):
        run_function(failing(KeyError("x")))


def test_outputs_below_a_file_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    check_output(tmp_path / "new" / "newer")
    for path in (tmp_path / "file", tmp_path / "file" / "new"):
        with pytest.raises(OutputError, match="file is not a folder; choose another --out"):
            check_output(path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
