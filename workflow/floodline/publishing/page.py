"""HTML of the report: one file, no outside resources, no script."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape as escape
from importlib.resources import files
from math import isnan
from typing import Any


@dataclass(frozen=True)
class Link:
    """A cell of a table that leads somewhere."""

    text: str
    url: str

    def __str__(self) -> str:
        return f'<a href="{escape(self.url)}">{escape(self.text)}</a>'


def document(title: str, *parts: str) -> str:
    """A whole page."""
    style = files(__package__).joinpath("page.css").read_text()
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
{"".join(parts)}</body>
</html>
"""


def section(title: str, *parts: str) -> str:
    """A heading and what belongs to it; nothing if there is nothing."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{''.join(parts)}</section>\n" if any(parts) else ""


def subtitle(text: str) -> str:
    return f"<h3>{escape(text)}</h3>\n"


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>\n"


def command(text: str, does: str) -> str:
    """A paragraph that begins with a command."""
    return f"<p><code>{escape(text)}</code> {escape(does)}</p>\n"


def link(text: str, url: str) -> str:
    """A paragraph that leads somewhere."""
    return f"<p>{Link(text, url)}</p>\n"


def image(data: bytes, kind: str, description: str) -> str:
    """A picture inside the page; `kind` is its media type, e.g. image/jpeg."""
    return f'<img src="data:{kind};base64,{base64.b64encode(data).decode()}" alt="{escape(description)}">'


def figure(content: str, caption: str = "", title: str = "") -> str:
    """A picture with a caption below it and perhaps a title above."""
    above = f"<figcaption>{escape(title)}</figcaption>" if title else ""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{above}{content}{below}</figure>\n"


def plots(*figures: str) -> str:
    """Plots side by side where there is room."""
    return f'<div class="plots">\n{"".join(figures)}</div>\n' if figures else ""


def panels(pictures: Sequence[tuple[str, str]], caption: str) -> str:
    """Pictures in a row, each with its title; two a row on a narrow screen."""
    inner = "".join(figure(picture, title=title) for title, picture in pictures)
    row = f'<div class="panels" style="--columns: {len(pictures)}">\n{inner}</div>'
    return figure(row, caption)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "", main: Sequence[bool] = ()) -> str:
    """A table; numbers are set to the right, and rows for which `main` holds are emphasised."""

    def cell(value: Any) -> str:
        if isinstance(value, Link):
            return f'<td class="text">{value}</td>'
        kind = "number" if isinstance(value, int | float) or value is None else "text"
        return f'<td class="{kind}">{escape(number(value) if kind == "number" else str(value))}</td>'

    numeric = [all(isinstance(row[i], int | float) or row[i] is None for row in rows) for i in range(len(head))]
    heads = "".join(
        f'<th scope="col"{" class=number" if right else ""}>{escape(name)}</th>'
        for name, right in zip(head, numeric, strict=True)
    )
    body = "".join(
        f"<tr{' class=main' if i < len(main) and main[i] else ''}>{''.join(cell(value) for value in row)}</tr>\n"
        for i, row in enumerate(rows)
    )
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="wide"><table>{above}<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n'


def facts(items: Sequence[tuple[str, str, str]]) -> str:
    """The numbers at the top: name, value, remark."""
    inner = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(remark)}</small></dd></div>\n"
        for name, value, remark in items
    )
    return f'<dl class="facts">\n{inner}</dl>\n'


def terms(items: Sequence[tuple[str, str]]) -> str:
    """Words and what they mean."""
    inner = "".join(f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>\n" for word, meaning in items)
    return f'<dl class="terms">\n{inner}</dl>\n'


def folded(summary: str, *parts: str) -> str:
    """Something that opens at a click."""
    return f"<details><summary>{escape(summary)}</summary>\n{''.join(parts)}</details>\n"


def product(xyz: Sequence[int]) -> str:
    """A size, x × y × z."""
    return " × ".join(str(n) for n in xyz)


def length(nm: float) -> str:
    """A length of a scale bar."""
    return f"{nm:g} nm" if nm < 1000 else f"{nm / 1000:g} µm"


def number(value: float | None) -> str:
    """A number as people write it: three figures after the point below ten, thousands apart, a dash for none."""
    if value is None or (isinstance(value, float) and isnan(value)):
        return "–"
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ")
    if value == 0:
        return "0"
    size = abs(value)
    digits = 3 if size < 10 else 1 if size < 1000 else 0
    return f"{value:,.{digits}f}".replace(",", " ") if size >= 0.001 else f"{value:.1e}"
