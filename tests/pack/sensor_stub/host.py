"""Runs the sensor as StackStorm's wrapper does: file loaded by path, services handed in, JSON in between.

The datastore is a JSON file; while ``<file>.down`` exists it behaves as StackStorm's does in an outage:
``list_values`` and ``set_value`` raise, ``get_value`` answers None as for an unknown key; with ``<file>.full``
only ``set_value`` raises. Commands come by
stdin, one a line, and are answered by one line on stdout.
"""

import importlib.util
import json
import logging
import os
import sys
from collections import namedtuple

SENSOR, DATASTORE, DISPATCHED, CONFIG = sys.argv[1:5]
Pair = namedtuple("Pair", "name value")


class SensorService:
    prefix = "ioc_scan.SandboxDetectionsSensor:"

    def get_logger(self, name):
        return logging.getLogger(name)

    def dispatch(self, trigger, payload=None, trace_tag=None):
        with open(DISPATCHED, "a", encoding="ascii") as log:
            log.write(json.dumps({"trigger": trigger, "payload": payload, "trace_tag": trace_tag}) + "\n")

    def list_values(self, local=True, prefix=None):
        self._fail_in_an_outage()
        start = (self.prefix if local else "") + (prefix or "")
        return [Pair(name, value) for name, value in self._read().items() if name.startswith(start)][:100]

    def get_value(self, name, local=True, scope=None, decrypt=False):
        return None if self._down() else self._read().get((self.prefix if local else "") + name)

    def set_value(self, name, value, ttl=None, local=True, scope=None, encrypt=False):
        self._fail_in_an_outage()
        if os.path.exists(DATASTORE + ".full"):
            raise ConnectionError("500 Server Error")
        values = self._read()
        values[(self.prefix if local else "") + name] = str(value)
        with open(DATASTORE + ".new", "w", encoding="ascii") as file:
            json.dump(values, file)
        os.replace(DATASTORE + ".new", DATASTORE)
        return True

    def _down(self):
        return os.path.exists(DATASTORE + ".down")

    def _fail_in_an_outage(self):
        if self._down():
            raise ConnectionError("Max retries exceeded with url: /v1/keys")

    def _read(self):
        try:
            with open(DATASTORE, encoding="ascii") as file:
                return json.load(file)
        except FileNotFoundError:
            return {}


def main():
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    spec = importlib.util.spec_from_file_location("sandbox_detections", SENSOR)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sensor = module.SandboxDetectionsSensor(
        sensor_service=SensorService(), config=json.loads(CONFIG), poll_interval=10
    )
    sensor.setup()
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "modules":
            print(" ".join(sorted(sys.modules)), flush=True)
            continue
        sensor.poll()
        print("polled", flush=True)
    sensor.cleanup()


main()
