"""Playwright for the browser tests, one at a time: two of its synchronous loops cannot live in one process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"


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
