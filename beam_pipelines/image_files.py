"""Pictures as files for people and other programs, `LABEL/key.jpg`, from the examples of a data set."""

from collections.abc import Mapping, Sequence
from typing import Any

from beam_pipelines import files
from beam_pipelines.artwork import stable_hash
from beam_pipelines.dataset import Feature

# File systems allow 255 bytes; a rest is left for endings and for unfinished files.
_MAX_NAME_BYTES = 200
_HASH_DIGITS = 16
_SAFE = frozenset(" ,-_()'!&+=@")


def write_image(directory: str, example: Mapping[str, Sequence[Any]]) -> None:
    """Writes the picture of an example as `LABEL/key.jpg`, once for each of its labels.

    Args:
        directory: on any file system.
        example: its features.
    """
    key = example[Feature.KEY][0].decode("utf-8", "surrogatepass")
    for label in example[Feature.TEXT]:
        path = files.join(directory, safe_name(label.decode()), f"{safe_name(key)}.jpg")
        files.write_bytes(path, example[Feature.ENCODED][0])


def safe_name(text: str) -> str:
    """Returns a name for a file or folder that can be nothing else, different for different texts.

    Letters and digits of any alphabet stay, as do spaces and some signs; the rest is percent-encoded as in addresses,
    so that the text can be read back. What is too long is cut, and ends in a hash of the whole.
    """
    name = "".join(character if _is_safe(character) else _encoded(character) for character in text)
    if name.endswith((".", " ")):
        name = name[:-1] + _encoded(name[-1])
    if name.startswith((".", " ", "-")):
        name = _encoded(name[0]) + name[1:]
    if len(name.encode()) <= _MAX_NAME_BYTES:
        return name or "%"
    start = name.encode()[: _MAX_NAME_BYTES - _HASH_DIGITS - 1].decode("utf-8", "ignore")
    return f"{start}-{stable_hash(text, salt='name'):0{_HASH_DIGITS}x}"


def _is_safe(character: str) -> bool:
    return character.isalnum() or character in _SAFE or character == "."


def _encoded(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
