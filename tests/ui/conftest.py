"""Playwright for the browser tests, one at a time: two of its synchronous loops cannot live in one process."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.app_page import DEMO, FLAGS, PATIENCE, SCREENSHOTS, App, leaves, running

LONGEST_S = 900  # a test with the app that is started for it, on two cores that have other work
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.timeout(LONGEST_S))


@pytest.fixture(scope="module")
def playwright() -> Iterator[object]:
    """Playwright, once it is sure that there is a browser to drive; without one a skip, in CI a failure."""
    if not Path(CHROMIUM).exists():
        told = f"no browser at {CHROMIUM} (Debian: apt-get install chromium)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(told)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser."""
    return CHROMIUM


@pytest.fixture(scope="module")
def browser(playwright, chromium) -> Iterator[object]:
    launched = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
    yield launched
    launched.close()


@pytest.fixture(scope="session")
def apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path, int], App]]:
    """Starts app.py on a dataset, once for all files of tests: that takes as long as several of them."""
    started: dict[Path, App] = {}
    with ExitStack() as running_apps:

        def start(data: Path, scans: int) -> App:
            if data not in started:
                home = tmp_path_factory.mktemp("app")
                started[data] = running_apps.enter_context(running(data, scans, home))
            return started[data]

        yield start


@pytest.fixture(scope="module", params=["tiny", pytest.param("demo", marks=pytest.mark.slow)])
def app(request: pytest.FixtureRequest, apps: Callable[[Path, int], App]) -> Iterator[App]:
    """app.py as a person starts it, on the tiny dataset and on the shipped one."""
    if request.param == "tiny":
        request.getfixturevalue("tiny_checkpoint")
        data, scans = request.getfixturevalue("tiny_dataset"), 12
    else:
        data, scans = DEMO, 240
        if not DEMO.is_dir():
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{DEMO} is not there")
    served = apps(data, scans)
    yield served
    assert "Traceback" not in served.log.read_text()


@pytest.fixture
def page(browser, app, request) -> Iterator[object]:
    """A page at the app's address; requests to other hosts and errors in the console fail the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 720}, color_scheme="dark")
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    outside, errors = [], []
    context.on("request", lambda r: outside.append(r.url) if leaves(r.url) else None)
    context.on("weberror", lambda e: errors.append(str(e.error)))
    page.goto(app.address, wait_until="domcontentloaded")
    page.wait_for_selector(".app-thumb")
    yield page
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(SCREENSHOTS / f"{re.sub(r'[^a-z0-9]+', '-', request.node.name)}.png"))
    context.close()
    assert outside == []
    assert errors == []
