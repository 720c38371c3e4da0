"""What charts drawn by matplotlib have in common: fonts for any writing, and a PNG that is whole or not there."""

import io
import warnings

from matplotlib import font_manager
from matplotlib.figure import Figure

from beam_pipelines import files
from beam_pipelines.artwork import clean_text

GREY = "#6b6b6b"

_NAME_CHARACTERS = 40
# Those that are installed are tried in turn for letters that the one before lacks.
_FONTS = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans", "Noto Sans Arabic", "Noto Sans Hebrew", "Arial Unicode MS")


def installed_fonts() -> list[str]:
    """Returns the names of the fonts to draw labels with, the first choice first."""
    return [name for name in _FONTS if name in font_manager.get_font_names()]


def clipped(label: str, most: int = _NAME_CHARACTERS) -> str:
    """Returns a label as one short line that can be drawn, of at most so many characters."""
    return clean_text(label, max_characters=most) or "?"


def as_png(figure: Figure) -> bytes:
    """Returns a figure as PNG; letters that no font has are drawn as boxes."""
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(?s)Glyph .* missing from")
        figure.savefig(out, format="png")
    return out.getvalue()


def write_png(figure: Figure, path: str) -> None:
    """Writes a figure as PNG, whole or not at all, on any file system."""
    files.write_bytes(path, as_png(figure))
