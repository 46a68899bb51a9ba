"""How long from starting app.py to its first page, and how long one decode takes.

Run ``python tests/benchmarks/cold_start.py``. It prints one line for each; the numbers in the README come from it.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).parents[2]


def cold_start(data: Path) -> float:
    """Seconds from the start of the process to the first page served."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.perf_counter()
    command = [sys.executable, str(ROOT / "app.py"), "--data", str(data), "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            try:
                with urlopen(f"http://127.0.0.1:{port}", timeout=60) as reply:
                    reply.read()
                return time.perf_counter() - start
            except OSError:
                time.sleep(0.05)
        raise SystemExit("the app ended before it served a page")
    finally:
        process.terminate()
        process.wait()


def decodes(data: Path, count: int) -> list[float]:
    """Seconds of each of `count` decodes with the checkpoint's own settings, the first of which reads the encoder."""
    sys.path.insert(0, str(ROOT))
    from mindviz import session

    workspace = session.open(data)
    subject = workspace.subjects[0]
    run = workspace.runs(subject)[0]
    seconds = []
    for index in range(count):
        start = time.perf_counter()
        workspace.decode(subject, run, index, workspace.decoder.default_settings)
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "assets" / "demo")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(f"load average before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    starts = [cold_start(options.data) for _ in range(options.repeats)]
    print("cold start, process to first page:", " ".join(f"{s:.1f} s" for s in starts))
    print("one decode:", " ".join(f"{s:.1f} s" for s in decodes(options.data, options.repeats)))


if __name__ == "__main__":
    main()
