"""How commands without Beam parse their options: what is wrong is told in one line, with the name that was meant."""

import argparse
import difflib
from collections.abc import Sequence
from typing import Any, NoReturn

from beam_pipelines.errors import OptionError


class OptionParser(argparse.ArgumentParser):
    """A parser whose complaints are OptionErrors."""

    def parse_options(self, arguments: Sequence[str]) -> dict[str, Any]:
        """Returns the values by the names of their options; raises OptionError also for an option that is unknown.

        What has no name, such as files, may stand before, between and behind the options.
        """
        parsed, unknown = self.parse_known_intermixed_args(list(arguments))
        if unknown:
            raise OptionError(self._unknown_option(unknown[0]))
        return vars(parsed)

    def error(self, message: str) -> NoReturn:
        raise OptionError(f"{message}: see --help")

    def _unknown_option(self, text: str) -> str:
        name = text.split("=")[0]
        known = [option for option in self._option_string_actions if option.startswith("--")]
        near = difflib.get_close_matches(name, known, n=1) if name.startswith("-") else []
        meant = f"did you mean {near[0]}? " if near else ""
        return f"unknown option {text!r}: {meant}see --help"


def comma_separated(text: str) -> tuple[str, ...]:
    """Returns the parts of an option's value, without those that are empty."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
