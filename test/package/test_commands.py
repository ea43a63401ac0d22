"""What every command does with errors and places that it cannot use."""

import importlib
import inspect
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Annotated

import pytest
import tree
import typer
from typer.testing import CliRunner

from crkd_core import main
from crkd_core.cli import app
from crkd_core.command import run, run_function
from crkd_core.config import ConfigError
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


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (inspect.getfile(main), "warning: a [long] rate\n"),
        ("/x/crkd_core/other.py", "/x/crkd_core/other.py:3: UserWarning: a [long]\nrate\n"),
    ],
)
def test_a_warning_of_ours_is_one_line_without_its_place(file, text, monkeypatch, capsys):
    def command() -> None:
        warnings.warn_explicit("a [long]\nrate", UserWarning, file, 3)

    shown = warnings.showwarning
    monkeypatch.setattr("sys.argv", ["command"])
    with pytest.raises(SystemExit):
        run_function(command)
    assert capsys.readouterr() == ("", text)
    assert warnings.showwarning is shown


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


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--bogus"], "No such option: --bogus"),
        (["--number", "x"], "'x' is not a valid"),
        (["--number", "9"], "range 1<=x<=3"),
        (["--number", "1", "more"], "unexpected extra argument"),
        ([], "Missing option '--number'"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(arguments, text, monkeypatch, capsys):
    def command(number: int = typer.Option(..., min=1, max=3)) -> None:
        raise AssertionError("it must not be called")

    monkeypatch.setattr("sys.argv", ["crkd", *arguments])
    with pytest.raises(SystemExit) as exit_:
        run_function(command)
    out, err = capsys.readouterr()
    assert (exit_.value.code, out) == (2, "")
    assert err.startswith("error: ") and err.endswith("; see crkd --help\n")
    assert err.count("\n") == 1
    # Releases of typer say these in different words.
    assert text in err or "Invalid value for '--number'" in err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            "evaluate --submission x --data y --split z --out o --sensor CAM_FRONT --engine torch "
            "--device cpu --precision fp32",
            "--device, --precision, --engine, --sensor: of a detector",
        ),
        (
            "distill --teacher x --data y --split z --out o --measured m --held-out-data d",
            "--held-out-data, --measured: of --held-out, which is not given",
        ),
        ("bench --batch-size 4", "--batch-size: of --training"),
        ("bench --weights x --preset demo_student", "--preset: --weights have a network"),
        ("export x --out o.onnx --int8-frames 3", "--int8-frames: of --int8-data"),
        (
            "engines x --data y --split z --out o --int8-frames 3",
            "--int8-frames: of --int8-split",
        ),
        ("replay x --out o --version y", "--version: of --data"),
        ("calibration write --bag x --out o --scene y", "--scene: of --data"),
        ("calibration check --data x --topic CAM_FRONT=", "--topic: of --bag, which is not"),
    ],
)
def test_an_option_that_nothing_would_read_is_refused(words, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=re.escape(text)):
        CliRunner().invoke(app, words.split(), catch_exceptions=False)
    assert not list(tmp_path.iterdir())


def starting_a_node() -> dict:
    """Verb -> its function, of all verbs with ``--parameter``."""
    found = {}
    for path in (tree.ROOT / "crkd_ros" / "commands").glob("*.py"):
        module = importlib.import_module(f"crkd_ros.commands.{path.stem}")
        verb = getattr(module, path.stem, None)
        if callable(verb) and "parameter" in inspect.signature(verb).parameters:
            found[path.stem] = verb
    return found


def test_parameters_of_a_node_are_one_option_and_checked_before_anything_starts(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "w.safetensors").touch()
    words = {"live": ["bag", "--data=d", "--split=s"], "overhead": [], "soak": []}
    verbs = starting_a_node()
    assert {*verbs} == {*words}

    def refused(verb: str, parameter: str) -> str:
        place = [f"--weights={tmp_path / 'w.safetensors'}", f"--out={tmp_path / 'out'}"]
        given = [*words[verb], *place, "--parameter", parameter]
        monkeypatch.setattr("sys.argv", ["crkd", *given])
        with pytest.raises(SystemExit) as exit_:
            run_function(verbs[verb])
        assert exit_.value.code == 1 and not (tmp_path / "out").exists()
        return capsys.readouterr().err

    for verb, function in verbs.items():
        assert inspect.signature(function).parameters["parameter"].annotation == "Parameters"
        for sign in ("=", ":="):
            text = refused(verb, f"engin{sign}torch")
            assert "parameter engin=torch: " in text and "did you mean 'engine'" in text
        for wrong in ("device", "=cuda", ":=cuda"):
            assert f"--parameter: expected NAME=VALUE, got '{wrong}'" in refused(verb, wrong)
        assert "say the weights by --weights" in refused(verb, "weights=other.safetensors")


def test_what_cannot_be_measured_is_refused_before_a_drive_is_made(tmp_path, monkeypatch, capsys):
    from crkd_ros.commands.demo import demo
    from crkd_ros.commands.overhead import overhead

    broken = tmp_path / "w.safetensors"
    broken.write_bytes(b"no weights")
    commands = (
        (overhead, ["--cores=4096"], "--cores: asked for 4096"),
        (overhead, [f"--weights={broken}"], f"{broken}: "),
        (starting_a_node()["soak"], [f"--weights={broken}"], f"{broken}: "),
        (demo, [f"--weights={broken}"], f"{broken}: "),
        (demo, ["--weights=weights/demo_teacher.safetensors"], "LiDAR"),
        (demo, [f"--weights={tmp_path / 'none'}"], "no such file"),
    )
    for command, options, text in commands:
        monkeypatch.setattr("sys.argv", ["crkd", *options, f"--out={tmp_path / 'out'}"])
        with pytest.raises(SystemExit):
            run_function(command)
        assert text in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_a_calibration_that_lies_in_the_folder_is_not_replaced_unasked(
    tmp_path, monkeypatch, capsys
):
    from crkd_ros.commands.overhead import overhead

    mine = tmp_path / "calibration.yaml"
    mine.write_text("mine")
    for command in (overhead, starting_a_node()["soak"]):
        options = [f"--weights={tmp_path / 'none'}", f"--out={tmp_path}"]
        texts = ("already holds calibration.yaml; pass --overwrite", "no weights at ")
        for text, more in zip(texts, ([], [f"--calibration={mine}"]), strict=True):
            monkeypatch.setattr("sys.argv", ["crkd", *options, *more])
            with pytest.raises(SystemExit):
                run_function(command)
            assert text in capsys.readouterr().err
    assert mine.read_text() == "mine"


def test_a_group_without_a_verb_shows_its_help(monkeypatch, capsys):
    app = typer.Typer(no_args_is_help=True, add_completion=False)
    for name in ("one", "two"):
        app.command(name)(lambda: None)
    monkeypatch.setattr("sys.argv", ["crkd"])
    with pytest.raises(SystemExit):
        run(app)
    out, err = capsys.readouterr()
    assert "one" in out + err and "error" not in out + err


def test_exit_statuses_of_commands_are_kept(monkeypatch):
    def command() -> None:
        raise typer.Exit(3)

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.argv", ["crkd"])
    for function, status in ((command, 3), (interrupted, 130), (lambda: None, 0)):
        with pytest.raises(SystemExit) as exit_:
            run_function(function)
        assert exit_.value.code == status


def test_an_empty_word_is_no_path(monkeypatch, capsys):
    def command(
        out: Annotated[Path, typer.Option()] = Path("x"),
        topic: Annotated[str, typer.Option()] = "",
    ) -> None:
        print(out, topic)

    cases = {"--out": ["--out", ""], "--topic": ["--topic="], "an argument": [""]}
    for name, words in cases.items():
        monkeypatch.setattr("sys.argv", ["crkd", *words])
        with pytest.raises(SystemExit) as exit_:
            run_function(command)
        text = f"error: Invalid value: {name} is empty; say a value, or leave it out\n"
        assert (exit_.value.code, *capsys.readouterr()) == (2, "", text)
    monkeypatch.setattr("sys.argv", ["crkd", "--topic=CAM_FRONT="])
    with pytest.raises(SystemExit) as exit_:
        run_function(command)
    assert (exit_.value.code, capsys.readouterr().out) == (0, "x CAM_FRONT=\n")


PRINTS = """
import sys
from crkd_core.command import run_function
from crkd_core.tables import Table, print_tables

def work() -> None:
    if not LINES:
        print_tables(Table(columns=["a"], rows=[["1"]]))
    for number in range(LINES):
        print(number)

sys.argv[1:] = []
run_function(work)
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("lines", ["0", "1", "100000"])
def test_what_cannot_be_printed_is_said(lines, unbuffered, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    words = [sys.executable, "-c", PRINTS.replace("LINES", lines)]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    text = "error: OSError: standard output: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, text)
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_an_interrupt_before_a_command_is_known_is_status_130(monkeypatch, capsys):
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("crkd_core.cli.main", interrupted)
    with pytest.raises(SystemExit) as exit_:
        main.main()
    assert exit_.value.code == 130 and capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("rosbags", "error: rosbags is not installed: pip install rosbags mcap\n"),
        ("rclpy", "error: rclpy is not installed: source ROS 2, or pip install 'crkd_ros[ros]'\n"),
        ("none.nn", f"No module named 'none.nn' in {sys.executable}; activate the environment"),
    ],
)
def test_missing_modules_are_said_with_what_brings_them(module, text, monkeypatch, capsys):
    error = ModuleNotFoundError(f"No module named {module!r}", name=module)
    assert text in run_failing(error, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("rclpy", "take the Python that this ROS 2 was built for\n"),
        ("rosbags", "install rosbags anew\n"),
    ],
)
def test_a_package_of_another_python_is_not_said_to_be_missing(
    name, advice, tmp_path, monkeypatch, capsys
):
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    # rclpy adds a line to the text of Python.
    error = ModuleNotFoundError(f"No module named '{name}.part'\nIt is not", name=f"{name}.part")
    text = run_failing(error, monkeypatch, capsys)
    assert text.startswith(f"error: {package} has no {name}.part for Python 3.")
    assert text.endswith(f" of {sys.executable}: {advice}")
    broken = ImportError("librcl.so: cannot open\nThe C extension", name=name)
    text = run_failing(broken, monkeypatch, capsys)
    assert text == "error: ImportError: librcl.so: cannot open The C extension\n"
