# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the vendors' own tools say of a host's accelerators, and whether they answer at all."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any, Dict

ANSWER_TIMEOUT_S = 20.0
NVIDIA_SMI = (
    "nvidia-smi",
    "--query-gpu=index,name,driver_version,memory.total",
    "--format=csv,noheader",
)
AMD_SMI = ("amd-smi", "static", "--asic", "--vram", "--driver", "--json")
ROCM_SMI = (
    *("rocm-smi", "--showmeminfo", "vram", "--showproductname", "--showdriverversion"),
    "--json",
)
_UNITS = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "MIB": 1 << 20, "GB": 1 << 30, "GIB": 1 << 30}

Accelerator = Dict[str, Any]
Answer = Dict[str, Any]


def read(vendor: str) -> Answer:
    """Ask the tool of a vendor ('nvidia', 'amdgpu'): {"driver", "devices", "trouble"}.

    `devices` are {"index", "name", "bytes" (None: the tool does not say)}; `trouble` is what was
    wrong, in the tool's own words, None when it answered.
    """
    if vendor == "nvidia":
        return _ask([(NVIDIA_SMI, nvidia)])
    return _ask([(AMD_SMI, amd), (ROCM_SMI, rocm)])


def nvidia(text: str) -> tuple[str, list[Accelerator]]:
    """Read nvidia-smi's CSV: (driver version, devices). Raises ValueError when it is none."""
    driver, devices = "", []
    for line in text.strip().splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) < 4 or not fields[0].isdigit():
            raise ValueError(line.strip() or "an empty answer")
        driver = fields[-2]
        name = ", ".join(fields[1:-2])
        devices.append({"index": fields[0], "name": name, "bytes": amount(fields[-1])})
    if not devices:
        raise ValueError("an empty answer")
    return driver, devices


def amd(text: str) -> tuple[str, list[Accelerator]]:
    """Read `amd-smi static --json`, whose list of devices newer versions put in an object."""
    value = json.loads(_json_part(text))
    entries = value.get("gpu_data", [value]) if isinstance(value, dict) else value
    driver, devices = "", []
    for entry in entries:
        size = entry.get("vram", {}).get("size")
        driver = str(entry.get("driver", {}).get("version", driver))
        devices.append(
            {
                "index": str(entry["gpu"]),
                "name": str(entry.get("asic", {}).get("market_name", "")),
                "bytes": amount(f"{size['value']} {size['unit']}" if size else ""),
            }
        )
    return driver, devices


def rocm(text: str) -> tuple[str, list[Accelerator]]:
    """Read `rocm-smi --json`: one object for each card, one for the system."""
    value = json.loads(_json_part(text))
    driver = str(value.get("system", {}).get("Driver version", ""))
    devices = []
    for card, facts in value.items():
        found = re.match(r"card(\d+)$", card)
        if found:
            name = facts.get("Card Series") or facts.get("Card series") or ""
            size = amount(f"{facts.get('VRAM Total Memory (B)', '')} B")
            devices.append({"index": found.group(1), "name": name, "bytes": size})
    return driver, devices


def amount(text: str) -> int | None:
    """Return bytes of '40960 MiB', None for what a tool says of memory that is the host's."""
    found = re.match(r"(\d+)\s*([A-Za-z]+)$", text.strip())
    unit = _UNITS.get(found.group(2).upper()) if found else None
    return int(found.group(1)) * unit if found and unit else None


def _json_part(text: str) -> str:
    """Leave out what the tools print before their JSON, such as a warning of low power."""
    start = min((i for i in (text.find("{"), text.find("[")) if i >= 0), default=0)
    return text[start:]


def _ask(ways: list[tuple[tuple[str, ...], Any]]) -> Answer:
    trouble = ""
    for argv, parse in ways:
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=ANSWER_TIMEOUT_S,
                check=False,
            )
            text = done.stdout.decode("utf-8", "replace")
            if done.returncode == 0:
                driver, devices = parse(text)
                return {"driver": driver, "devices": devices, "trouble": None}
            said = (text + done.stderr.decode("utf-8", "replace")).strip().splitlines()
            trouble = f"{argv[0]}: {said[0] if said else f'exit code {done.returncode}'}"
        except FileNotFoundError:
            trouble = trouble or f"{argv[0]} is not there"
        except subprocess.TimeoutExpired:
            trouble = f"{argv[0]} did not answer within {ANSWER_TIMEOUT_S:.0f} s"
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as e:
            trouble = f"{argv[0]} answered what cannot be read: {e}"
    return {"driver": "", "devices": [], "trouble": trouble[:300]}
