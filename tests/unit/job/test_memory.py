"""What LoadGen needs of memory is known before a run, not from the kernel's log after it."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils.job import memory

GB = 10**9


@pytest.mark.parametrize(
    ("scenario", "keys", "count"),
    [
        ("SingleStream", {"target_latency": 0.025}, 24_000_000),
        ("SingleStream", {"target_latency": 50, "min_duration": 2000}, 40),
        ("SingleStream", {"target_latency": 50, "min_duration": 2000, "min_query_count": 64}, 64),
        ("MultiStream", {"target_latency": 0.5}, 1_200_000),
        ("Offline", {"target_qps": 1000, "min_duration": 2000}, 2_200),
        ("Server", {"target_qps": 1000}, 600_000),
        ("Interactive", {"target_qps": 1000}, 600_000),
        ("SingleStream", {}, 0),
    ],
)
def test_queries_that_loadgen_makes(scenario: str, keys: dict[str, float], count: int) -> None:
    assert memory.queries(scenario, keys) == count


def test_a_run_that_cannot_fit_is_explained() -> None:
    keys = {"target_latency": 0.0131}
    said = memory.shortage("SingleStream", keys, 16 * GB)
    assert said is not None
    assert "45,801,526 queries" in said
    assert "26.8 GB; 16.0 GB" in said
    assert memory.shortage("SingleStream", keys, 32 * GB) is None
    assert memory.shortage("SingleStream", keys, None) is None


def test_single_stream_doubles_its_block() -> None:
    # measured: 4.0 million queries 1.4 GB, 4.3 and 6.0 million 2.4 GB; never judged as less
    sizes = [
        memory.needed("SingleStream", {"min_query_count": n}) for n in (4000000, 4300000, 6000000)
    ]
    assert sizes[0] == pytest.approx(1.4 * GB, rel=0.25)
    assert sizes[1] == sizes[2] == pytest.approx(2.35 * GB, rel=0.45)


def test_a_cgroup_limit_counts(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 4000 kB\n")
    assert memory.available(tmp_path) == 4000 * 1024
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    assert memory.available(tmp_path) == 4000 * 1024
    (group / "memory.max").write_text("2000000\n")
    (group / "memory.current").write_text("500000\n")
    assert memory.available(tmp_path) == 1_500_000


def test_this_machine_says_what_it_has() -> None:
    free = memory.available()
    assert free is not None
    assert free > 0
