"""What documents tell to type works: command lines are of `crkd`'s verbs and options, and more."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from crkd_core.cli import app

ROOT = Path(__file__).resolve().parents[2]
#: A change log speaks of what is no more.
DOCUMENTS = [
    path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("weights/*.md"))
    if path.name != "CHANGES.md"
]  # fmt: skip
_BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`(crkd [^`]+)`")
_ASSIGNED = re.compile(r"\w+=")


def command_lines(text: str) -> Iterator[tuple[list[str], bool]]:
    """The words behind `crkd` of every command line, and whether it is to be typed as it is.

    That is so in blocks of shell, unless it is cut short by "..." or has options in variables; in
    sentences it is not.
    """
    blocks = "\n".join(_BLOCK.findall(text)).replace("\\\n", " ").splitlines()
    inline = _INLINE.findall(text.replace("\n", " "))
    for place, line in enumerate([*blocks, *inline]):
        try:
            words = shlex.split(line.replace("|", " "), comments=True)
        except ValueError:  # An apostrophe of a sentence.
            continue
        while words and _ASSIGNED.match(words[0]):
            words = words[1:]
        ends = [place for place, word in enumerate(words) if word == "&&"]
        for first, end in zip([0, *(place + 1 for place in ends)], [*ends, None], strict=True):
            if words[first : first + 1] == ["crkd"]:
                said = words[first + 1 : end]
                cut = any(word == "..." or word.startswith("$") for word in said)
                yield said, place < len(blocks) and not cut


def problem(words: list[str], whole: bool = False) -> str:
    """What `crkd` does not know of these words, or lacks if they are whole; "" = nothing."""
    command: Any = typer.main.get_command(app)
    for place, word in enumerate(words):
        if not hasattr(command, "get_command"):  # It is a verb.
            words = words[place:]
            break
        if word.startswith("-"):
            words = words[place:]
            break
        context = command.make_context("crkd", [], resilient_parsing=True)
        found = command.get_command(context, word)
        if found is None:
            # VERB and the like; words for people.
            return "" if not word.islower() else f"no verb {word}"
        command = found
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
    if "--ros-args" in words:
        words = words[: words.index("--ros-args")]
    options = [word.partition("=")[0].rstrip(",.;:") for word in words if word.startswith("--")]
    unknown = [option for option in options if option not in known | {"--help"}]
    if unknown:
        return f"{command.name} has no {', '.join(unknown)}"
    needed = [one.opts for one in command.params if one.required and one.opts[0].startswith("-")]
    lacking = [names[0] for names in needed if not {*names} & {*options}]
    return f"{command.name} needs {', '.join(lacking)}" if whole and lacking else ""


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_command_lines_of_documents_are_taken(path):
    wrong = {
        " ".join(words): said
        for words, whole in command_lines(path.read_text())
        if (said := problem(words, whole))
    }
    assert not wrong


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_command_lines_stand_in_blocks_of_shell(path):
    """Those of other blocks would be looked at by nobody."""
    blocks = [text for kind, text in _FENCED.findall(path.read_text()) if kind != "sh"]
    assert not [line for text in blocks for line in text.splitlines() if line[:5] == "crkd "]


def test_the_example_of_own_images_and_radar_runs_as_written(monkeypatch, capsys):
    section = (ROOT / "README.md").read_text().partition("### Your own images and radar")[2]
    code = section.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["frame"].sensors == {"CAM_FRONT", "RADAR_FRONT"}
    assert names["detections"].center.shape[1] == 3 and capsys.readouterr().out
    assert names["detector"].config.radar_sweeps > 0


def test_this_test_can_fail():
    text = (
        "```sh\ncrkd live --params-file x \\\n  --rate 1  # why\n```\nand `crkd nothing` too\n"
        "```sh\ncrkd report A=B --data D --out O\ncrkd report ...\ncrkd report $ALL\n```\n"
        "`crkd report`\n"
    )
    said = [problem(words, whole) for words, whole in command_lines(text)]
    assert said == [
        *("live has no --params-file", "report needs --split", "", ""),
        *("no verb nothing", ""),
    ]
    assert len([*command_lines((ROOT / "README.md").read_text())]) > 20
