"""Runs one python action: arguments and environment in, the result between delimiters on standard output."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import sysconfig
from datetime import date, datetime
from typing import Any

from plugin import (  # type: ignore[import-not-found]
    INVALID_STATUS_EXIT_CODE,
    RESULT_DELIMITER,
    first_class_with_run,
    hide_checkout,
    load_module,
)
from standalone_datastore import ValueService  # type: ignore[import-not-found]


class ActionService:
    """What an action reaches through ``self.action_service``."""

    def __init__(self, values: Any, user: str) -> None:
        self.datastore_service = values
        self.get_value, self.set_value = values.get_value, values.set_value
        self.list_values, self.delete_value = values.list_values, values.delete_value
        self._user = user

    def get_user_info(self) -> dict[str, Any]:
        return {"username": self._user, "rbac": {"enabled": False, "roles": [], "is_admin": True}}


def plain(value: Any) -> Any:
    """``value`` as StackStorm's JSON encoder takes it. Raises TypeError where that one does."""
    if isinstance(value, dict):
        if not all(type(key) is str for key in value):  # a kind of str is refused as a key, as on a node
            raise TypeError("Dict key must be str")
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TypeError("str is not valid UTF-8: surrogates not allowed") from error
        return str(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise TypeError("Integer exceeds 64-bit range")
        return int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    raise TypeError(f"Type is not JSON serializable: {type(value).__name__}")


def encode(output: Any) -> bytes:
    """The line between the delimiters; a result that is no JSON becomes ``str()`` of it, or of everything."""
    status, result = output if isinstance(output, tuple) and len(output) == 2 else (None, output)
    if status is not None and not isinstance(status, bool):
        sys.stderr.write(
            f"Status returned from the action run() method must either be True or False, got: {status}\n"
        )
        sys.exit(INVALID_STATUS_EXIT_CODE)
    if status is not None:
        try:
            plain(result)
        except TypeError:
            result = str(result)
    answer = {"result": result, "status": status}
    try:
        return json.dumps(plain(answer), ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    except TypeError:
        return str(answer).encode("utf-8")


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("pack", "file-path", "user"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--config", default="{}")
    parser.add_argument("--parameters", default="{}")
    parser.add_argument("--stdin-parameters", action="store_true")
    arguments = parser.parse_args()
    pack_dir = os.environ["STANDALONE_PACK_DIR"]
    allowed = (os.path.join(pack_dir, "actions", "lib"), os.path.join(pack_dir, "actions"))
    hide_checkout(pack_dir, allowed)
    sys.path.insert(0, sysconfig.get_path("platlib"))

    parameters = json.loads(arguments.parameters)
    if arguments.stdin_parameters:
        parameters.update(json.loads(sys.stdin.readline())["parameters"])
    action_class = first_class_with_run(load_module(arguments.file_path))
    values = ValueService(os.environ["STANDALONE_DATASTORE"], arguments.pack, action_class.__name__)
    action = action_class(
        config=json.loads(arguments.config), action_service=ActionService(values, arguments.user)
    )
    line = encode(action.run(**parameters))
    sys.stdout.flush()
    sys.stdout.buffer.write(RESULT_DELIMITER.encode() + line + b"\n" + RESULT_DELIMITER.encode())
    sys.stdout.flush()


if __name__ == "__main__":
    main()
