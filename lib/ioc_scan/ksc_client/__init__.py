"""A client for Kaspersky Security Center's Open API, shared by its device manager and its source of detections.

``transport`` moves one call at a time, ``values`` knows the typed JSON, ``calls`` has a method for each thing the
pack asks for. Reference: KSC Open API, https://support.kaspersky.com/help/KSC/15/KSCAPI.
"""

from __future__ import annotations

from .calls import Ksc
from .errors import KscError
from .transport import KscSettings, KscTransport

__all__ = ["Ksc", "KscError", "KscSettings", "KscTransport", "connect"]


def connect(settings: KscSettings) -> Ksc:
    """A client that logs on with its first call."""
    return Ksc(KscTransport(settings))
