"""Runs one sensor until it is ended. Dispatches go to the engine as JSON lines on their own descriptor."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import threading
from typing import Any

from plugin import hide_checkout, load_module  # type: ignore[import-not-found]
from standalone_datastore import ValueService  # type: ignore[import-not-found]


class SensorService:
    """What a sensor reaches through ``self.sensor_service``."""

    def __init__(self, values: Any, dispatch_fd: int, logger: logging.Logger) -> None:
        self.datastore_service = values
        self.get_value, self.set_value = values.get_value, values.set_value
        self.list_values, self.delete_value = values.list_values, values.delete_value
        self._pipe = os.fdopen(dispatch_fd, "w", encoding="ascii", buffering=1)
        self._logger = logger
        self._lock = threading.Lock()

    def get_logger(self, name: str) -> logging.Logger:
        return self._logger.getChild(name)

    def dispatch(self, trigger: str, payload: Any = None, trace_tag: str | None = None) -> None:
        """Hand over a trigger. Never raises for a bad payload: the engine drops it with a log line."""
        line = json.dumps({"trigger": trigger, "payload": payload, "trace_tag": trace_tag})
        with self._lock:
            self._pipe.write(line + "\n")


def leave_with_parent() -> None:
    """The engine holds our standard input open; its end means the engine is gone."""
    while os.read(0, 65536):
        pass
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("pack", "file-path", "class-name"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--poll-interval", type=float)
    parser.add_argument("--trigger-type-refs", default="")
    parser.add_argument("--dispatch-fd", type=int, required=True)
    arguments = parser.parse_args()
    pack_dir = os.environ["STANDALONE_PACK_DIR"]
    hide_checkout(pack_dir, (os.path.dirname(arguments.file_path),))
    with open(0, "rb", buffering=0, closefd=False) as stdin:  # unbuffered: a thread goes on reading it
        config = json.loads(stdin.readline())
    threading.Thread(target=leave_with_parent, daemon=True).start()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    logger = logging.getLogger(f"SensorWrapper.{arguments.pack}.{arguments.class_name}")

    sensor_class = getattr(load_module(arguments.file_path), arguments.class_name)
    values = ValueService(os.environ["STANDALONE_DATASTORE"], arguments.pack, arguments.class_name)
    keywords: dict[str, Any] = {}
    if arguments.poll_interval and hasattr(sensor_class, "poll"):
        keywords["poll_interval"] = arguments.poll_interval
    service = SensorService(values, arguments.dispatch_fd, logger)
    sensor = sensor_class(sensor_service=service, config=config, **keywords)
    for ref in filter(None, arguments.trigger_type_refs.split(",")):
        sensor.add_trigger(trigger={"ref": ref, "type": ref, "parameters": {}})
    sensor.setup()
    sensor.run()


if __name__ == "__main__":
    main()
