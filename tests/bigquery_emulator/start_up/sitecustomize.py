"""Python runs this when it starts, if this folder is on PYTHONPATH: leads Beam to the emulator once it is imported."""

import importlib.machinery
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from tests.bigquery_emulator.beam_address import READ_HOST, REST_HOST, lead_beam_to

_AWAITED = "apache_beam.io.gcp.bigquery"


class _AfterImport:
    """Waits for the import of Beam's module, so that programs that do without are not slowed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _AWAITED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            run = spec.loader.exec_module

            def run_and_lead(module: ModuleType) -> None:
                run(module)
                lead_beam_to(os.environ)

            spec.loader.exec_module = run_and_lead  # type: ignore[method-assign]
        return spec


if REST_HOST in os.environ and READ_HOST in os.environ:
    sys.meta_path.insert(0, _AfterImport())
