"""``python -m ioc_scan``: the command line for any machine."""

from __future__ import annotations

import sys

from ioc_scan.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
