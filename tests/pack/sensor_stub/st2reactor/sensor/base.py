"""As much of StackStorm's class as a polling sensor touches."""


class PollingSensor:
    def __init__(self, sensor_service, config=None, poll_interval=5):
        self.sensor_service = self._sensor_service = sensor_service
        self._config = config or {}
        self._poll_interval = poll_interval
