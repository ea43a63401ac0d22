"""`crkd` in processes of its own: its verbs, those of other packages, and what may be missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tree

ROOT = tree.ROOT
CORE = (
    *("world", "world-report", "train", "distill", "label-encoder", "evaluate"),
    *("compare", "experiment", "report", "import-official", "bench", "export", "engines"),
)
ROS = ("bag", "calibration", "demo", "live", "node", "overhead", "play", "replay", "soak")
SUB = {"bag": ("nuscenes", "convert", "info"), "calibration": ("write", "show", "check")}
#: What no listing of verbs may import: slow, or missing where the core alone is installed.
HEAVY = ("torch", "rclpy", "rosbags", "cv2", "matplotlib", "scipy", "transformers", "trimesh")


class Place:
    """A Python with chosen folders on its path, and no pip-installed copy of the project."""

    def __init__(self, *folders: Path, block: tuple[str, ...] = ()) -> None:
        # Without `site`, so without the .pth files of an editable installation.
        self.path = [str(folder) for folder in folders] + tree.site_packages()
        self.block = block

    def python(self, code: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run code with these arguments."""
        before = (
            f"import importlib.util as util, sys\n"
            f"sys.path[:0] = {self.path!r}\n"
            f"blocked, real = {self.block!r}, util.find_spec\n"
            "sys.modules.update(dict.fromkeys(blocked))\n"
            "util.find_spec = lambda name, *a: None if name in blocked else real(name, *a)\n"
            f"heavy = lambda: [m for m in {HEAVY!r} if m in sys.modules]\n"
        )
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        environment["COLUMNS"] = "200"
        return subprocess.run(
            [sys.executable, "-S", "-c", before + code, *words],
            env=environment,
            cwd="/",  # Python looks there first.
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def crkd(self, *words: str, after: str = "pass") -> subprocess.CompletedProcess[str]:
        """Run `crkd` with these words; ``after`` is code that is run before it ends."""
        code = (
            "sys.argv[0] = 'crkd'\n"
            "from crkd_core.cli import main\n"
            f"try: main()\nfinally: {after}\n"
        )
        return self.python(code, *words)


def listed(text: str) -> list[str]:
    """The verbs of a help text, in its order."""
    return re.findall(r"^[│ ]+([a-z][a-z0-9-]*) {2,}\S", text.partition("Commands")[2], re.M)


@pytest.fixture(scope="module")
def metadata(tmp_path_factory) -> Path:
    return tree.write_metadata(tmp_path_factory.mktemp("metadata") / "tree")


@pytest.fixture(scope="module")
def whole(metadata) -> Place:
    return Place(metadata, ROOT)


@pytest.fixture
def core_alone(tmp_path) -> Path:
    """A folder with crkd_core and nothing else."""
    folder = tmp_path / "core"
    folder.mkdir()
    (folder / "crkd_core").symlink_to(ROOT / "crkd_core")
    return folder


def plugin(folder: Path, name: str, entries: str, **modules: str) -> Path:
    """A package of somebody else's, installed in a folder."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[crkd.commands]\n{entries}\n")
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)
    return folder


def test_the_help_lists_every_verb_and_imports_nothing_heavy(whole):
    done = whole.crkd("--help", after="print('imported:', heavy())")
    assert done.returncode == 0, done.stderr
    assert listed(done.stdout) == [*CORE, *ROS]
    assert "imported: []" in done.stdout
    assert "not installed, for" not in done.stdout and done.stderr == ""


def test_without_crkd_ros_the_core_stands_alone(core_alone, metadata):
    """With and without metadata that names verbs of a package that is not there."""
    bare = Place(core_alone).crkd("--help")
    assert bare.returncode == 0, bare.stderr
    assert listed(bare.stdout) == [*CORE]
    named = Place(core_alone, metadata).crkd("--help")
    assert named.returncode == 0, named.stderr
    assert listed(named.stdout) == [*CORE]
    assert f"crkd_ros not installed, for {', '.join(ROS)}" in named.stdout.splitlines()
    called = Place(core_alone, metadata).crkd("bag", "info", "x")
    assert called.returncode == 1 and called.stderr.count("\n") == 1
    assert "No module named 'crkd_ros'" in called.stderr


def test_every_verb_explains_itself_and_imports_nothing_heavy(whole):
    wanted = [[verb] for verb in (*CORE, *ROS)]
    wanted += [[verb, sub] for verb, subs in SUB.items() for sub in subs]
    done = whole.python(
        "from typer.testing import CliRunner\n"
        "from crkd_core.cli import app\n"
        f"for words in {wanted!r}:\n"
        "    done = CliRunner().invoke(app, [*words, '--help'], prog_name='crkd')\n"
        "    first = done.output.strip().partition('\\n')[0].strip()\n"
        "    print(done.exit_code, heavy(), first)\n"
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(wanted)
    for words, line in zip(wanted, lines, strict=True):
        assert line.startswith(f"0 [] Usage: crkd {' '.join(words)} "), line


def test_a_verb_imports_no_other(whole):
    verbs = [f"crkd_ros.commands.{verb}" for verb in ROS]
    after = f"print(sorted(set(sys.modules) & set({verbs})))"
    done = whole.crkd("bag", "--help", after=after)
    assert "['crkd_ros.commands.bag']" in done.stdout
    assert "[]" in whole.crkd("train", "--help", after=after).stdout


def test_what_is_not_installed_is_said_in_a_line_each(metadata):
    place = Place(metadata, ROOT, block=("rosbags", "rclpy", "trimesh", "embreex"))
    done = place.crkd("--help")
    assert done.returncode == 0, done.stderr
    assert listed(done.stdout) == [*CORE, *ROS]
    lines = done.stdout.splitlines()
    assert (
        "rosbags not installed, for bag, calibration, demo, live, overhead, play, replay, soak: "
        "pip install rosbags mcap"
    ) in lines
    assert (
        "rclpy not installed, for demo, live, node, overhead, play, soak: "
        "source ROS 2, or pip install 'crkd_ros[ros]'"
    ) in lines
    assert (
        "trimesh, embreex not installed, for world, demo, overhead, soak: "
        "pip install trimesh embreex"
    ) in lines
    for words, text in (
        (("bag", "info", "x"), "rosbags is not installed: pip install rosbags mcap"),
        (("node",), "rclpy is not installed: source ROS 2, or pip install 'crkd_ros[ros]'"),
        (("world", "--out", "w"), "embreex is not installed: pip install trimesh embreex"),
    ):
        called = place.crkd(*words)
        assert called.returncode == 1 and called.stderr == f"error: {text}\n"


def test_packages_of_others_add_verbs(tmp_path, metadata):
    folder = plugin(
        tmp_path / "other",
        "other",
        "greet = other_verbs:greet\nfarm = other_verbs:app",
        other_verbs="import typer\napp = typer.Typer(help='Farm work.')\n"
        "app.command()(lambda: None)\n"
        "def greet(name: str) -> None:\n    'Say hello.'\n    print('hello', name)\n",
    )
    place = Place(folder, metadata, ROOT)
    shown = place.crkd("--help").stdout
    assert sorted(listed(shown)) == sorted([*CORE, *ROS, "greet", "farm"])
    assert "Commands of other_verbs" in shown and "Say hello." in shown
    assert place.crkd("greet", "you").stdout == "hello you\n"


def test_broken_verbs_of_others_hinder_nobody(tmp_path, metadata):
    one = plugin(
        tmp_path / "one",
        "one",
        "crash = one_crash:app\nleave = one_leave:app\nlost = one_lost:app\nthing = one_thing:x\n"
        "absent = no_such_package.verbs:app\ntrain = one_thing:train",
        one_crash="1 / 0",
        one_leave="import sys; sys.exit('bye')",
        one_lost="import no_such_module",
        one_thing="x = 3\ndef train() -> None: print('not this one')",
    )
    two = plugin(tmp_path / "two", "two", "no equals sign here")
    three = plugin(tmp_path / "three", "three", "bag = one_thing:train\n!!! = ???")
    place = Place(metadata, ROOT, one, two, three)
    done = place.crkd("--help")
    assert done.returncode == 0, done.stderr
    shown = done.stdout
    assert set(listed(shown)) == {*CORE, *ROS, "crash", "leave", "lost", "thing"}
    assert "one_crash:app cannot be loaded: ZeroDivisionError: division by zero" in shown
    assert "no_such_package not installed, for absent" in shown.splitlines()
    assert "one_thing:train is left out: crkd has its own train" in shown.splitlines()
    for owner in ("two", "three"):
        assert f"the commands of {owner} cannot be read: " in shown
    called = place.crkd("crash", "--any", "thing")
    assert (called.returncode, called.stdout) == (1, "")
    assert re.fullmatch(r"error: .*crash: .*ZeroDivisionError.*\n", called.stderr)
    assert "got 3" in place.crkd("thing").stderr
    assert "SystemExit: bye" in place.crkd("leave").stderr
    assert "No module named 'no_such_module'" in place.crkd("lost").stderr
    assert place.crkd("bag", "info", "/none").returncode == 1
    assert "Usage: crkd train" in place.crkd("train", "--help").stdout


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("trian",), 2, "there is no command 'trian', did you mean train?; see crkd --help"),
        (("replai",), 2, "did you mean replay"),
        (("zzz",), 2, "there is no command 'zzz'; see crkd --help"),
        (("train", "--bogus"), 2, "No such option: --bogus"),
        (("replay", "--bogus"), 2, "No such option: --bogus"),
        (("bag", "nothing"), 2, "'nothing'"),
        (("node", "weights.safetensors"), 2, "expected ROS arguments"),
        (("bag", "info", "/none/x"), 1, "/none/x: no such bag"),
        (("evaluate", "--data", "x", "--split", "y", "--out", "z"), 1, "give either --weights"),
    ],
)
def test_mistakes_are_one_line(whole, words, status, text):
    done = whole.crkd(*words)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert text in done.stderr


def test_the_readme_names_every_verb():
    text = (ROOT / "README.md").read_text().partition("## Commands")[2].partition("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("| `crkd ")]
    for verb in (*CORE, *ROS):
        assert any(re.match(rf"\| `crkd {verb}\b", row) for row in rows), verb


def test_the_old_names_are_gone():
    old = re.compile(
        r"\bcrkd-(bag|replay|live|node|soak|overhead|calibration|play)\b|crkd (dropout|curves)\b"
    )
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for pattern in ("*.md", "docs/**/*.md", "config/*", "launch/*", "rviz/*", "foxglove/*")
        for path in sorted(ROOT.glob(pattern))
        if path.name != "CHANGES.md"
        for match in old.finditer(path.read_text())
    ] + [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for folder in ("crkd_core", "crkd_ros", "scripts", "test", "tools")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.is_file() and path.suffix in (".py", ".json", "")
        for match in old.finditer(path.read_text())
    ]
    assert not found, found
