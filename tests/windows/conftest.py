"""One Windows for all tests of a session: it takes ten seconds to make."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.windows.rig import VERSIONS, Windows, missing


@pytest.fixture(scope="session")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Windows]:
    """Skips where Wine or the embeddable Python cannot be had."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with Windows(tmp_path_factory.mktemp("windows")) as made:
        yield made


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """The Pythons of Windows devices: the oldest and a current one."""
    return str(request.param)
