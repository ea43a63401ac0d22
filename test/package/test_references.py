"""What docstrings, comments and documents name exists: files, decisions, modules, identifiers."""

from __future__ import annotations

import ast
import importlib
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("crkd_core", "crkd_ros", "tools", "launch", "test")
#: A change log speaks of what is no more.
DOCUMENTS = [
    path
    for pattern in ("*.md", "docs/**/*.md", "weights/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGES.md"
]

_PYTHON_FILE = re.compile(r"(?<![\w./*-])(?:[\w-]+/)*\w+\.py\b")
_DECISION = re.compile(r"\b[Dd]ecisions?[ /](\d{4})\b")
#: The bracket behind a name: it is called.
_DOTTED = re.compile(r"\bcrkd_(?:core|ros)(?:\.\w+)+\(?")
_LINK = re.compile(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
#: ``text`` of a docstring; identifiers in it that only code can mean.
_QUOTED = re.compile(r"``([^`\n]+)``")
_IDENTIFIER = re.compile(r"\b(?=[A-Za-z_])\w*_\w+")
#: Transforms named by their ends: ``a_T_b`` stands for any.
_TRANSFORM = re.compile(r"_T_")


class Text(NamedTuple):
    """A docstring, a comment, or a document, and where it is."""

    where: str
    text: str


def sources() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted((ROOT / folder).rglob("*.py"))
    yield ROOT / "setup.py"


def docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                yield first.value


def texts_of(source: str, name: str) -> tuple[list[Text], set[str]]:
    """The texts of a Python file, and the words that occur in its code and other strings."""
    found, lines, words = [], set[int](), set[str]()
    for node in docstrings(ast.parse(source)):
        found.append(Text(f"{name}:{node.lineno}", node.value))
        lines.add(node.lineno)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            found.append(Text(f"{name}:{token.start[0]}", token.string))
        elif token.start[0] not in lines:
            words |= set(re.findall(r"\w+", token.string))
    return found, words


@cache
def repository() -> tuple[tuple[Text, ...], frozenset[str]]:
    """All texts, and all words of code and configuration."""
    texts, words = [], set[str]()
    for path in sources():
        found, used = texts_of(path.read_text(), str(path.relative_to(ROOT)))
        texts += found
        words |= used
    for path in (*ROOT.glob("config/*"), *ROOT.glob("launch/*"), *ROOT.glob("*.toml")):
        words |= set(re.findall(r"\w+", path.read_text()))
    texts += [Text(str(path.relative_to(ROOT)), path.read_text()) for path in DOCUMENTS]
    return tuple(texts), frozenset(words | {path.stem for path in sources()})


@cache
def files() -> frozenset[str]:
    """The Python files and folders, from the root: ``crkd_core/data/batch.py``."""
    return frozenset(str(path.relative_to(ROOT)) for path in sources())


def lost_files(text: str) -> list[str]:
    """Python files that a text names by the end of their path, and that are not there."""
    return [
        name
        for name in _PYTHON_FILE.findall(text)
        if not any(file == name or file.endswith(f"/{name}") for file in files())
    ]


def lost_decisions(text: str) -> list[str]:
    folder = ROOT / "docs" / "decisions"
    return [
        f"decision {number}"
        for number in _DECISION.findall(text)
        if not list(folder.glob(f"{number}-*.md"))
    ]


def lost_modules(text: str) -> list[str]:
    """Dotted names of our packages that cannot be imported or called, or lack what follows."""
    return [name for name in set(_DOTTED.findall(text)) if not _resolves(name)]


@cache
def _resolves(name: str) -> bool:
    parts = name.rstrip("(").split(".")
    length = next(
        count
        for count in range(len(parts), 0, -1)
        if ROOT.joinpath(*parts[:count]).with_suffix(".py").is_file()
        or ROOT.joinpath(*parts[:count], "__init__.py").is_file()
    )
    rest = parts[length:]
    if not rest:
        return not name.endswith("(")
    try:
        found = importlib.import_module(".".join(parts[:length]))
    except ImportError:  # An optional package is not installed here.
        return True
    for part in rest:
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return callable(found) or not name.endswith("(")


def lost_identifiers(text: str, words: frozenset[str]) -> list[str]:
    """Identifiers in double backticks that occur in no code."""
    return [
        name
        for quoted in _QUOTED.findall(text)
        for name in _IDENTIFIER.findall(quoted)
        if name not in words and not _TRANSFORM.search(name)
    ]


def lost_links(text: str, folder: Path, own: str) -> list[str]:
    """Links of a document to files that are not there, and to headings that they lack."""
    lost = []
    for link, anchor in _LINK.findall(text):
        target = folder / link
        if not target.exists():
            lost.append(link)
        elif anchor:
            other = target.read_text() if link else own
            if anchor not in {anchor_of(heading) for heading in _HEADING.findall(other)}:
                lost.append(f"{link}#{anchor}")
    return lost


def anchor_of(heading: str) -> str:
    """What a browser of the repository calls a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def told(found: list[tuple[str, list[str]]]) -> str:
    return "\n".join(f"{where}: {', '.join(names)}" for where, names in found if names)


def test_python_files_that_are_named_exist() -> None:
    assert not told([(where, lost_files(text)) for where, text in repository()[0]])


def test_decisions_that_are_named_exist() -> None:
    assert not told([(where, lost_decisions(text)) for where, text in repository()[0]])


def test_modules_that_are_named_exist() -> None:
    assert not told([(where, lost_modules(text)) for where, text in repository()[0]])


def test_identifiers_in_double_backticks_occur_in_code() -> None:
    texts, words = repository()
    assert not told([(where, lost_identifiers(text, words)) for where, text in texts])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    assert not lost_links(path.read_text(), path.parent, path.read_text())


def test_the_rules_notice_what_is_lost() -> None:
    assert lost_files("see nowhere.py and model/batch.py") == ["nowhere.py", "model/batch.py"]
    assert lost_files("see data/batch.py, batch.py, crkd_core/data/batch.py or *.py") == []
    assert lost_decisions("decisions 9999, decisions/0001") == ["decision 9999"]
    assert lost_modules("crkd_core.nowhere.Thing") == ["crkd_core.nowhere.Thing"]
    assert lost_modules("crkd_core.data.batch, crkd_core.frame.Frame of crkd_core.Frame.") == []
    assert lost_modules("crkd_core.frame(x) of crkd_core.Frame(x)") == ["crkd_core.frame("]
    own = "## What `it` is: 2.1\n[a](#what-it-is-21) [b](#what) [c](gone.md) [d](README.md#gone)"
    assert lost_links(own, ROOT, own) == ["#what", "gone.md", "README.md#gone"]
    source = '"""Says ``gone_away.name`` and ``a_T_b``, ``here_it_is``."""\nhere_it_is = 1\n'
    found, words = texts_of(source, "x")
    assert lost_identifiers(found[0].text, frozenset(words)) == ["gone_away"]
