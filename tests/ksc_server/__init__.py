"""A stand-in for Kaspersky Security Center's Open API, written from the API reference and not from any client.

Strict where the reference is: typed values, argument names and types, one request at a time per connection,
log-on, iterators with lifetimes. What the reference does not name (the IOC Scan task's settings, the ids of its
events, the shape of a device list) has visibly fictitious names: everything that starts with SIM_.
"""

from .http import KscServer
from .world import EVENT_IOC_FOUND, EVENT_QUARANTINED, Host, World, marker_bytes, sim_world

__all__ = ["EVENT_IOC_FOUND", "EVENT_QUARANTINED", "Host", "KscServer", "World", "marker_bytes", "sim_world"]
