"""Runs one python action in a subprocess as StackStorm's python runner does."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from ioc_scan.clock import AHEAD_VARIABLE

from standalone.children.plugin import INVALID_STATUS_EXIT_CODE, RESULT_DELIMITER

CHILDREN = Path(__file__).parent / "children"
LONGEST_PARAMETERS = 131072 - 15  # longer ones go through standard input; config has no such way out
TIMEOUT_EXIT_CODE = -9


def child_environment(
    pack_dir: Path, state_dir: Path, ahead_seconds: int, python_path: str
) -> dict[str, str]:
    """The environment of an action or sensor; ``python_path`` is its whole PYTHONPATH."""
    environment = dict(os.environ)
    environment["PATH"] = f"{sys.prefix}/bin/:{environment.get('PATH', '')}"
    environment["PYTHONPATH"] = python_path
    environment["STANDALONE_PACK_DIR"] = str(pack_dir)
    environment["STANDALONE_DATASTORE"] = str(state_dir / "standalone.db")
    environment[AHEAD_VARIABLE] = str(ahead_seconds)
    return environment


def action_python_path(pack_dir: Path) -> str:
    """StackStorm's order: the pack's virtualenv, actions/lib, then what StackStorm itself has."""
    library = sysconfig.get_path("stdlib")
    venv_library = os.path.join(sys.prefix, "lib", os.path.basename(library))
    return ":".join(
        [venv_library, sysconfig.get_path("platlib"), str(pack_dir / "actions" / "lib"), str(CHILDREN)]
    )


def run_python_action(
    *,
    pack_ref: str,
    entry_point: Path,
    user: str,
    config: dict[str, Any],
    parameters: dict[str, Any],
    runner_parameters: dict[str, Any],
    environment: dict[str, str],
    running: set[subprocess.Popen[bytes]],
) -> tuple[str, dict[str, Any]]:
    """(status, result) with the result as StackStorm's runner shapes it.

    Config is one argument: past 128 KiB the kernel refuses it, and the action fails as it would there.
    Raises OSError and ValueError; both make the execution fail. The process is in ``running`` while it runs.
    """
    arguments = [
        sys.executable,
        "-u",
        str(CHILDREN / "run_action.py"),
        f"--pack={pack_ref}",
        f"--file-path={entry_point}",
        f"--user={user}",
    ]
    encoded = json.dumps(parameters, ensure_ascii=False, separators=(",", ":"))
    stdin: bytes | None = None
    if len(encoded) >= LONGEST_PARAMETERS:
        arguments.append("--stdin-parameters")
        stdin = f'{{"parameters": {encoded}}}\n'.encode()
    else:
        arguments.append(f"--parameters={encoded}")
    if config:
        arguments.append(f"--config={json.dumps(config, ensure_ascii=False, separators=(',', ':'))}")
    environment = {**environment, **_own_variables(runner_parameters.get("env"))}

    timeout_seconds = runner_parameters["timeout"]
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd="/",  # as under systemd: a relative path in config does not mean the checkout
        start_new_session=True,
    )
    running.add(process)
    timed_out = False
    try:
        stdout, stderr = process.communicate(stdin, timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        timed_out = True
        stdout, stderr = _end(process)
    finally:
        running.discard(process)
    return _outcome(
        TIMEOUT_EXIT_CODE if timed_out else process.returncode,
        stdout.decode("utf-8", "replace"),
        stderr.decode("utf-8", "replace"),
        timeout_seconds if timed_out else None,
    )


def _own_variables(given: dict[str, Any] | None) -> dict[str, str]:
    return {name: str(value) for name, value in (given or {}).items() if name.lower() != "pythonpath"}


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the action's whole process group; whoever reads its output goes on reading."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    kill(process)
    try:
        return process.communicate(timeout=5)
    except subprocess.TimeoutExpired as still_held:  # a detached child keeps the pipe open
        return still_held.stdout or b"", still_held.stderr or b""


def _outcome(
    exit_code: int, stdout: str, stderr: str, timed_out_after: float | None
) -> tuple[str, dict[str, Any]]:
    if exit_code == INVALID_STATUS_EXIT_CODE:
        raise ValueError(stderr)
    result: Any = "None"
    succeeded: bool | None = None
    parts = stdout.split(RESULT_DELIMITER)
    if len(parts) == 3:
        stdout = parts[0] + parts[2]
        try:
            answer = json.loads(parts[1])
            result, succeeded = answer["result"], answer["status"]
        except ValueError:  # no JSON: the text of a Python dict, of which StackStorm cuts out the result
            found = re.search("'result': (.*?)$", parts[1].strip())
            result = found.group(1) if found else parts[1].strip()
    elif len(parts) != 1:
        raise ValueError(f"The result length should be 3, was {len(parts)}.")
    outcome = {"stdout": stdout, "stderr": stderr, "exit_code": exit_code, "result": result}
    if timed_out_after is not None:
        outcome["error"] = f"Action failed to complete in {timed_out_after} seconds"
        return "timeout", outcome
    good = exit_code == 0 and succeeded is not False
    return ("succeeded" if good else "failed"), outcome
