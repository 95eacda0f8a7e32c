"""ioc_scan: sandbox-triggered, group-wide OpenIOC scan tasks for StackStorm."""

__version__ = "0.1.0"
