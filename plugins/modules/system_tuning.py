#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: system_tuning
short_description: Set what changes a machine's speed, and put it back
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Sets the CPU governor, huge pages, NUMA balancing, the NMI watchdog, idle states and the modes
    of NVIDIA devices for a measurement. What it found first is kept in a file on the host, and
    O(state=restored) puts exactly that back.
  - Values are the kernel's own words, or those of C(nvidia-smi). V(keep) leaves a setting alone.
  - What a host lacks, as a virtual machine often has no CPU frequencies, is reported as not
    available. It is a failure only for the settings that O(require) names.
  - Nothing outlives a reboot. While a job of benchfleet's measures, nothing is changed.
options:
  state:
    description:
      - V(applied) sets, V(restored) puts back what was found, V(reported) only reads.
      - Without root V(applied) and V(restored) only read too, and say what differs.
    type: str
    choices: [applied, restored, reported]
    default: applied
  cpu_governor:
    description: Governor of all CPUs.
    type: str
    default: keep
  cpu_energy_preference:
    description: Energy performance preference of all CPUs.
    type: str
    default: keep
  transparent_hugepages:
    description: When the kernel uses huge pages.
    type: str
    default: keep
  transparent_hugepages_defrag:
    description: When the kernel makes room for huge pages.
    type: str
    default: keep
  numa_balancing:
    description: Whether the kernel moves pages between NUMA nodes, V(0) or V(1).
    type: str
    default: keep
  nmi_watchdog:
    description: Whether a hardware counter watches for hung CPUs, V(0) or V(1).
    type: str
    default: keep
  aslr:
    description: Randomisation of addresses, V(0) to V(2). V(0) makes the host easier to attack.
    type: str
    default: keep
  cpu_idle_states_off:
    description: Numbers of the idle states that no CPU may enter, as C(cpupower idle-set -d) takes.
    type: list
    elements: int
    default: []
  nvidia_persistence_mode:
    description: V(Enabled) or V(Disabled).
    type: str
    default: keep
  nvidia_power_limit:
    description: Power limit of each device, in watts.
    type: str
    default: keep
  nvidia_graphics_clocks:
    description: >-
      Locked graphics clocks in MHz, one value or V(lowest,highest). The driver does not tell which
      clocks are locked: putting back means unlocking.
    type: str
    default: keep
  nvidia_memory_clocks:
    description: Locked memory clocks, like O(nvidia_graphics_clocks).
    type: str
    default: keep
  drop_caches:
    description: Empty the page cache each time settings are applied; always a change.
    type: bool
    default: false
  require:
    description: Settings that must have the wanted value; another one is a failure.
    type: list
    elements: str
    default: []
  folder:
    description: Folder on the host's own disk for the file of what was found, and for the report.
    type: path
    default: /var/lib/benchfleet
attributes:
  check_mode:
    description: Computed from what the host has.
    support: full
  diff_mode:
    description: Shows each target that differs.
    support: full
"""

EXAMPLES = r"""
- name: Set the machine for a measurement
  benchfleet.mlperf.system_tuning:
    cpu_governor: performance
    numa_balancing: "0"
    require: [cpu_governor]
  become: true

- name: Put back what was found
  benchfleet.mlperf.system_tuning:
    state: restored
  become: true
"""

RETURN = r"""
settings:
  description: >-
    Each setting with its C(value), the C(wanted) one, whether it is C(available), and C(why) not.
    The same is in C(<folder>/tuning_report.json).
  returned: always
  type: dict
differing:
  description: What is not as wanted, one line for each setting.
  returned: always
  type: list
  elements: str
message:
  description: What was done, in one line.
  returned: always
  type: str
ansible_facts:
  description: The settings as the fact C(benchfleet_tuning).
  returned: always
  type: dict
  contains:
    benchfleet_tuning:
      description: RV(settings).
      type: dict
"""

import json
import os
from pathlib import Path
from typing import Any, Sequence

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import tuning
from ..module_utils.host_store import HostError
from ..module_utils.job import lock

STATE = "tuning_found.json"
REPORT = "tuning_report.json"


def main() -> None:
    """Apply, restore or report."""
    words = [name for name in tuning.SETTINGS if name != tuning.IDLE_STATES]
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": ["applied", "restored", "reported"],
                "default": "applied",
            },
            **{name: {"type": "str", "default": tuning.KEEP} for name in words},
            tuning.IDLE_STATES: {"type": "list", "elements": "int", "default": []},
            "drop_caches": {"type": "bool", "default": False},
            "require": {"type": "list", "elements": "str", "default": []},
            "folder": {"type": "path", "default": "/var/lib/benchfleet"},
        },
        supports_check_mode=True,
    )
    unknown = sorted(set(module.params["require"]) - set(tuning.SETTINGS))
    if unknown:
        module.fail_json(
            msg=f"require: no setting {', '.join(unknown)}; there are {', '.join(tuning.SETTINGS)}."
        )
    try:
        result = Work(module).do(module.params["state"])
    except HostError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or 'the host'}: {error.strerror}.")
    if result.pop("failed_lines"):
        module.fail_json(msg=result["message"], **result)
    module.exit_json(**result)


class Work:
    """One call of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self._params = module.params
        self._smi = module.get_bin_path("nvidia-smi")
        self._module = module
        self._only_reads = module.check_mode or os.geteuid() != 0
        self._check = module.check_mode
        folder = Path(module.params["folder"])
        self._path, self._report_path = str(folder / STATE), folder / REPORT
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        self._saved = tuning.Saved.load(self._path, boot)
        gpus = tuning.Gpus(self._run, self._saved.locked_clocks)
        self._machine = tuning.Machine(tuning.Files(), gpus)

    def do(self, state: str) -> dict[str, Any]:
        """Return the module's result. Raises HostError, OSError."""
        if state == "restored":
            return self._restore()
        items = self._look()
        todo = [item for item in items if item.differs]
        act = state == "applied"
        refused: list[tuning.Item] = []
        if act and todo and not self._only_reads:
            self._nobody_measures()
            done = tuning.apply(self._machine, items, self._saved, self._path)
            refused = [item for item in done if item.why]
            items = self._look()
        settings = tuning.report(items)
        lines = [f"/{i.target}: {i.why}" for i in refused]
        if act:
            lines += tuning.unmet(settings, () if self._check else self._params["require"])
        would = act and (self._check or not self._only_reads)
        changed = would and len(todo) > len(refused)
        changed |= would and self._write_report(settings)
        changed |= would and self._drop_caches()
        return self._result(changed, settings, todo, lines)

    def _restore(self) -> dict[str, Any]:
        found = tuning.to_restore(self._machine, self._saved)
        changed = Path(self._path).exists() and (self._check or not self._only_reads)
        items = found
        if changed and not self._only_reads:
            self._nobody_measures()
            items = tuning.restore(self._machine, self._saved, self._path)
            self._report_path.unlink(missing_ok=True)
        failed = [f"/{item.target}: {item.why}" for item in items if item.why]
        todo = [item for item in found if item.differs]
        return self._result(changed, tuning.report(items), todo, failed)

    def _look(self) -> list[tuning.Item]:
        wanted = {n: self._params[n] for n in tuning.SETTINGS if n != tuning.IDLE_STATES}
        return self._machine.look(wanted, self._params[tuning.IDLE_STATES])

    def _run(self, argv: Sequence[str]) -> tuple[int | None, str, str]:
        """Run nvidia-smi, the first word of argv; a host without it has no such settings."""
        if not self._smi:
            return None, "", ""
        code, out, err = self._module.run_command([self._smi, *argv[1:]])
        return code, out, err

    def _nobody_measures(self) -> None:
        holder = lock.holder()
        if holder is not None:
            raise HostError(
                f"{holder['user']} measures on this host (process {holder['pid']}); nothing was"
                " changed. Wait until it has ended."
            )

    def _write_report(self, settings: dict[str, Any]) -> bool:
        """Write the report if it says something new; return whether it does."""
        text = json.dumps(settings, indent=1, sort_keys=True) + "\n"
        try:
            if self._report_path.read_text(encoding="utf-8") == text:
                return False
        except OSError:
            pass
        if not self._only_reads:
            self._report_path.parent.mkdir(parents=True, exist_ok=True)
            self._report_path.write_text(text, encoding="utf-8")
            self._report_path.chmod(0o644)
        return True

    def _drop_caches(self) -> bool:
        if not self._params["drop_caches"]:
            return False
        if not self._only_reads:
            os.sync()
            Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="utf-8")
        return True

    def _result(
        self,
        changed: bool,
        settings: dict[str, Any],
        todo: Sequence[tuning.Item],
        failed: list[str],
    ) -> dict[str, Any]:
        differing = tuning.differing(settings)
        return {
            "changed": changed,
            "settings": settings,
            "differing": differing,
            "message": "; ".join(failed or differing) or "every setting is as wanted",
            "failed_lines": failed,
            "ansible_facts": {"benchfleet_tuning": settings},
            "diff": {
                "before": "".join(f"{i.target} = {i.now}\n" for i in todo),
                "after": "".join(f"{i.target} = {i.wanted}\n" for i in todo),
            },
        }


if __name__ == "__main__":
    main()
