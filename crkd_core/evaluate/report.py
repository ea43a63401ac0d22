"""Metrics as tables, and a web page in one file."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crkd_core.evaluate.metrics import ERROR_NAMES, Evaluation
from crkd_core.files import write_text
from crkd_core.tables import Table, number, print_tables

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
th:first-child, td:first-child, .text { text-align: left; }
figure { margin: 1.5rem 0; } img { max-width: 100%; border-radius: 6px; }
figcaption { color: #5b6675; font-size: .9rem; } pre { white-space: pre-wrap; }
"""


#: First bytes of a picture -> its kind.
_KINDS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}


class ReportError(ValueError):
    """A report that cannot be written: a picture that is neither PNG nor JPEG."""


def metrics_tables(summary: Mapping[str, Any]) -> tuple[Table, Table]:
    """The overall and the per-class table of ``Evaluation.summary`` or of a metrics.json."""
    overall = Table(
        title="nuScenes detection",
        columns=("mAP", "NDS", *MEAN_NAMES.values()),
        rows=[
            [
                number(summary["mean_ap"]),
                number(summary["nd_score"]),
                *(number(summary["tp_errors"][name]) for name in ERROR_NAMES),
            ]
        ],
    )
    by_class = Table(
        title="by class",
        columns=("class", "AP", *(name[1:] for name in MEAN_NAMES.values())),
        rows=[
            [
                name,
                number(summary["mean_dist_aps"][name]),
                *(number(summary["label_tp_errors"][name][error]) for error in ERROR_NAMES),
            ]
            for name in summary["mean_dist_aps"]
        ],
    )
    return overall, by_class


def scope_note(evaluation: Evaluation) -> str:
    """What the metrics are not about: no box, or not all classes; "" where they are about all."""
    notes = []
    if not evaluation.boxes:
        notes.append(
            "No box of the truth counts: none of a scored class is in range and has a return "
            "(num_lidar_pts + num_radar_pts other than 0). The scores say nothing of the detector."
        )
    if evaluation.unscored:
        scored = evaluation.summary["mean_dist_aps"]
        notes.append(
            f"Metrics are means over the detector's {len(scored)} classes; "
            f"{', '.join(evaluation.unscored)} of the data set are not among them and not scored."
        )
    return " ".join(notes)


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
        pictures: caption -> PNG or JPEG file.
        text: plain text under the heading; blank lines separate paragraphs.

    Raises:
        ReportError: a picture that is not a PNG or JPEG file.
        OSError: a picture cannot be read or the page cannot be written.
    """
    parts = [*paragraphs(text), *(table.html() + "<br>\n" for table in tables)]
    parts += [figure(caption, picture) for caption, picture in (pictures or {}).items()]
    write_text(page(title, parts), path)


def publish(
    out: Path,
    *,
    title: str,
    text: str,
    notes: Sequence[str],
    tables: Sequence[Table],
    pictures: Mapping[str, Path],
) -> None:
    """Write report.html of an evaluation; print its tables, and then the notes, on stdout.

    Args:
        out: folder of the evaluation.
        title: see ``write_report``.
        text: what was evaluated.
        notes: what is to be known about it; "" = nothing.
        tables: see ``write_report``.
        pictures: likewise.

    Raises:
        ReportError, OSError: see ``write_report``.
    """
    told = [note for note in notes if note]
    write_report(
        out / "report.html",
        title=title,
        tables=tables,
        pictures=pictures,
        text="\n\n".join([text, *told]),
    )
    print_tables(*tables)
    for note in told:
        print(note)
    print(f"written: {out}")


def paragraphs(text: str) -> list[str]:
    """Plain text as HTML; blank lines separate paragraphs."""
    return [f"<p>{html.escape(block)}</p>\n" for block in text.split("\n\n") if block.strip()]


def figure(caption: str, picture: Path) -> str:
    """A picture with its caption as HTML that needs no other file.

    Raises:
        ReportError: not a PNG or JPEG file.
        OSError: it cannot be read.
    """
    data = picture.read_bytes()
    kind = next((kind for magic, kind in _KINDS.items() if data.startswith(magic)), None)
    if kind is None:
        raise ReportError(f"{picture}: expected a PNG or JPEG file")
    return (
        f'<figure><img alt="{html.escape(caption, quote=True)}" src="data:image/{kind};base64,'
        f'{base64.b64encode(data).decode()}"><figcaption>{html.escape(caption)}</figcaption>'
        "</figure>\n"
    )


def page(title: str, parts: Sequence[str]) -> str:
    """A whole web page of HTML fragments, which loads nothing from elsewhere."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style></head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n{''.join(parts)}</body></html>\n"
    )
