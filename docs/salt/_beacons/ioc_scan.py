"""Beacon of ioc_scan: tells the master when a job of this minion has news, so that nobody needs to ask.

Minion configuration::

    beacons:
      ioc_scan:
        - interval: 1
        - progress_seconds: 30     # how often mere progress is worth telling
"""


def validate(config):
    """Whatever is configured will do."""
    return isinstance(config, list), "a list is expected"


def beacon(config):
    """At most one event, made by the execution module."""
    options = {name: value for entry in config for name, value in entry.items()}
    said = __salt__["ioc_scan.news"](options.get("progress_seconds", 30))  # noqa: F821
    return [said] if said else []
