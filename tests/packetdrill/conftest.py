"""Collects ``*.script`` files: each is a test, with super-segments whole, cut, and off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tcp_script import Run, Script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SENDING = {
    "whole": {"gso_max_size": 65_535},  # the device takes super-segments
    "cut": {"gso_max_size": 0},  # they are cut above the device
    "single": {"super_segments": False},
}


class ScriptItem(pytest.Item):
    """One play of one script."""

    def __init__(self, *, settings: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.settings = settings

    def runtest(self) -> None:
        Script(self.path.read_text(), self.path.name).run(**self.settings)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, self.name


class ScriptFile(pytest.File):
    """A script, to be played once for each way of sending."""

    def collect(self) -> Iterator[ScriptItem]:
        for name, settings in SENDING.items():
            yield ScriptItem.from_parent(
                self, name=f"{self.path.stem}[{name}]", settings=dict(settings)
            )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.suffix == ".script":
        return ScriptFile.from_parent(parent, path=file_path)
    return None


@pytest.fixture(params=SENDING)
def sending(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(SENDING[request.param])


@pytest.fixture
def play(request: pytest.FixtureRequest, sending: dict[str, Any]) -> Callable[..., Run]:
    """Play a script; without text, the one in the test's docstring."""

    def play(text: str | None = None, **settings: Any) -> Run:
        text = text if text is not None else request.function.__doc__
        return Script(text or "", request.node.name).run(**{**sending, **settings})

    return play
