"""Runs this pack's own files on one machine, without StackStorm.

It is not StackStorm: see docs/standalone.md.

``python -m standalone`` is the command line, :class:`standalone.engine.Engine` the Python door.
"""
