"""Metrics as tables for the terminal, and a web page in one file."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rich.table

from crkd_core.boxes import CLASS_NAMES
from crkd_core.evaluate.metrics import ERROR_NAMES
from crkd_core.files import write_text

#: The devkit's error names -> what people call their means.
MEAN_NAMES = {
    "trans_err": "mATE",
    "scale_err": "mASE",
    "orient_err": "mAOE",
    "vel_err": "mAVE",
    "attr_err": "mAAE",
}

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; background: #fbfbfc;
       max-width: 1200px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; } caption { text-align: left; font-weight: 600; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid #dfe3e8; text-align: right;
         font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1.5rem 0; } img { max-width: 100%; border-radius: 6px; }
figcaption { color: #5b6675; font-size: .9rem; } pre { white-space: pre-wrap; }
"""


class ReportError(ValueError):
    """A report that cannot be written: a table with ragged rows or a picture that is not PNG."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table for terminal and page.

    Attributes:
        title: its heading.
        columns: heading of every column; the first holds names, the others numbers.
        rows: one text per column.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ReportError(
                    f"table {self.title!r}: expected {len(self.columns)} cells, got {row!r}"
                )

    def rich(self) -> rich.table.Table:
        """For ``rich.print``."""
        table = rich.table.Table(title=self.title, title_justify="left")
        for i, name in enumerate(self.columns):
            table.add_column(name, justify="right" if i else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For documentation: without the title, names to the left, numbers to the right."""
        rules = ["---", *["---:"] * (len(self.columns) - 1)]
        lines = (self.columns, rules, *self.rows)
        return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)

    def html(self) -> str:
        """As an HTML fragment."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>\n"
            for row in self.rows
        )
        return (
            f"<table><caption>{html.escape(self.title)}</caption>\n<thead><tr>{head}</tr></thead>\n"
            f"<tbody>\n{body}</tbody></table>\n"
        )


def metrics_tables(summary: Mapping[str, Any]) -> tuple[Table, Table]:
    """The overall and the per-class table of ``Evaluation.summary`` or of a metrics.json."""
    overall = Table(
        title="nuScenes detection",
        columns=("mAP", "NDS", *MEAN_NAMES.values()),
        rows=[
            [
                _number(summary["mean_ap"]),
                _number(summary["nd_score"]),
                *(_number(summary["tp_errors"][name]) for name in ERROR_NAMES),
            ]
        ],
    )
    by_class = Table(
        title="by class",
        columns=("class", "AP", *(name[1:] for name in MEAN_NAMES.values())),
        rows=[
            [
                name,
                _number(summary["mean_dist_aps"][name]),
                *(_number(summary["label_tp_errors"][name][error]) for error in ERROR_NAMES),
            ]
            for name in CLASS_NAMES
        ],
    )
    return overall, by_class


def write_report(
    path: Path,
    *,
    title: str,
    tables: Sequence[Table] = (),
    pictures: Mapping[str, Path] | None = None,
    text: str = "",
) -> None:
    """Write one self-contained HTML page: pictures are embedded, nothing is loaded from elsewhere.

    Args:
        path: file to write; a reader never sees half of it.
        title: heading of the page.
        tables: shown first.
        pictures: caption -> PNG file.
        text: plain text under the heading; blank lines separate paragraphs.

    Raises:
        ReportError: a picture that is not a PNG file.
        OSError: a picture cannot be read or the page cannot be written.
    """
    parts = [f"<p>{html.escape(block)}</p>\n" for block in text.split("\n\n") if block.strip()]
    parts += [table.html() + "<br>\n" for table in tables]
    for caption, picture in (pictures or {}).items():
        data = picture.read_bytes()
        if not data.startswith(b"\x89PNG\r\n\x1a\n"):
            raise ReportError(f"{picture}: expected a PNG file")
        parts.append(
            f'<figure><img alt="{html.escape(caption, quote=True)}" src="data:image/png;base64,'
            f'{base64.b64encode(data).decode()}"><figcaption>{html.escape(caption)}</figcaption>'
            "</figure>\n"
        )
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style></head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n{''.join(parts)}</body></html>\n"
    )
    write_text(page, path)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
