"""The data set's page, `report.html`: what was asked for and what came of it; one file, light and dark."""

import html
from collections.abc import Mapping
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --bar: #4472b8; --line: #8884; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem; }
th, td { text-align: left; padding: .2rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.bar { width: 45%; }
td.bar div { background: var(--bar); height: .8rem; border-radius: 2px; min-width: 1px; }
td.empty { color: #c0392b; }
"""


def render_report(info: Mapping[str, Any]) -> str:
    """Returns the page for a data set's information (`dataset_info.json`)."""
    filtered, rejected = sum(info["filtered"].values()), sum(info["rejected"].values())
    head = f"{info['read']:,} rows read = {info['written']:,} written + {filtered:,} filtered + {rejected:,} rejected"
    splits = {f"{name} ({len(split['shards'])} shards)": split["examples"] for name, split in info["splits"].items()}
    sections = [
        f"<h1>Data set {_text(info['fingerprint'])}</h1><p>{head}</p>",
        _bars("Split", splits),
        _bars(f"{len(info['labels'])} classes", info["labels"]),
        _bars("Filtered", info["filtered"]),
        _bars("Rejected", info["rejected"]),
        _pairs("Options", info["options"]),
        _pairs("Versions", info["versions"]),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Data set</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n{chr(10).join(sections)}\n</body></html>\n"
    )


def _bars(title: str, counts: Mapping[str, int]) -> str:
    most = max(counts.values(), default=0) or 1
    rows = "\n".join(
        f'<tr><td{"" if count else " class=empty"}>{_text(name)}</td><td class="number">{count:,}</td>'
        f'<td class="bar"><div style="width:{100 * count / most:.1f}%"></div></td></tr>'
        for name, count in counts.items()
    )
    return f"<h2>{_text(title)}</h2><table>{rows or '<tr><td>none</td></tr>'}</table>"


def _pairs(title: str, values: Mapping[str, Any]) -> str:
    rows = "\n".join(f"<tr><td>{_text(name)}</td><td>{_text(value)}</td></tr>" for name, value in values.items())
    return f"<h2>{_text(title)}</h2><table>{rows}</table>"


def _text(value: object) -> str:
    return html.escape(str(value))
