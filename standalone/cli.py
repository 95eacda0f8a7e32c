"""The command line. It looks like ``st2`` to its user, and says that it is not StackStorm."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ioc_scan.errors import InputError, IocScanError, NotFoundError

from standalone import display
from standalone.arguments import read_parameters
from standalone.pack import Action, Pack, load_pack
from standalone.state import State

CHECKOUT = Path(__file__).resolve().parent.parent
NOTICE = (
    "This is not StackStorm: it runs this pack's own files in one process, for a first look, for tests\n"
    "and for one machine. See docs/standalone.md."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 fine, 1 an execution failed or a finding was made, 2 the command was refused."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["demo"]:
        from standalone.demo import main as demo

        return demo(arguments[1:])
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except IocScanError as error:
        print(f"ERROR: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"       {error.hint}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()
        return 1


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    here = Path.cwd()
    pack = here if (here / "pack.yaml").exists() else CHECKOUT
    common.add_argument("--pack", type=Path, default=pack, help="folder of the pack (default: %(default)s)")
    common.add_argument(
        "--state", type=Path, default=Path(".standalone"), help="what is remembered (default: %(default)s)"
    )
    common.add_argument(
        "--config", type=Path, help="the pack's config file (default: <state>/<pack>.yaml if it is there)"
    )
    common.add_argument("--clock-ahead", type=int, metavar="SECONDS", help="show what happens later")

    parser = argparse.ArgumentParser(prog="python -m standalone", description=NOTICE)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", parents=[common], help="run sensors, rules and timers; print executions")
    up.add_argument("--poll-interval", type=float, metavar="SECONDS", help="for every sensor")
    end = up.add_mutually_exclusive_group()
    end.add_argument("--once-idle", action="store_true", help="end when nothing has run for two polls")
    end.add_argument("--for", type=float, dest="seconds", metavar="SECONDS", help="end after that time")
    up.set_defaults(run=_up)

    run = commands.add_parser(
        "run", parents=[common], help="run one action and print its result", add_help=False
    )
    run.add_argument("ref", metavar="pack.action")
    run.add_argument("parameters", nargs="*", metavar="key=value", help="@key=FILE takes a file's text")
    run.add_argument("-j", "--json", action="store_true", help="print the execution as JSON")
    run.add_argument("-h", "--help", action="store_true", help="describe the action's parameters")
    run.add_argument("--user", default="st2admin", help="who asks (default: %(default)s)")
    run.add_argument("--api-user", help="who typed it in chat, as a chat bot would say")
    run.add_argument("--trace-tag")
    run.set_defaults(run=_run)

    execution = commands.add_parser("execution", help="look at past executions")
    looks = execution.add_subparsers(required=True, metavar="list|get")
    listing = looks.add_parser("list", parents=[common])
    listing.add_argument("-n", "--last", type=int, default=50, help="how many (default: %(default)s)")
    listing.add_argument("-j", "--json", action="store_true")
    listing.set_defaults(run=_list)
    get = looks.add_parser("get", parents=[common])
    get.add_argument("id")
    get.add_argument("-j", "--json", action="store_true")
    get.set_defaults(run=_get)

    webhook = commands.add_parser("webhook", parents=[common], help="post a JSON file to the pack's webhook")
    webhook.add_argument("file", type=argparse.FileType("rb"), help="- for standard input")
    webhook.add_argument("--url", help="which webhook, where the pack has several")
    webhook.add_argument("--trace-tag")
    webhook.set_defaults(run=_webhook)

    trigger = commands.add_parser("trigger", parents=[common], help="inject a trigger")
    trigger.add_argument("ref", metavar="pack.trigger")
    trigger.add_argument("payload", help="a JSON object")
    trigger.add_argument("--trace-tag")
    trigger.set_defaults(run=_trigger)

    timer = commands.add_parser("timer", parents=[common], help="let the timer of a rule fire now")
    timer.add_argument("rule")
    timer.set_defaults(run=_timer)

    key = commands.add_parser("key", parents=[common], help="values of the datastore")
    key.add_argument("operation", choices=["list", "get", "set", "delete"])
    key.add_argument("name", nargs="?", default="")
    key.add_argument("value", nargs="?")
    key.set_defaults(run=_key)

    lint = commands.add_parser("lint", help="find what StackStorm would refuse, or fail at without a word")
    lint.add_argument("directory", nargs="?", type=Path, default=pack, metavar="PACK_DIR")
    lint.add_argument("-j", "--json", action="store_true")
    lint.set_defaults(run=_lint)

    commands.add_parser("demo", help="the whole way on demo devices: see `make demo`")
    return parser


def _engine(options: argparse.Namespace, **more: Any) -> Any:
    from standalone.engine import Engine  # orquesta takes a second to load: not for --help or lists

    config = options.config
    if config is None:
        beside = options.state / f"{load_pack(options.pack).ref}.yaml"
        config = beside if beside.exists() else None
    return Engine(options.pack, config, options.state, clock_ahead_seconds=options.clock_ahead, **more)


def _up(options: argparse.Namespace) -> int:
    printer = display.LivePrinter(sys.stdout)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    print(NOTICE)
    with _engine(options, poll_interval_seconds=options.poll_interval, log=printer.log) as engine:
        engine.on_execution(printer.execution)
        engine.start_sensors()
        engine.start_timers()
        print(f"pack {engine.pack.ref} is up, state in {engine.state.folder}. Ctrl-C ends it.", flush=True)
        if options.once_idle:
            _until_idle(engine, stop, options.poll_interval)
        else:
            stop.wait(options.seconds)
    return 0


def _until_idle(engine: Any, stop: threading.Event, poll_interval: float | None) -> None:
    longest = max([5.0, *(float(sensor.get("poll_interval") or 0) for sensor in engine.pack.sensors)])
    quiet_seconds = 2 * (poll_interval or longest) + 2
    seen = -1
    while not stop.is_set():
        engine.wait_idle(None)
        count = len(engine.executions())
        if count == seen:
            return
        seen = count
        stop.wait(quiet_seconds)


def _run(options: argparse.Namespace) -> int:
    if options.help:
        print(_usage(_find_action(load_pack(options.pack), options.ref)))
        return 0
    with _engine(options, log=lambda message: print(message, file=sys.stderr)) as engine:
        action = _find_action(engine.pack, options.ref)
        if not options.json and sys.stderr.isatty():
            engine.on_execution(display.LivePrinter(sys.stderr).execution)
        given = read_parameters(action, options.parameters)
        execution = engine.run_action(
            options.ref, given, options.user, api_user=options.api_user, trace_tag=options.trace_tag
        )
        engine.wait_idle(None)  # what it injected runs to its end too: nobody else would run it
        _show(engine.state, execution, options.json)
    return 0 if execution["status"] == "succeeded" else 1


def _find_action(pack: Pack, ref: str) -> Action:
    if ref not in pack.actions:
        own = sorted(known for known in pack.actions if not known.startswith("core."))
        near = [known for known in own if ref.split(".")[-1][:4] in known]
        known = "Known: " + ", ".join(near or own)
        raise NotFoundError("action_unknown", f'Action "{ref}" is not found.', known)
    return pack.actions[ref]


def _usage(action: Action) -> str:
    lines = [action.description.strip(), ""]
    for wanted, title in ((True, "Required Parameters:"), (False, "Optional Parameters:")):
        shown = {
            name: schema
            for name, schema in action.own_parameters.items()
            if bool(schema.get("required")) is wanted and not schema.get("immutable") and schema.get("type")
        }
        if shown:
            lines.append(title)
        for name, schema in shown.items():
            lines += [f"    {name}", f"        {str(schema.get('description') or '').strip()}"]
            lines.append(f"        Type: {schema['type']}")
            if schema.get("enum"):
                lines.append(f"        Enum: {', '.join(str(one) for one in schema['enum'])}")
            if schema.get("default") is not None:
                lines.append(f"        Default: {schema['default']}")
    return "\n".join(lines)


def _show(state: State, execution: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(display.as_json(execution))
        return
    children = [one for one in state.executions() if one["parent"] == execution["id"]]
    print(display.block(execution, children, sys.stdout.isatty()))


def _list(options: argparse.Namespace) -> int:
    executions = State(options.state).executions(options.last)
    print(display.as_json(executions) if options.json else display.table(executions))
    return 0


def _get(options: argparse.Namespace) -> int:
    state = State(options.state)
    _show(state, state.execution(options.id), options.json)
    return 0


def _follow(options: argparse.Namespace, act: Any) -> int:
    """Do ``act(engine)``, print what it starts, and wait for its end."""
    printer = display.LivePrinter(sys.stdout)
    with _engine(options, log=printer.log) as engine:
        engine.on_execution(printer.execution)
        started = act(engine)
        engine.wait_idle(None)
        if not started:
            print("No rule started anything.")
        ends = [engine.state.execution(one["id"])["status"] for one in started]
    return 0 if all(status == "succeeded" for status in ends) else 1


def _json(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError("json_invalid", f"This is no JSON: {error}") from error


def _webhook(options: argparse.Namespace) -> int:
    headers = {"St2-Trace-Tag": options.trace_tag} if options.trace_tag else {}
    body = _json(options.file.read())
    return _follow(options, lambda engine: engine.post_webhook(options.url, body, headers))


def _trigger(options: argparse.Namespace) -> int:
    payload = _json(options.payload)
    return _follow(options, lambda e: e.dispatch(options.ref, payload, options.trace_tag, strict=True))


def _timer(options: argparse.Namespace) -> int:
    return _follow(options, lambda engine: engine.fire_timer(options.rule))


def _key(options: argparse.Namespace) -> int:
    values = State(options.state).values
    if options.operation == "list":
        for pair in values.list(options.name, 1000, 0):
            print(f"{pair.name} = {pair.value}")
        return 0
    if not options.name or (options.operation == "set" and options.value is None):
        raise InputError("argument_missing", "Give a name, and for set a value.")
    if options.operation == "set":
        values.set(options.name, options.value)
        return 0
    if options.operation == "delete":
        return 0 if values.delete(options.name) else 1
    value = values.get(options.name)
    if value is not None:
        print(value)
    return 0 if value is not None else 1


def _lint(options: argparse.Namespace) -> int:
    from standalone.lint import lint_pack

    findings = lint_pack(options.directory)
    if options.json:
        print(display.as_json([finding.as_dict() for finding in findings]))
    else:
        for finding in findings:
            print(finding)
        print(f"{len(findings)} finding(s) in {options.directory}")
    return 1 if findings else 0
