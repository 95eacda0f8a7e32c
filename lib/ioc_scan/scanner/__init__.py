"""The device side of ioc_scan: standard library only, shipped to devices as one zipapp."""

__version__ = "0.1.0"

#: Type checkers take this name for true. ``typing`` is not loaded on a device: with what it needs itself (re,
#: enum, collections) it would cost each start 6 ms, as much as Python's own start.
TYPE_CHECKING = False
