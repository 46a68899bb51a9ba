"""What the tests of the app share: the app as a person starts it, and what a person does with its page."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "assets" / "demo"
SCREENSHOTS = ROOT / "out" / "screenshots"
QUIET = ("disable-quic", "no-first-run", "disable-background-networking", "disable-component-update", "disable-sync")
SOFTWARE_WEBGL = ("use-angle=swiftshader", "enable-unsafe-swiftshader", "ignore-gpu-blocklist")
FLAGS = [f"--{flag}" for flag in ("no-sandbox", *QUIET, *SOFTWARE_WEBGL)]
PATIENCE = 120_000  # ms, for anything that the page is waited for; two cores may have other work
STARTING_S = 300  # torch, diffusers and gradio are imported


@dataclass(frozen=True)
class App:
    """A running app, the number of scans it shows, and its folder for passing files."""

    address: str
    scans: int
    home: Path

    @property
    def log(self) -> Path:
        """What it has printed."""
        return self.home / "log.txt"


@contextmanager
def running(data: Path, scans: int, home: Path) -> Iterator[App]:
    """app.py on a dataset; `home` is its folder for everything it writes."""
    log = home / "log.txt"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "HOME": str(log.parent), "GRADIO_TEMP_DIR": str(log.parent / "gradio")}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "app.py", "--data", str(data), "--port", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until_served(address, process, log)
        yield App(address, scans, log.parent)
    finally:
        process.terminate()
        process.wait(20)
    assert "Traceback" not in log.read_text()


def wait_until_served(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTING_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            with urlopen(address, timeout=20) as reply:
                assert reply.status == 200
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"the app did not answer: {log.read_text()}")


def leaves(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme not in ("data", "blob", "about", "file") and parts.hostname not in ("127.0.0.1", "localhost")


def choose(page, scan: int) -> None:
    page.click(f".app-thumb[data-scan='{scan}']")
    page.wait_for_function("scan => document.querySelector('.app-strip-scan').textContent === `Scan ${scan}`", arg=scan)


def decode(page) -> None:
    page.click("#app-decode")
    page.wait_for_selector(".app-screen[data-state=done]")


def save(page, folder: Path) -> Path:
    """Press the button and keep what the browser gets, under the name it gets it by."""
    with page.expect_download() as getting:
        page.click("#app-save")
    path = folder / getting.value.suggested_filename
    getting.value.save_as(path)
    page.wait_for_selector("#app-save:enabled")
    return path


def pick(page, dropdown: str, name: str) -> None:
    page.locator(f"{dropdown} input").click()
    page.get_by_role("option", name=name, exact=True).click()


@contextmanager
def held(page, wanted: Callable[[str], bool]) -> Iterator[Callable[[int], list]]:
    """Keep requests to the app back whose content is `wanted`; gives what waits for so many of them."""
    routes: list = []

    def hold(route) -> None:
        if wanted(route.request.post_data or ""):
            routes.append(route)
        else:
            route.continue_()

    def wait_for(count: int) -> list:
        for _ in range(600):
            if len(routes) >= count:
                break
            page.wait_for_timeout(100)
        return routes[:count]

    page.route("**/run/*", hold)
    yield wait_for
    page.unroute("**/run/*", hold)
