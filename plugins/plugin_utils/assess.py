# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge one run directory: valid, invalid, failed, lost or refused, with the evidence.

Success is parsed, never assumed: process facts, what the harness printed, LoadGen's own verdict in
both logs, its errors, version and seeds, sample counts and accuracy. The official checker ignores
LoadGen's verdict and, in performance logs, its errors; so what counts as valid is decided here.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypedDict

from .accuracy import accuracy_hash, parse_accuracy
from .loadgen_log import (
    DetailLog,
    LogError,
    SummaryLog,
    clean,
    finite,
    open_regular,
    read_detail,
    read_summary,
    read_text,
    scenario_name,
)
from .published_figure import Metric, MetricError, metric

OUTCOMES = ("valid", "invalid", "failed", "lost", "refused")
CONSOLE, DETAIL, SUMMARY = "console.log", "mlperf_log_detail.txt", "mlperf_log_summary.txt"
ACCURACY_LOG, ACCURACY_TEXT = "mlperf_log_accuracy.json", "accuracy.txt"
ACCURACY_SAID = "accuracy.log"
CALIBRATE = "calibrate again with -e recalibrate=true"

_MAX_JSON = 16 * 1024 * 1024
_CONSOLE_PART = 32 * 1024 * 1024
"""Bytes looked at from the beginning and from the end of console.log."""
_MAX_REASONS = 20
_CHUNK = 1024 * 1024
_TRACEBACK = "Traceback (most recent call last)"
_THREAD_FAILED = re.compile(r"thread: failed")
_ENTRY = b'"qsl_idx"'
_ENDED_WELL = re.compile(r"\[Inferior 1 \(process \d+\) exited normally\]")


class AccuracyRule(TypedDict, total=False):
    """A bound on one metric, in the unit that accuracy.txt prints: target <= value <= upper."""

    metric: str
    target: float | None
    upper: float


class AccuracyRules(TypedDict, total=False):
    """What a run is held to; each part is optional.

    ``checker_name`` is the benchmark's name in the official checker (the cell's benchmark when
    absent), ``seeds`` has qsl_rng_seed, sample_index_rng_seed and schedule_rng_seed.
    """

    checker_name: str
    loadgen_version: str
    seeds: dict[str, int]
    accuracy: list[AccuracyRule]


@dataclass(frozen=True)
class Reason:
    """Why a run is not valid: what, where (path in the run directory[:line]) and what to do."""

    what: str
    where: str
    do: str


@dataclass(frozen=True)
class Assessment:
    """The verdict on one run and the figures it measured.

    ``metric_*`` is the published performance figure, ``percentiles_ns`` are ns by series (latency,
    ttft, tpot), ``accuracy`` is as printed by metric, ``samples`` are counts (total, performance,
    queries, accuracy), ``elapsed_s`` the seconds the harness ran.
    """

    outcome: str
    run_id: str | None = None
    scenario: str | None = None
    mode: str | None = None
    submittable: bool = False
    reasons: tuple[Reason, ...] = ()
    warnings: tuple[str, ...] = ()
    metric_name: str | None = None
    metric_value: float | None = None
    metric_unit: str | None = None
    metric_field: str | None = None
    accuracy: dict[str, float] = field(default_factory=dict)
    accuracy_hash: str | None = None
    percentiles_ns: dict[str, dict[str, int]] = field(default_factory=dict)
    loadgen_version: str | None = None
    validity: str | None = None
    num_errors: int | None = None
    early_stopping: tuple[str, ...] = ()
    samples: dict[str, int] = field(default_factory=dict)
    elapsed_s: float | None = None

    def to_json(self) -> dict[str, object]:
        """Plain lists, dicts, numbers and text, ready for ``json.dumps``."""
        plain: dict[str, object] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    @classmethod
    def from_json(cls, data: str | Mapping[str, object]) -> Assessment:
        """The inverse of ``to_json`` (text or its decoded form); ValueError when it is none."""
        plain = json.loads(data) if isinstance(data, str) else dict(data)
        if not isinstance(plain, dict) or plain.get("outcome") not in OUTCOMES:
            raise ValueError("not an assessment: no known outcome")
        known = {item.name for item in dataclasses.fields(cls)}
        values = {key: value for key, value in plain.items() if key in known}
        try:
            values["reasons"] = tuple(Reason(**item) for item in values.get("reasons", ()))
            for name in ("warnings", "early_stopping"):
                values[name] = tuple(values.get(name, ()))
        except TypeError as error:
            raise ValueError(f"not an assessment: {error}") from None
        return cls(**values)


@dataclass
class _Case:
    """A run under judgement: what was read of it and what was found."""

    run_dir: Path
    rules: Mapping[str, object]
    run: Mapping[str, object] = field(default_factory=dict)
    cell: Mapping[str, object] = field(default_factory=dict)
    result: Mapping[str, object] = field(default_factory=dict)
    detail: DetailLog | None = None
    summary: SummaryLog | None = None
    outcome: str = "valid"
    reasons: list[Reason] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    metric: Metric | None = None
    accuracy: dict[str, float] = field(default_factory=dict)
    accuracy_hash: str | None = None
    samples: dict[str, int] = field(default_factory=dict)

    @property
    def mode(self) -> str:
        return _text(self.cell.get("mode")) or "performance"

    @property
    def scenario(self) -> str | None:
        return scenario_name(_text(self.cell.get("scenario")))

    def add(self, outcome: str, what: str, where: str, do: str) -> None:
        """Record a reason; the worst outcome so far stands."""
        if OUTCOMES.index(outcome) > OUTCOMES.index(self.outcome):
            self.outcome = outcome
        if len(self.reasons) < _MAX_REASONS:
            self.reasons.append(Reason(clean(what, 500), where, do))

    def unreadable(self, error: LogError, do: str) -> None:
        self.add("failed", f"{error.path} {error.reason}", _at(error.path, error.line), do)

    def conclude(self) -> Assessment:
        detail, summary = self.detail, self.summary
        errors = [detail.error_count] if detail else []
        if summary and summary.num_errors is not None:
            errors.append(summary.num_errors)
        num_errors = max(errors) if errors else None
        wanted = self.cell.get("submittable") is True and self.mode != "calibration"
        return Assessment(
            outcome=self.outcome,
            run_id=_text(self.run.get("run_id")),
            scenario=self.scenario,
            mode=self.mode,
            submittable=wanted and self.outcome == "valid" and not num_errors,
            reasons=tuple(self.reasons),
            warnings=tuple(self.warnings),
            metric_name=self.metric.name if self.metric else None,
            metric_value=self.metric.value if self.metric else None,
            metric_unit=self.metric.unit if self.metric else None,
            metric_field=self.metric.field if self.metric else None,
            accuracy=self.accuracy,
            accuracy_hash=self.accuracy_hash,
            percentiles_ns=summary.percentiles if summary else {},
            loadgen_version=detail.text("loadgen_version") if detail else None,
            validity=summary.validity if summary else None,
            num_errors=num_errors,
            early_stopping=tuple(summary.early_stopping) if summary else (),
            samples=self.samples,
            elapsed_s=finite(self.result.get("elapsed_s")),
        )


def _text(value: object) -> str | None:
    return clean(value) if isinstance(value, str) and value else None


def _at(name: str, line: int) -> str:
    return f"{name}:{line}" if line else name


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _read_object(run_dir: Path, name: str) -> dict[str, object]:
    """The JSON object in a file of the run; LogError when it is missing, a link, or no object."""
    try:
        value = json.loads(read_text(run_dir / name, _MAX_JSON))
    except (ValueError, RecursionError):
        raise LogError(name, 0, "is not whole JSON") from None
    if not isinstance(value, dict):
        raise LogError(name, 0, "is not a JSON object")
    return value


# --- process facts -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Console:
    """What console.log tells: the telling line (of the last traceback, or the last one), where the
    first traceback and the first failed thread stand (line number and text), and whether a debugger
    saw the harness end with exit code 0."""

    telling: str = ""
    telling_line: int = 0
    traceback: tuple[int, str] | None = None
    thread: tuple[int, str] | None = None
    ended_well: bool = False


def console_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a console; a carriage return ends one too, long ones come in pieces.

    Of a console over twice ``_CONSOLE_PART`` bytes the middle is left out; lines after it have the
    number 0. LogError when it is missing or a link.
    """
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size <= 2 * _CONSOLE_PART:
            yield from _numbered(stream, size, 1)
            return
        yield from _numbered(stream, _CONSOLE_PART, 1)
        stream.seek(size - _CONSOLE_PART)
        yield from _numbered(stream, _CONSOLE_PART, 0)


def _numbered(stream: BinaryIO, budget: int, number: int) -> Iterator[tuple[int, str]]:
    """Lines of at most ``budget`` bytes of a stream, counted from ``number`` unless that is 0."""
    while budget > 0 and (piece := stream.readline(min(65536, budget))):
        budget -= len(piece)
        for part in piece.decode("utf-8", "replace").split("\r"):
            yield number, part.rstrip("\n")
        number += bool(number) and piece.endswith(b"\n")


def read_console(lines: Iterable[tuple[int, str]]) -> Console:
    """Find the lines of a console (number, text) that tell why a harness failed."""
    last, final = (0, ""), (0, "")
    first: int | None = None
    thread: tuple[int, str] | None = None
    prefix: str | None = None
    ended_well = False
    for number, line in lines:
        if not line.strip():
            continue
        last = number, line
        ended_well = ended_well or _ENDED_WELL.fullmatch(line) is not None
        if _TRACEBACK in line:
            prefix = line[: line.index(_TRACEBACK)]
            first = number if first is None else first
            final = number, line
        elif prefix is not None:
            body = line.removeprefix(prefix)
            final = number, body
            if not body[:1].isspace():
                prefix = None
        if thread is None and _THREAD_FAILED.search(line):
            thread = number, clean(line)
    telling = last if first is None else final
    return Console(
        telling=clean(telling[1], 450),
        telling_line=telling[0],
        traceback=None if first is None else (first, clean(final[1])),
        thread=thread,
        ended_well=ended_well,
    )


def _console_name(case: _Case) -> str:
    """Where the harness last printed: a calibration's trials have folders of their own."""
    trials = [p.name for p in case.run_dir.glob("trial_*") if not p.is_symlink() and p.is_dir()]
    last = max(trials, key=lambda name: (len(name), name), default="")
    return f"{last}/{CONSOLE}" if case.mode == "calibration" and last else CONSOLE


def _console(case: _Case) -> Console:
    try:
        return read_console(console_lines(case.run_dir / _console_name(case)))
    except LogError as error:
        case.warnings.append(f"{error.path} {error.reason}")
        return Console()


def _end(case: _Case) -> tuple[str, str, str] | None:
    """How the process ended, as (outcome, what, do); None for a clean exit."""
    end, reason = case.result.get("end"), _text(case.result.get("reason"))
    why = f": {reason}" if reason else ""
    if end == "refused":
        return "refused", f"the run was refused{why}", "remove what the reason names and run again"
    if end == "lost":
        return "lost", f"the run was lost{why}", "run again: the host went away during the run"
    if end == "timeout":
        limit = finite(case.run.get("time_limit_s"))
        text = f" of {limit:g} s" if limit is not None else ""
        do = f"give the run a longer time limit, or {CALIBRATE} if its target was far off"
        return "failed", f"the harness did not finish within its time limit{text}{why}", do
    if end == "signalled":
        name = _signal_name(case.result.get("signal"))
        do = "look in the kernel's log for an out-of-memory kill, otherwise in console.log"
        return "failed", f"the harness was ended by {name}{why}", do
    if end == "exited":
        code = _integer(case.result.get("exit_code"))
        if code == 0:
            return None
        text = "an unknown code" if code is None else f"code {code}"
        do = "read console.log, then run launch.sh by hand to see it again"
        return "failed", f"the harness exited with {text}{why}", do
    do = "correct what the reason names and run again"
    if _failed_later(case):
        return "failed", f"the run failed although the harness exited with 0{why}", do
    return "failed", f"the harness could not be run{why}", do


def _failed_later(case: _Case) -> bool:
    """Whether the harness itself ended well, and what came after it did not."""
    return case.result.get("end") == "error" and _integer(case.result.get("exit_code")) == 0


def _signal_name(value: object) -> str:
    number = _integer(value)
    if number is None:
        return _text(value) or "a signal"
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _prefix(case: _Case) -> str:
    """Name of the program that started the harness; empty without one."""
    prefix = case.run.get("prefix")
    return Path(str(prefix[0])).name if isinstance(prefix, list) and prefix else ""


def _debugger(case: _Case) -> bool:
    """Whether exit code 1 is that of gdb's last command: `bt` finds no stack after a clean end."""
    code = case.result.get("end") == "exited" and _integer(case.result.get("exit_code"))
    return code == 1 and _prefix(case) == "gdb"


def _judge_process(case: _Case) -> bool:
    """Record a bad end of the process; True when its logs are worth judging."""
    ended = _end(case)
    if ended and ended[0] in ("refused", "lost"):
        case.add(*ended[:2], "result.json", ended[2])
        return False
    console = _console(case)
    where = _at(_console_name(case), console.telling_line) if console.telling else "result.json"
    if ended and not _failed_later(case) and not (console.ended_well and _debugger(case)):
        telling = f" — {console.telling}" if console.telling else ""
        case.add(ended[0], ended[1] + telling, where, ended[2])
        return False
    do = "correct the failure in the harness; what LoadGen counted is not what the model answered"
    for found, kind in ((console.thread, "a thread failed"), (console.traceback, "an exception")):
        if found:
            what = f"the harness printed {kind} although it exited with 0 — {found[1]}"
            case.add("failed", what, _at(CONSOLE, found[0]), do)
            return False
    if ended and _failed_later(case):
        said = case.run_dir / ACCURACY_SAID
        case.add(*ended[:2], ACCURACY_SAID if said.is_file() else where, ended[2])
        return False
    return True


# --- LoadGen's logs ------------------------------------------------------------------------------


def _read_logs(case: _Case) -> tuple[DetailLog, SummaryLog] | None:
    """Read both logs; None when one is missing, empty, cut off or refused."""
    do = "look in console.log for why LoadGen did not finish, then run again"
    if _prefix(case):
        do = (
            f"look in console.log for what {clean(_prefix(case), 40)} (run_prefix) did; a command"
            " that waits for a person, such as a debugger, is tried by hand: -e debug=true"
        )
    try:
        case.detail = detail = read_detail(case.run_dir / DETAIL)
        case.summary = summary = read_summary(case.run_dir / SUMMARY)
    except LogError as error:
        case.unreadable(error, do)
        return None
    fault = None
    if not detail.values:
        fault = DETAIL, "holds no LoadGen record"
    elif not detail.complete:
        fault = f"{DETAIL}:{detail.lines}", "is cut off"
    elif summary.num_errors is None:
        fault = SUMMARY, "is empty or cut off: it does not end with LoadGen's count of errors"
    if fault:
        case.add("failed", f"{fault[0].partition(':')[0]} {fault[1]}", fault[0], do)
        return None
    if detail.broken_count:
        first = detail.broken[0].line
        case.warnings.append(f"{detail.broken_count} broken line(s), the first at {DETAIL}:{first}")
    for key, name in (
        ("qsl_reported_total_count", "total"),
        ("effective_performance_sample_count", "performance"),
        ("result_query_count", "queries"),
    ):
        if (count := _integer(detail.values.get(key))) is not None:
            case.samples[name] = count
    return detail, summary


def _judge_errors(case: _Case, detail: DetailLog, summary: SummaryLog) -> None:
    do = "LoadGen does not accept this run: correct what the message names and run again"
    for message in detail.errors[:5]:
        where = f"{DETAIL}:{message.line}"
        case.add("invalid", f"LoadGen error {message.key}: {message.text}", where, do)
    if summary.num_errors and not detail.error_count:
        what = f"the summary counts {summary.num_errors} error(s)"
        case.add("invalid", what, SUMMARY, do)


def _judge_provenance(case: _Case, detail: DetailLog) -> None:
    """LoadGen's version and the round's seeds, where the rules give them."""
    wanted = _text(case.rules.get("loadgen_version"))
    version = detail.text("loadgen_version") or "unknown"
    if wanted and version.partition("@")[0].strip() != wanted.partition("@")[0].strip():
        what = f"LoadGen is version {version}, the round needs {wanted}"
        where = f"{DETAIL}:{detail.where.get('loadgen_version', 1)}"
        case.add("invalid", what, where, "provision the implementation for this round again")
    seeds = case.rules.get("seeds")
    for key, seed in seeds.items() if isinstance(seeds, Mapping) else ():
        name = f"effective_{key}" if key.endswith("_rng_seed") else f"effective_{key}_rng_seed"
        used = detail.values.get(name)
        if used != seed:
            what = f"{name} is {used}, the round needs {seed}"
            do = "let LoadGen load its built-in mlperf.conf: one FromConfig, one test per process"
            case.add("invalid", what, f"{DETAIL}:{detail.where.get(name, 1)}", do)


def _judge_settings(case: _Case, detail: DetailLog, mode: str | None) -> None:
    """Whether LoadGen ran the scenario and mode of the cell."""
    ran = scenario_name(detail.text("effective_scenario"))
    wanted = "Server" if case.scenario == "Interactive" else case.scenario
    do = "the harness must take scenario and mode from its settings"
    if wanted and ran != wanted:
        where = f"{DETAIL}:{detail.where.get('effective_scenario', 1)}"
        case.add("invalid", f"LoadGen ran {ran}, the cell asks for {wanted}", where, do)
    ran_mode = detail.text("effective_test_mode")
    if mode and ran_mode != mode:
        where = f"{DETAIL}:{detail.where.get('effective_test_mode', 1)}"
        case.add("invalid", f"LoadGen ran in mode {ran_mode}, not {mode}", where, do)


# --- performance ---------------------------------------------------------------------------------


def _target(scenario: str | None) -> tuple[str, str]:
    """The target that paces a scenario and the way it is moved to run longer."""
    if scenario in ("SingleStream", "MultiStream"):
        return "target_latency", "lower target_latency"
    return "target_qps", "raise target_qps"


def _explain(flag: str, case: _Case, summary: SummaryLog) -> tuple[str, str]:
    """Meaning and remedy of a constraint that LoadGen says is not satisfied."""
    target, longer = _target(case.scenario)
    if flag == "min_duration":
        limit, least = (finite(summary.parameters.get(f"{k}_duration_ms")) for k in ("max", "min"))
        if limit and least and limit < least:
            return f"max_duration of {limit:g} ms cut the run", "remove max_duration from user.conf"
        return f"the SUT was faster than {target} told", f"{longer} or {CALIBRATE}"
    if flag == "performance_constraints":
        what = "too many queries took longer than the latency limit"
        return what, f"lower target_qps or {CALIBRATE}"
    if flag == "min_queries":
        return "fewer queries than min_query_count", f"{longer} or {CALIBRATE}"
    if flag == "early_stopping":
        told = clean(" ".join(summary.early_stopping), 300) or "too few queries, or too slow ones"
        if case.scenario in ("Server", "Interactive"):
            return told, f"lower target_qps, run longer, or {CALIBRATE}"
        return told, f"run longer (raise min_query_count), or {CALIBRATE}"
    return "a constraint of this LoadGen", "read the summary"


def _judge_validity(case: _Case, detail: DetailLog, summary: SummaryLog) -> None:
    """LoadGen's verdict in both logs, and the constraint that was not met."""
    do = "look in console.log for why LoadGen did not finish, then run again"
    logged = detail.text("result_validity")
    for name, verdict in ((SUMMARY, summary.validity), (DETAIL, logged)):
        if verdict is None:
            what = f"{name} holds no verdict: LoadGen did not reach its end"
            case.add("failed", what, name, do)
            return
    unmet = [flag for flag, met in summary.satisfied.items() if not met]
    for flag in unmet:
        meaning, remedy = _explain(flag, case, summary)
        title = flag.replace("_", " ").capitalize()
        where = f"{SUMMARY}:{summary.lines.get(flag, 1)}"
        case.add("invalid", f"{title} satisfied: NO — {meaning}", where, remedy)
    if summary.validity == logged == "VALID" or unmet:
        return
    line = summary.lines.get("validity", 1)
    what = f"Result is: {summary.validity} in the summary, {clean(logged or '')} in the detail log"
    told = clean(" ".join(summary.recommendations), 300)
    do = told or "read the errors in the detail log"
    case.add("invalid", what, f"{SUMMARY}:{line}", do)


def _judge_performance(case: _Case) -> None:
    logs = _read_logs(case)
    if logs is None:
        return
    detail, summary = logs
    _judge_errors(case, detail, summary)
    _judge_provenance(case, detail)
    _judge_settings(case, detail, "PerformanceOnly" if case.mode == "performance" else None)
    _judge_validity(case, detail, summary)
    names = (case.rules.get("checker_name"), case.cell.get("benchmark"))
    name = next((text for text in map(_text, names) if text), "")
    try:
        case.metric = metric(detail, summary, name)
    except MetricError as error:
        do = "check that the harness reports what the benchmark measures (tokens, for an LLM)"
        case.add("failed", str(error), DETAIL, do)


# --- accuracy ------------------------------------------------------------------------------------


def count_entries(path: Path) -> int:
    """Entries of mlperf_log_accuracy.json, streamed (it may have gigabytes).

    LogError when it is missing, a link, or does not end as a JSON list.
    """
    count, overlap, last = 0, b"", b""
    with open_regular(path) as stream:
        while chunk := stream.read(_CHUNK):
            data = overlap + chunk
            count += data.count(_ENTRY)
            overlap = data[-(len(_ENTRY) - 1) :]
            last = chunk.rstrip()[-1:] or last
    if last != b"]":
        raise LogError(path.name, 0, "is cut off" if last else "is empty")
    return count


def _entries(case: _Case) -> int:
    """Entries of the accuracy log; of one that the SUT cut to its ends, those of the whole."""
    whole = case.result.get("accuracy_log")
    if isinstance(whole, Mapping) and (count := _integer(whole.get("entries"))) is not None:
        return count
    return count_entries(case.run_dir / ACCURACY_LOG)


def _padding(case: _Case, detail: DetailLog, expected: int) -> int:
    """How many answers may exceed the samples: LoadGen fills MultiStream's last query up."""
    per_query = _integer(detail.values.get("effective_samples_per_query")) or 1
    return -expected % per_query if case.scenario == "MultiStream" else 0


def _judge_entries(case: _Case, detail: DetailLog) -> None:
    expected = None
    for key in ("effective_accuracy_sample_count", "qsl_reported_total_count"):
        expected = expected or _integer(detail.values.get(key))
    do = "look in console.log for samples that were not answered, then run again"
    try:
        entries = _entries(case)
    except LogError as error:
        case.unreadable(error, do)
        return
    case.samples["accuracy"] = entries
    if expected is None:
        case.add("failed", "the detail log does not say how many samples there are", DETAIL, do)
    elif not expected <= entries <= expected + _padding(case, detail, expected):
        what = f"{entries} answers were logged, the dataset has {expected} samples"
        case.add("invalid", what, ACCURACY_LOG, do)


def _accuracy_rules(rules: Mapping[str, object]) -> list[Mapping[str, object]]:
    given = rules.get("accuracy")
    return [r for r in given if isinstance(r, Mapping)] if isinstance(given, (list, tuple)) else []


def _judge_metric(case: _Case, rule: Mapping[str, object], found: Mapping[str, float]) -> None:
    name = str(rule.get("metric"))
    value, target, upper = found.get(name), finite(rule.get("target")), finite(rule.get("upper"))
    if value is None and target is None:  # published results leave such a figure out
        case.warnings.append(f"{ACCURACY_TEXT} holds no {name}, its upper limit was not checked")
        return
    if value is None:
        what = f"{ACCURACY_TEXT} holds no {name}"
        do = "run the accuracy script again by hand (launch.sh) and read what it printed"
        case.add("failed", what, ACCURACY_TEXT, do)
        return
    do = "check model, preprocessing and precision: the answers are not those of the reference"
    if target is not None and value < target:
        case.add("invalid", f"{name} is {value:g}, the target is {target:g}", ACCURACY_TEXT, do)
    if upper is not None and value > upper:
        what = f"{name} is {value:g}, the upper limit is {upper:g}"
        case.add("invalid", what, ACCURACY_TEXT, do)


def _judge_accuracy(case: _Case) -> None:
    logs = _read_logs(case)
    if logs is None:
        return
    detail, summary = logs
    _judge_errors(case, detail, summary)
    _judge_provenance(case, detail)
    _judge_settings(case, detail, "AccuracyOnly")
    _judge_entries(case, detail)
    rules = _accuracy_rules(case.rules)
    try:
        text = read_text(case.run_dir / ACCURACY_TEXT)
    except LogError as error:
        if rules:
            case.unreadable(error, "look in console.log for why the accuracy script did not finish")
        return
    names = [str(rule.get("metric")) for rule in rules]
    found = parse_accuracy(text, names or None)
    case.accuracy, case.accuracy_hash = found, accuracy_hash(text)
    for rule in rules:
        _judge_metric(case, rule, found)


# --- calibration ---------------------------------------------------------------------------------


def _judge_calibration(case: _Case) -> None:
    do = "look in console.log and in trial_*/ for why no target was found"
    try:
        calibration = _read_object(case.run_dir, "calibration.json")
    except LogError as error:
        case.unreadable(error, do)
        return
    target = calibration.get("target")
    values = list(target.values()) if isinstance(target, Mapping) else []
    if not values or not all((finite(value) or 0) > 0 for value in values):
        why = _text(calibration.get("why"))
        what = "calibration found no target" + (f": {why}" if why else "")
        case.add("failed", what, "calibration.json", do)


_JUDGES = {"accuracy": _judge_accuracy, "calibration": _judge_calibration}


def _load(case: _Case) -> bool:
    """Read run.json and result.json; False when the run cannot be judged without them."""
    try:
        case.run = _read_object(case.run_dir, "run.json")
        cell = case.run.get("cell")
        case.cell = cell if isinstance(cell, Mapping) else {}
        if not case.cell:
            raise LogError("run.json", 0, "has no cell")
    except LogError as error:
        case.unreadable(error, "gather the run again; without it nobody knows what was asked")
        return False
    try:
        case.result = _read_object(case.run_dir, "result.json")
    except LogError as error:
        do = "run again: the supervisor did not get to write how the run ended"
        lost = error.reason == "is missing"
        case.add("lost" if lost else "failed", str(error), "result.json", do)
        return False
    return True


def assess(run_dir: Path, rules: AccuracyRules | Mapping[str, object]) -> Assessment:
    """Judge the run in ``run_dir`` by its own files and ``rules``.

    Never raises for what a run directory holds: missing, cut-off, oversized files and links (never
    followed) become reasons. Process facts come first; logs of a process that ended badly are not
    judged. A cell without accuracy rules (a custom model) is judged without a target.
    """
    case = _Case(Path(run_dir), dict(rules))
    if _load(case) and _judge_process(case):
        _JUDGES.get(case.mode, _judge_performance)(case)
    return case.conclude()
