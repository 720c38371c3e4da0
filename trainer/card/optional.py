"""What may be missing: a card is made from what there is."""

import logging
from collections.abc import Callable
from typing import TypeVar

_Value = TypeVar("_Value")

_LOGGER = logging.getLogger(__name__)


def optional(what: str, read: Callable[[], _Value]) -> _Value | None:
    """Returns what `read` returns; None where it raises, which is told in the log unless a file is just not there.

    Args:
        what: is read, for the log: `the card is without {what}`.
        read: raises whatever it likes: files were moved, cut short or edited, a file system refuses.
    """
    try:
        return read()
    except FileNotFoundError:
        return None
    except Exception as error:  # noqa: BLE001  (whatever is wrong with a file, the model is not)
        _LOGGER.warning("the model card is without %s: %s", what, str(error) or type(error).__name__)
        return None
