"""What every use case needs: configuration, clock, store, device managers, sources. Opened on first use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ioc_scan.clock import Clock, system_clock
from ioc_scan.config import load_config, pack_folder
from ioc_scan.detection.sources import Source, build_source
from ioc_scan.devices import DeviceManager, build_managers
from ioc_scan.errors import ConfigError, InputError, NotFoundError
from ioc_scan.store import Store
from ioc_scan.text import printable

#: Set where a store may lie in a temporary folder: demos and tests, never an installation.
ALLOW_TEMPORARY_VARIABLE = "IOC_SCAN_ALLOW_TEMPORARY_STORE"
STOP_FILE = "STOP"
#: The flag in the store that the action kill_switch sets, seen by every host.
STOP_FLAG = "responses_stopped"


@dataclass
class Context:
    """One use case's surroundings. Not shared between threads."""

    config: dict[str, Any]
    clock: Clock = system_clock
    _opened: list[Store] = field(default_factory=list)
    _sources: dict[str, Source] = field(default_factory=dict)

    @cached_property
    def folder(self) -> Path:
        """The store's folder: database, STOP file, reports, exports."""
        return Path(self.config["store"]["folder"])

    @cached_property
    def store(self) -> Store:
        """The database, migrated. Raises StoreError with what to do."""
        store = Store.open(
            self.store_url(),
            clock=self.clock,
            allow_temporary=bool(os.environ.get(ALLOW_TEMPORARY_VARIABLE)),
            forbidden_folder=pack_folder(),
        )
        self._opened.append(store)
        return store

    def store_url(self) -> str:
        """The configured database URL. Raises ConfigError where its file cannot be read."""
        settings = self.config["store"]
        if settings.get("url_file"):
            return read_secret_file(settings["url_file"], "store.url_file")
        return str(settings.get("url") or f"sqlite:///{self.folder / 'ioc_scan.db'}")

    @cached_property
    def managers(self) -> dict[str, DeviceManager]:
        """Device managers by name."""
        return build_managers(self.config["device_managers"], clock=self.clock)

    def manager(self, name: str) -> DeviceManager:
        try:
            return self.managers[name]
        except KeyError:
            raise NotFoundError(
                "manager_unknown",
                f"there is no device manager named {printable(name, 64)!r} in the configuration",
                "Its tasks stay until it is configured again, or delete them with ioc_scan.delete_task.",
            ) from None

    def source_entry(self, name: str) -> dict[str, Any]:
        """The configuration of one source. Raises NotFoundError ``source_unknown``."""
        for entry in self.config["sources"]:
            if entry["name"] == name:
                return dict(entry)
        raise NotFoundError(
            "source_unknown",
            f"there is no source named {printable(name, 64)!r} in the configuration",
            "Name it under `sources`, then: st2ctl reload --register-configs",
        )

    def source(self, name: str) -> Source:
        """A source that can be polled. One for the whole use case, so that its rate limit holds in it.

        Raises InputError for one that is only pushed to.
        """
        entry = self.source_entry(name)
        if entry["type"] == "webhook":
            raise InputError(
                "source_not_polled", f"source {name} takes what is pushed to it and cannot be fetched from"
            )
        if name not in self._sources:
            self._sources[name] = build_source(entry)
        return self._sources[name]

    @property
    def stopped(self) -> bool:
        """Whether the kill switch is on, by file or by action."""
        if self.stopped_by_file:
            return True
        with self.store.reading() as tx:
            return bool(tx.flags.get(STOP_FLAG, False))

    @property
    def stopped_by_file(self) -> bool:
        """Whether the file STOP is in the store's folder, or cannot be looked for."""
        try:
            os.lstat(self.folder / STOP_FILE)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        for store in self._opened:
            store.close()
        self._opened.clear()


@contextmanager
def open_context(config: dict[str, Any] | None, clock: Clock = system_clock) -> Iterator[Context]:
    """A context over checked configuration. Raises ConfigError; closes what it opened."""
    context = Context(load_config(config), clock)
    try:
        yield context
    finally:
        context.close()


def read_secret_file(path: str, where: str) -> str:
    """The first line of a file that holds a secret. Raises ConfigError ``secret_file_*``, never its content."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigError(
            "secret_file_unreadable",
            f"{where}: {printable(path)}: {reason}",
            "The file must exist and be readable by the user that runs actions.",
        ) from None
    value = text.strip()
    if not value or "\n" in value:
        raise ConfigError("secret_file_empty", f"{where}: {printable(path)} must hold exactly one line")
    return value
