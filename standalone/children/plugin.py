"""Loading an action or sensor file the way StackStorm does, traps included. Standard library only."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from types import ModuleType

RESULT_DELIMITER = "%%%%%~=~=~=************=~=~=~%%%%"  # around the result on an action's standard output
INVALID_STATUS_EXIT_CODE = 220  # run() returned (status, result) with a status that is no bool


def hide_checkout(pack_dir: str, allowed: tuple[str, ...]) -> None:
    """Drop this script's folder and whatever of the pack our own virtualenv adds to the path.

    A development virtualenv knows ``lib/``; StackStorm's does not, and a sensor or action that only
    worked because of it would fail there.
    """
    own = os.path.dirname(os.path.realpath(__file__))
    pack = pack_dir.rstrip(os.sep) + os.sep
    kept = []
    for number, entry in enumerate(sys.path):
        path = os.path.normpath(entry) if entry else ""
        if number == 0 and path == own:
            continue
        foreign = (path + os.sep).startswith(pack) and not path.startswith((sys.prefix, own))
        if not foreign or path in allowed:
            kept.append(entry)
    sys.path[:] = kept


def load_module(file_path: str) -> ModuleType:
    """Execute the file as a module that is NOT in ``sys.modules``; its folder goes last on the path."""
    folder = os.path.dirname(os.path.realpath(file_path))
    if folder not in sys.path:
        sys.path.append(folder)
    name = os.path.basename(file_path).rpartition(".")[0]
    spec = importlib.util.spec_from_file_location(name, file_path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file_path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def first_class_with_run(module: ModuleType) -> type:
    """The alphabetically first class of the module that has a ``run`` method: that is StackStorm's choice."""
    for _, candidate in inspect.getmembers(module, inspect.isclass):
        run = getattr(candidate, "run", None)
        own = candidate.__module__ == module.__name__ and inspect.isfunction(run)
        if own and not getattr(run, "__isabstractmethod__", False):
            return candidate
    raise ImportError(f'Found no classes in plugin file "{module.__file__}" matching requirements.')
