"""The device side of ioc_scan: standard library only, shipped to devices as one zipapp."""

__version__ = "0.1.0"
