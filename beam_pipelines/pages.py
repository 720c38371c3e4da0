"""Pages for people: a template becomes one HTML file that loads nothing from anywhere.

A template, and the styles and scripts that it names, lie in the folder `templates/` of a package, or in that of this
one, which has what all pages share: `base.html`, `charts.html`, `pieces.html` and `page.css`.

Values are escaped, and characters that do not show or that turn the text around are written out. The page's
Content-Security-Policy allows its own styles and scripts by their hashes, pictures that lie in it, and nothing else.
"""

import base64
import functools
import hashlib
from typing import Any

import jinja2
from markupsafe import Markup


def render_page(template: str, *, package: str = __package__, **values: Any) -> str:
    """Returns a page that can be encoded as UTF-8.

    Args:
        template: the name of its file.
        package: where that lies.
        **values: what the template lays out.
    """
    return _environment(package).get_template(template).render(values)


def thousands(count: int) -> str:
    """Returns a count for people: `12,345`."""
    return f"{count:,}"


def percent(part: float, whole: float) -> str:
    """Returns a share for people: `12.3%`; neither nothing nor all unless it is exactly that."""
    if not whole or not part:
        return "0%"
    if part == whole:
        return "100%"
    return f"{min(max(100 * part / whole, 0.1), 99.9):.1f}%"


def visible(value: Any) -> Any:
    """Returns a text in which characters that cannot be printed are escaped as in Python; other values as they are."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in value
    )


@functools.cache
def _environment(package: str) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name) for name in dict.fromkeys((package, __package__))]),
        autoescape=True,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(thousands=thousands, percent=percent, integrity=_integrity)
    environment.globals.update(source=_source)
    return environment


@jinja2.pass_environment
def _source(environment: jinja2.Environment, name: str) -> Markup:
    """Returns a style or script of one of the packages as it stands."""
    assert environment.loader  # noqa: S101  (tells the type)
    return Markup(environment.loader.get_source(environment, name)[0])  # noqa: S704  (a file of a package)


@jinja2.pass_environment
def _integrity(environment: jinja2.Environment, name: str) -> str:
    digest = hashlib.sha256(_source(environment, name).encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
