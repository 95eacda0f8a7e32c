"""Stands in for StackStorm's base classes of sensors."""

from __future__ import annotations

import abc
import time
from typing import Any


class BaseSensor(abc.ABC):
    """What every sensor has: a service to dispatch and keep values, and the pack's config."""

    def __init__(self, sensor_service: Any, config: dict[str, Any] | None = None) -> None:
        self.sensor_service = self._sensor_service = sensor_service
        self.config = self._config = config or {}

    @abc.abstractmethod
    def setup(self) -> None: ...

    @abc.abstractmethod
    def run(self) -> None: ...

    @abc.abstractmethod
    def cleanup(self) -> None: ...

    @abc.abstractmethod
    def add_trigger(self, trigger: dict[str, Any]) -> None: ...

    @abc.abstractmethod
    def update_trigger(self, trigger: dict[str, Any]) -> None: ...

    @abc.abstractmethod
    def remove_trigger(self, trigger: dict[str, Any]) -> None: ...


class Sensor(BaseSensor):
    """A sensor that waits for something by itself."""


class PollingSensor(BaseSensor):
    """Calls ``poll`` every ``poll_interval`` seconds; an exception out of it ends the sensor."""

    def __init__(
        self, sensor_service: Any, config: dict[str, Any] | None = None, poll_interval: float = 5
    ) -> None:
        super().__init__(sensor_service=sensor_service, config=config)
        self._poll_interval = poll_interval

    @abc.abstractmethod
    def poll(self) -> None: ...

    def run(self) -> None:
        while True:
            self.poll()
            time.sleep(self._poll_interval)

    def get_poll_interval(self) -> float:
        return self._poll_interval

    def set_poll_interval(self, poll_interval: float) -> None:
        self._poll_interval = poll_interval
