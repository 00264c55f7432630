# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast a run comes home, beside bare rsync, and what memory that takes.

    python tests/bench/gather.py [--megabytes 1000] [--pairs 5] [--folder DIR]

Starts an sshd of its own on loopback. Each pair is one `fetch_run` (every byte verified against
the manifest and made durable) and one `rsync -a` (neither), both uncompressed, in alternating
order. Prints seconds, the median ratio rsync/ours (1.0: as fast; higher is better) and the peak
memory of the collecting process above where it stood before. Exit 1 below the goal of 0.9.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "collections"), str(ROOT / "tests" / "unit")]

from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import transfer  # noqa: E402
from test_transfer import ADDRESS, RUN, Sshd, start_sshd  # noqa: E402

GOAL = 0.9
SMALL_FILES = 12  # what a run has beside its two large logs


def make_run(folder: Path, size: int) -> None:
    """A run of `size` bytes: two large logs of random bytes, a few small files, the manifest."""
    folder.mkdir(parents=True)
    sizes = {"mlperf_log_trace.json": size * 7 // 10, "mlperf_log_detail.txt": size * 3 // 10}
    sizes |= {f"small_{number}.txt": 2000 for number in range(SMALL_FILES)}
    files = {}
    for name, length in sizes.items():
        digest = hashlib.sha256()
        with (folder / name).open("wb") as file:
            for start in range(0, length, 1 << 24):
                chunk = os.urandom(min(1 << 24, length - start))
                digest.update(chunk)
                file.write(chunk)
        files[name] = {"sha256": digest.hexdigest(), "size": length}
    document = {"format": 1, "run_id": RUN, "files": files}
    (folder / "manifest.json").write_text(json.dumps(document))


def memory(field: str) -> int:
    """A figure of this process in kB: VmRSS (now) or VmHWM (peak)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise KeyError(field)


def collect(server: Sshd, run: Path, target: Path, answer: Connection) -> None:
    """In a process of its own: fetch the run, send (seconds, kB above the start)."""
    connection = server.connection()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = memory("VmRSS")
    started = time.monotonic()
    transfer.fetch_run(connection, str(run), target / "incoming", target / "final" / RUN)
    seconds = time.monotonic() - started
    answer.send((seconds, memory("VmHWM") - before))


def time_ours(server: Sshd, run: Path, target: Path) -> tuple[float, int]:
    """Seconds and kB of one collection."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=collect, args=(server, run, target, sender))
    process.start()
    sender.close()
    seconds, extra = receiver.recv()
    process.join()
    return seconds, extra


def time_rsync(server: Sshd, run: Path, target: Path) -> float:
    """Seconds of bare rsync with the same key, host and no compression."""
    shell = (
        f"ssh -F none -p {server.port} -i {server.folder}/user -o Compression=no "
        f"-o UserKnownHostsFile={server.folder}/known_hosts"
    )
    started = time.monotonic()
    command = ["rsync", "-a", "-e", shell, f"{ADDRESS}:{run}/", f"{target}/"]
    subprocess.run(command, check=True)
    return time.monotonic() - started


def measure(server: Sshd, folder: Path, pairs: int) -> tuple[list[float], list[int]]:
    """Ratios rsync/ours of interleaved pairs, and the memory of each collection in kB."""
    ratios, extras = [], []
    run = folder / "sut" / RUN
    for number in range(pairs):
        seconds = {}
        for way in ("ours", "rsync") if number % 2 else ("rsync", "ours"):
            target = folder / way
            target.mkdir()
            os.sync()
            if way == "ours":
                seconds[way], extra = time_ours(server, run, target)
            else:
                seconds[way] = time_rsync(server, run, target)
            shutil.rmtree(target)
        ratios.append(seconds["rsync"] / seconds["ours"])
        extras.append(extra)
        print(
            f"pair {number + 1}: ours {seconds['ours']:.2f} s, rsync {seconds['rsync']:.2f} s, "
            f"ratio {ratios[-1]:.2f}, memory +{extra / 1024:.1f} MiB",
            flush=True,
        )
    return ratios, extras


def main() -> int:
    """Run the comparison; 0 when the goal is met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the run")
    parser.add_argument("--pairs", type=int, default=5, help="how many interleaved pairs")
    parser.add_argument("--folder", help="where to work (needs three times the size)")
    options = parser.parse_args()
    if not shutil.which("rsync"):
        parser.error("rsync is not installed")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        (folder / "sshd").mkdir()
        make_run(folder / "sut" / RUN, options.megabytes * 1_000_000)
        server = start_sshd(folder / "sshd", "Subsystem sftp internal-sftp")
        try:
            ratios, extras = measure(server, folder, options.pairs)
        finally:
            server.process.terminate()
            server.process.wait()
    middle = statistics.median(ratios)
    print(
        f"{options.megabytes} MB, {options.pairs} pairs: ratio rsync/ours {middle:.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}), goal {GOAL}; "
        f"memory at most +{max(extras) / 1024:.1f} MiB"
    )
    return 0 if middle >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
