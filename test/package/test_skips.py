"""What is not installed skips a test and says what to install; what is broken fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import missing

TEST = Path(__file__).resolve().parents[1]

CONFTEST = f"""
import importlib.util
import missing
missing.NEEDED["nobody_has_this"] = "pip install it"
spec = importlib.util.spec_from_file_location("root_conftest", {str(TEST / "conftest.py")!r})
root = importlib.util.module_from_spec(spec)
spec.loader.exec_module(root)
pytest_make_collect_report = root.pytest_make_collect_report
pytest_runtest_makereport = root.pytest_runtest_makereport
"""
FILES = {
    "test_file": "import nobody_has_this\ndef test_a(): pass\n",
    "test_parts": """
import pytest
@pytest.fixture
def drive():
    try:
        import nobody_has_this.inside
    except ImportError as error:
        raise RuntimeError("cannot make a drive") from error
def test_with_it(drive): pass
def test_in_itself(): import nobody_has_this
def test_without(): pass
""",
    "test_broken": "import crkd_core.no_such_room\ndef test_a(): pass\n",
}


def test_files_fixtures_and_tests_are_skipped_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(text)
    code = f"import sys, pytest; sys.path.insert(0, {str(TEST / 'support')!r}); pytest.main()"
    options = ["-p", "no:cacheprovider", "-rs", "--continue-on-collection-errors", "-q"]
    code = code.replace("main()", f"main({[*options, str(tmp_path)]!r})")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert "1 passed, 3 skipped, 1 error" in done.stdout, done.stdout
    assert "nobody_has_this is not installed: pip install it" in done.stdout
    assert "No module named 'crkd_core.no_such_room'" in done.stdout


def test_what_is_installed_is_no_excuse() -> None:
    assert missing.reason(ModuleNotFoundError("no", name="numpy.nothing")) is None
    assert missing.reason(ImportError("no", name="numpy")) is None
    assert missing.reason(None) is None
