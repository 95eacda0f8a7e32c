"""Keeps the pack's sensors running, each in a process of its own, and takes what they dispatch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from standalone.python_runner import CHILDREN

RESPAWN_DELAY_SECONDS = 2.5
MOST_RESPAWNS = 2  # after that a sensor stays dead until StackStorm is restarted
GOOD_START_SECONDS = 10  # one that ran this long may be respawned anew


class SensorProcess:
    """One sensor. ``on_dispatch(trigger, payload, trace_tag)`` is called from a thread of its own."""

    def __init__(
        self,
        *,
        pack_ref: str,
        metadata: dict[str, Any],
        folder: Path,
        config: dict[str, Any],
        environment: dict[str, str],
        poll_interval_seconds: float | None,
        on_dispatch: Callable[[str, Any, str | None], object],
        log: Callable[[str], None],
    ) -> None:
        self.name = metadata["class_name"]
        self._config = config
        self._environment = environment
        self._on_dispatch = on_dispatch
        self._log = log
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._arguments = [
            sys.executable,
            str(CHILDREN / "run_sensor.py"),
            f"--pack={pack_ref}",
            f"--file-path={folder / metadata['entry_point']}",
            f"--class-name={self.name}",
            "--trigger-type-refs="
            + ",".join(f"{pack_ref}.{kind['name']}" for kind in metadata.get("trigger_types") or []),
        ]
        interval = poll_interval_seconds or metadata.get("poll_interval")
        if interval:
            self._arguments.append(f"--poll-interval={interval}")
        self._keeper = threading.Thread(target=self._keep, daemon=True, name=f"sensor {self.name}")

    def start(self) -> None:
        self._keeper.start()

    @property
    def alive(self) -> bool:
        return self._keeper.is_alive()

    def stop(self) -> None:
        """End the process (TERM, then KILL after 5 seconds)."""
        self._stopping.set()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._keeper.join(10)

    def _keep(self) -> None:
        respawns = 0
        while not self._stopping.is_set():
            long_enough = threading.Event()
            timer = threading.Timer(GOOD_START_SECONDS, long_enough.set)
            timer.daemon = True
            timer.start()
            exit_code = self._run_once()
            timer.cancel()
            if self._stopping.is_set() or exit_code == 0:
                return
            self._log(f"sensor {self.name} exited with code {exit_code}")
            respawns = 0 if long_enough.is_set() else respawns
            if respawns >= MOST_RESPAWNS:
                self._log(f"sensor {self.name} stays dead after {MOST_RESPAWNS} respawns")
                return
            respawns += 1
            self._stopping.wait(RESPAWN_DELAY_SECONDS)

    def _run_once(self) -> int:
        read_end, write_end = os.pipe()
        process = subprocess.Popen(
            [*self._arguments, f"--dispatch-fd={write_end}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment,
            cwd="/",
            pass_fds=(write_end,),
            start_new_session=True,
        )
        self._process = process
        os.close(write_end)
        if process.stdin is None or process.stdout is None:
            raise AssertionError("pipes were asked for")
        reader = threading.Thread(target=self._read_dispatches, args=(read_end,), daemon=True)
        reader.start()
        try:
            process.stdin.write(json.dumps(self._config).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended at once; its output below says why
        if self._stopping.is_set():
            process.terminate()
        for line in process.stdout:
            self._log(f"{self.name}: {line.decode('utf-8', 'replace').rstrip()}")
        exit_code = process.wait()
        reader.join(5)
        process.stdin.close()
        return exit_code

    def _read_dispatches(self, descriptor: int) -> None:
        with os.fdopen(descriptor, encoding="ascii") as pipe:
            for line in pipe:
                message = json.loads(line)
                self._on_dispatch(message["trigger"], message["payload"], message["trace_tag"])
