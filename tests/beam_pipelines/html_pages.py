"""What is on a page of HTML, for the tests of all pages."""

import re
from html.parser import HTMLParser

# A text from outside that would be elements, an attribute or an expression where it is not escaped.
ATTACK = """"><script>alert('&"')</script><img src=x onerror=alert(1)>{{ 7 * 7 }}"""


class Page(HTMLParser):
    """The elements, attributes and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.texts: list[str] = []
        self._raw = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self._raw = tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self._raw = False

    def handle_data(self, data: str) -> None:
        if not self._raw:
            self.texts.append(data)

    def values(self, name: str) -> list[str | None]:
        return [value for _, attribute, value in self.attributes if attribute == name]

    def kinds(self) -> set[tuple[str, str]]:
        return {(tag, name) for tag, name, _ in self.attributes}


def text_of(page: str) -> str:
    """Returns what can be read on a page, on one line, with a space between elements."""
    return " ".join(" ".join(Page(page).texts).split())


def policy(page: str) -> dict[str, list[str]]:
    """Returns the page's Content-Security-Policy, by directive."""
    (content,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    directives = [directive.split() for directive in content.replace("&#39;", "'").split(";")]
    return {name: values for name, *values in directives}
