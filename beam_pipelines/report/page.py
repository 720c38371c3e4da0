"""The data set's page, `report.html`: what was asked for, what came of it, and what it looks like; one file.

Everything that the page shows is computed here and in the modules beside it, in pure functions; `templates/report.html`
only lays it out.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from beam_pipelines.charts import Part, stacked
from beam_pipelines.rejects import Dropped, Kind
from beam_pipelines.report.classes import class_facts, class_rows, long_tail, split_legend, split_rows
from beam_pipelines.report.contact_sheet import MAX_OPEN_CLASSES, Thumbnail, sheets
from beam_pipelines.report.reasons import reason_rows
from beam_pipelines.report.sizes import PictureSizes, histograms, measured_facts

_TOP_CLASSES = 40


def render_report(
    info: Mapping[str, Any],
    *,
    sizes: PictureSizes,
    examples: Mapping[str, Sequence[Dropped]],
    thumbnails: Sequence[Thumbnail],
) -> str:
    """Returns the page; the same values give the same page.

    Args:
        info: what `dataset_info.json` has; `checked_only` where the pictures were checked and none was written.
        sizes: of the pictures as they were fetched.
        examples: a few rows of each reason, in the order in which they are shown.
        thumbnails: of the contact sheet, in the order of class ids.
    """
    from beam_pipelines.pages import render_page  # workers that only make thumbnails need no Jinja2

    classes = class_rows(info)
    contact = sheets(classes, thumbnails)
    return render_page(
        "report.html",
        **shared_values(info, examples),
        checked_only=bool(info.get("checked_only")),
        tail=long_tail(classes),
        histograms=histograms(sizes, image_size=info["options"]["image_size"]),
        measured=measured_facts(sizes, image_size=info["options"]["image_size"]),
        sheets=contact,
        many=len(contact) > MAX_OPEN_CLASSES,
    )


def shared_values(info: Mapping[str, Any], examples: Mapping[str, Sequence[Dropped]]) -> dict[str, Any]:
    """Returns what the pages of all data sets show: their account, classes, splits, rows left out and options."""
    classes = class_rows(info)
    return {
        "info": info,
        "account": account(info),
        "facts": class_facts(classes),
        "largest": sorted(classes, key=lambda row: -row.total),
        "top": _TOP_CLASSES,
        "splits": split_rows(info),
        "legend": split_legend(classes),
        "left_out": {kind.value: reason_rows(info[kind], kind, examples) for kind in Kind},
        "options": {name: _option_text(value) for name, value in info["options"].items()},
    }


def account(info: Mapping[str, Any]) -> list[Part]:
    """Returns what became of the rows read, as parts of one bar."""
    counts = {"written": info["written"], **{kind.value: sum(info[kind].values()) for kind in Kind}}
    return stacked(counts, whole=info["read"])


def _option_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:,}" if type(value) is int else json.dumps(value)
