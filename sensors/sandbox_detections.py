"""The sandbox sensor: state in the datastore, everything else in ``ioc_scan.detection.sources``."""

import json
import threading
import time
from pathlib import Path

from ioc_scan.clock import system_clock
from ioc_scan.detection.sources import build_source
from ioc_scan.detection.sources.triggers import Triggers
from ioc_scan.detection.sources.watch import Watch, WatchSettings
from ioc_scan.text import printable, printable_traceback
from st2reactor.sensor.base import PollingSensor

STATE_PREFIX = "state."
#: A round ends after this, whatever a source is still busy with; that one goes on by itself.
LONGEST_ROUND_SECONDS = 45


class SandboxDetectionsSensor(PollingSensor):
    """Polls each configured source in a thread of its own: one that fails or hangs delays nobody but itself."""

    def __init__(self, sensor_service, config=None, poll_interval=None):
        super().__init__(sensor_service=sensor_service, config=config, poll_interval=poll_interval)
        self._service = sensor_service
        self._logger = sensor_service.get_logger(name=self.__class__.__name__)
        self._triggers = Triggers(Path(__file__).with_suffix(".yaml"))
        self._watches = {}
        self._looks = {}
        #: StackStorm's services are used by one thread at a time
        self._services = threading.Lock()
        self._unsaved = set()
        self._loaded = False

    def setup(self):
        self._load()

    def poll(self):
        """Never raises: an exception out of here would end the sensor for good after two restarts."""
        if not self._loaded and not self._load():
            return
        for name, watch in self._watches.items():
            if self._is_busy(name):
                self._logger.warning("source %s: still busy with an earlier look", name)
                continue
            look = threading.Thread(target=self._look, args=(name, watch), name=name, daemon=True)
            self._looks[name] = look
            look.start()
        deadline = time.monotonic() + LONGEST_ROUND_SECONDS
        for look in self._looks.values():
            look.join(max(0.0, deadline - time.monotonic()))

    def cleanup(self):
        for name, watch in self._watches.items():
            if not self._is_busy(name):
                self._try_to_save(name, watch)

    def _look(self, name, watch):
        """A first start is stored before anything is looked at: it must not be one again after a crash."""
        if watch.first and not self._try_to_save(name, watch):
            return
        try:
            watch.poll(self._dispatch)
        except Exception as error:  # noqa: BLE001  what fails here must not end the sensor
            self._failed(error, "source %s: this look failed", name)
        self._try_to_save(name, watch)

    def _is_busy(self, name):
        return name in self._looks and self._looks[name].is_alive()

    def add_trigger(self, trigger):
        pass

    def update_trigger(self, trigger):
        pass

    def remove_trigger(self, trigger):
        pass

    def _load(self):
        """Read every state once. Only list_values tells an outage from an empty datastore: it raises."""
        try:
            stored = self._service.list_values(local=True, prefix=STATE_PREFIX) or []
        except Exception as error:  # noqa: BLE001  what fails here must not end the sensor
            self._failed(error, "the datastore cannot be read; no source is looked at before it can")
            return False
        values = {pair.name.rpartition(":")[2]: pair.value for pair in stored}
        config = self._config or {}
        for entry in config.get("sources") or []:
            name = str(entry.get("name"))
            try:
                self._watches[name] = Watch(
                    build_source(entry),
                    WatchSettings.from_config(entry, config.get("guard") or {}),
                    self._triggers,
                    self._state(name, values.get(STATE_PREFIX + name)),
                    clock=system_clock,
                    log=self._warn,
                )
                self._try_to_save(name, self._watches[name])
            except Exception as error:  # noqa: BLE001  what fails here must not end the sensor
                self._failed(error, "source %s: its configuration cannot be used", name)
        self._loaded = True
        return True

    def _state(self, name, value):
        """None is a first start. What cannot be read counts as one too, but is said."""
        if not value or value == "None":
            return None
        try:
            return json.loads(value)
        except ValueError:
            self._logger.error("source %s: its stored state is damaged; starting afresh", name)
            return None

    def _try_to_save(self, name, watch):
        """True once the state is in the datastore; what is not stays in memory until the next look."""
        if not watch.changed and name not in self._unsaved:
            return True
        try:
            with self._services:
                self._service.set_value(STATE_PREFIX + name, json.dumps(watch.state), local=True)
        except Exception as error:  # noqa: BLE001  what fails here must not end the sensor
            self._unsaved.add(name)
            self._failed(error, "source %s: its state could not be saved; kept in memory", name)
            return False
        watch.changed = False
        self._unsaved.discard(name)
        return True

    def _warn(self, message):
        """What a source says quotes reports: it stays one line, and is no format."""
        self._logger.warning("%s", printable(message, 1000))

    def _failed(self, error, message, *arguments):
        self._logger.error(message + "\n%s", *arguments, printable_traceback(error))

    def _dispatch(self, trigger, payload, trace_tag):
        with self._services:
            self._service.dispatch(trigger=trigger, payload=payload, trace_tag=trace_tag)
        self._logger.info("dispatched %s for %s", trigger, trace_tag)
