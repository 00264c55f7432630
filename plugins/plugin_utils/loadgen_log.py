# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read LoadGen's logs of all rounds (v0.5 to v6.1).

Parsing (``parse_*``) works on text; reading (``read_*``) opens a file of a run directory, which is
evidence from a machine that is not trusted: links and special files are refused, sizes are bounded.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

MARKER = ":::MLLOG "
MAX_LINE = 10 * 1024 * 1024
"""Characters (bytes while reading) of a line; the longest known, of rgat, has 5.5 million."""
MAX_FILE = 64 * 1024 * 1024
"""Bytes of one log; the largest published detail log has about 5 million."""
MAX_KEYS = 10_000
MAX_KEPT = 1_000
"""Values kept per repeated key, and messages kept per list; the counts go on."""

_SKIPPED = f'{MARKER}{{"key": "loaded_qsl_set"'
_DECODER = json.JSONDecoder(strict=False)
_NOT_FINITE = re.compile(r'("value":\s*)[-+]?(?:nan|inf)\b', re.IGNORECASE)
_TEXT_RECORD = re.compile(r'(?:"\w+":\s*\d+(?:ns)?,?\s*)+:\s*(.*)')
_IS_ERROR = re.compile(r'"is_error":\s*true')
_CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


class LogError(Exception):
    """A log that cannot be read: which file, which line (0: the file as a whole) and why."""

    def __init__(self, path: str, line: int, reason: str) -> None:
        super().__init__(f"{path}{f':{line}' if line else ''}: {reason}")
        self.path = path
        self.line = line
        self.reason = reason


def clean(text: str, limit: int = 200) -> str:
    """``text`` as one printable line of at most ``limit`` characters, without terminal codes."""
    visible = _CONTROL_SEQUENCE.sub("", text[: limit * 8])
    line = "".join(c if c.isprintable() else " " for c in visible).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def finite(value: object) -> float | None:
    """``value`` as a float where it is a finite number (not a bool), else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


# --- reading -------------------------------------------------------------------------------------


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file without following a link in its last component; LogError otherwise."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path, flags)
    except FileNotFoundError:
        raise LogError(path.name, 0, "is missing") from None
    except OSError as error:
        link = error.errno in (errno.ELOOP, errno.EMLINK)
        reason = "is a symbolic link, refused" if link else f"cannot be opened ({error.strerror})"
        raise LogError(path.name, 0, reason) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise LogError(path.name, 0, "is not a regular file, refused")
    return os.fdopen(handle, "rb")


def read_lines(path: Path, max_line: int = MAX_LINE, max_file: int = MAX_FILE) -> Iterator[str]:
    """Yield the lines of a file, decoded; LogError for a line or file above the limits (bytes)."""
    total = 0
    with open_regular(path) as stream:
        for number in range(1, max_file + 2):
            line = stream.readline(max_line + 1)
            if not line:
                return
            total += len(line)
            if len(line) > max_line:
                raise LogError(path.name, number, f"line over {max_line} bytes, refused")
            if total > max_file:
                raise LogError(path.name, number, f"file over {max_file} bytes, refused")
            yield line.decode("utf-8", "replace")


def read_text(path: Path, limit: int = MAX_FILE) -> str:
    """The whole text of a file of at most ``limit`` bytes; LogError otherwise."""
    with open_regular(path) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise LogError(path.name, 0, f"file over {limit} bytes, refused")
    return data.decode("utf-8", "replace")


# --- mlperf_log_detail.txt -----------------------------------------------------------------------


@dataclass(frozen=True)
class Message:
    """An error, a warning or a broken line of a detail log."""

    line: int
    key: str
    text: str


@dataclass(frozen=True)
class DetailLog:
    """The records of one mlperf_log_detail.txt.

    ``values`` holds the last value of each key, ``where`` its line. ``errors``, ``warnings`` and
    ``broken`` keep the first ``MAX_KEPT`` messages, the counts go on. ``complete`` is False when
    the last line is not a whole record, that is, when the writer was cut off. ``form`` is mllog,
    text (v0.5, v0.7), or empty for a log without records.
    """

    form: str = ""
    lines: int = 0
    complete: bool = False
    values: Mapping[str, object] = field(default_factory=dict)
    repeated: Mapping[str, list[object]] = field(default_factory=dict)
    where: Mapping[str, int] = field(default_factory=dict)
    errors: tuple[Message, ...] = ()
    warnings: tuple[Message, ...] = ()
    broken: tuple[Message, ...] = ()
    error_count: int = 0
    warning_count: int = 0
    broken_count: int = 0

    def all(self, key: str) -> list[object]:
        """Every value of a key, in order of appearance (the first ``MAX_KEPT``)."""
        if key in self.repeated:
            return list(self.repeated[key])
        return [self.values[key]] if key in self.values else []

    def number(self, key: str) -> float | None:
        """The last value of a key as a finite number, else None."""
        return finite(self.values.get(key))

    def text(self, key: str) -> str | None:
        """The last value of a key where it is text, else None."""
        value = self.values.get(key)
        return value if isinstance(value, str) else None


class _DetailBuilder:
    """Collects records line by line in bounded memory."""

    def __init__(self, name: str, keep_qsl: bool) -> None:
        self.name = name
        self.keep_qsl = keep_qsl
        self.form = ""
        self.complete = False
        self.values: dict[str, object] = {}
        self.repeated: dict[str, list[object]] = {}
        self.where: dict[str, int] = {}
        self.messages: dict[str, list[Message]] = {"error": [], "warning": [], "broken": []}
        self.counts = {"error": 0, "warning": 0, "broken": 0}

    def message(self, kind: str, line: int, key: str, text: object) -> None:
        self.counts[kind] += 1
        if len(self.messages[kind]) < MAX_KEPT:
            self.messages[kind].append(Message(line, clean(key, 100), clean(str(text), 500)))

    def value(self, line: int, key: str, value: object) -> None:
        if key in self.values:
            kept = self.repeated.setdefault(key, [self.values[key]])
            if len(kept) < MAX_KEPT:
                kept.append(value)
        elif len(self.values) >= MAX_KEYS:
            raise LogError(self.name, line, f"more than {MAX_KEYS} different keys, refused")
        self.values[key] = value
        self.where[key] = line

    def feed(self, number: int, line: str) -> None:
        if len(line) > MAX_LINE:
            raise LogError(self.name, number, f"line over {MAX_LINE} characters, refused")
        text = line.rstrip()
        if not text:
            return
        if MARKER in text:
            self.form = self.form or "mllog"
            self.json_line(number, text)
        elif self.form != "mllog" and (match := _TEXT_RECORD.match(text)):
            self.form, self.complete = "text", True
            self.text_record(number, match.group(1))
        elif self.form != "text":
            self.broken(number, text, "not a LoadGen record")

    def broken(self, number: int, text: str, reason: str) -> None:
        self.complete = False
        self.message("broken", number, reason, text[:2000])
        if _IS_ERROR.search(text):
            self.message("error", number, "unreadable record", text[:2000])

    def json_line(self, number: int, text: str) -> None:
        if text.startswith(_SKIPPED) and not self.keep_qsl and text.count(MARKER, 0, 4096) == 1:
            self.where["loaded_qsl_set"] = number
            if text.endswith("}}"):
                self.complete = True
            else:
                self.broken(number, text[-2000:], "record is cut off")
            return
        records, reason = _json_records(text)
        self.complete = True
        for record in records:
            self.record(number, record)
        if reason:
            self.broken(number, text, reason)

    def record(self, number: int, record: dict[str, object]) -> None:
        key, value, metadata = record.get("key"), record.get("value"), record.get("metadata")
        if not isinstance(key, str):
            self.broken(number, str(record)[:2000], "record without a key")
            return
        if isinstance(metadata, dict):
            if metadata.get("is_error") is True:
                self.message("error", number, key, value)
            elif metadata.get("is_warning") is True:
                self.message("warning", number, key, value)
        self.value(number, key, value)

    def text_record(self, number: int, text: str) -> None:
        kind, _colon, rest = text.partition(" : ")
        if kind.strip() in ("ERROR", "WARNING") and rest:
            self.message(kind.strip().lower(), number, kind.strip(), rest)
            return
        key, separator, value = text.partition(" : ")
        if separator:
            self.value(number, key.strip(), _scalar(value.strip()))
        elif text.strip():
            self.value(number, text.strip().rstrip(":"), None)

    def result(self, lines: int) -> DetailLog:
        return DetailLog(
            form=self.form,
            lines=lines,
            complete=self.complete,
            values=self.values,
            repeated=self.repeated,
            where=self.where,
            errors=tuple(self.messages["error"]),
            warnings=tuple(self.messages["warning"]),
            broken=tuple(self.messages["broken"]),
            error_count=self.counts["error"],
            warning_count=self.counts["warning"],
            broken_count=self.counts["broken"],
        )


def _json_records(text: str) -> tuple[list[dict[str, object]], str]:
    """The whole records of a line (threads may interleave) and what is wrong with it, or ''."""
    records: list[dict[str, object]] = []
    reason = "" if text.startswith(MARKER) else "text before the record"
    start = text.find(MARKER)
    for _turn in range(8):
        if start < 0:
            return records, reason
        record, end = _decode(text, start + len(MARKER))
        following = text.find(MARKER, end)
        if isinstance(record, dict):
            records.append(record)
            rest = text[end:following] if following >= 0 else text[end:]
            if rest.strip() or following >= 0:
                reason = reason or "more than one record on the line"
        else:
            reason = "record is cut off or interleaved"
        start = following
    return records, "more than eight records on the line"


def _decode(text: str, start: int) -> tuple[object, int]:
    try:
        record, end = _DECODER.raw_decode(text, start)
        return record, end
    except (ValueError, RecursionError):
        pass
    stop = text.find(MARKER, start)
    part = text[start : stop if stop >= 0 else len(text)].rstrip()
    try:
        record, end = _DECODER.raw_decode(_NOT_FINITE.sub(r"\1null", part, count=1))
    except (ValueError, RecursionError):
        return None, start
    return record, start + len(part)


def _scalar(text: str) -> object:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text.strip('"'))


def parse_detail(
    text_lines: Iterable[str], *, name: str = "mlperf_log_detail.txt", keep_qsl: bool = False
) -> DetailLog:
    """Parse a detail log: ``:::MLLOG`` records (v1.0 and later) or v0.5/v0.7 text.

    Lines that are no whole record are listed in ``broken``, never raised. The list of loaded
    samples, most of a long log, is decoded only with ``keep_qsl``. LogError: a line over
    ``MAX_LINE`` characters, or more than ``MAX_KEYS`` different keys.
    """
    builder = _DetailBuilder(name, keep_qsl)
    number = 0
    for number, line in enumerate(text_lines, 1):
        builder.feed(number, line)
    return builder.result(number)


def read_detail(path: Path, *, keep_qsl: bool = False) -> DetailLog:
    """``parse_detail`` of a file; LogError when it is missing, a link, or over the limits."""
    return parse_detail(read_lines(path), name=path.name, keep_qsl=keep_qsl)


# --- mlperf_log_summary.txt ----------------------------------------------------------------------

_SCENARIOS = {
    name.lower(): name
    for name in ("SingleStream", "MultiStream", "Offline", "Server", "Interactive")
}
_SERIES = {
    "latency": "latency",
    "first token latency": "ttft",
    "time to output token": "tpot",
    "time per output token": "tpot",
}
_SERIES_NAMES = "|".join(_SERIES)
_PERCENTILE = re.compile(
    rf"([\d.]+)(?:th)? percentile ({_SERIES_NAMES}) \(ns\)\s*:\s*(\S+)", re.IGNORECASE
)
_EXTREME = re.compile(rf"(min|max|mean) ({_SERIES_NAMES}) \(ns\)\s*:\s*(\S+)", re.IGNORECASE)
_SATISFIED = re.compile(r"\s*(\w[\w ]*?) satisfied\s*:\s*(\w+)", re.IGNORECASE)
_PARAMETER = re.compile(r"([a-z][a-z0-9_]*)(?: \((\w+)\))?\s*:\s*(\S+)\s*$")
_ENCOUNTERED = re.compile(r"(no|\d{1,18}) (warning|error)s? encountered", re.IGNORECASE)
_TITLES = {
    "MLPerf Results Summary": "head",
    "Additional Stats": "stats",
    "Test Parameters Used": "parameters",
}


def scenario_name(text: str | None) -> str | None:
    """SingleStream, MultiStream, Offline, Server or Interactive for any spelling; None if none."""
    return _SCENARIOS.get(re.sub(r"[\s_-]", "", text).lower()) if text else None


@dataclass
class SummaryLog:
    """One mlperf_log_summary.txt.

    ``validity`` is VALID, INVALID or None (accuracy runs). ``satisfied`` has
    performance_constraints, min_duration, min_queries, early_stopping where printed. ``metrics``
    are the lines above the verdict by their printed label, ``stats`` the figures below it;
    ``percentiles`` are ns by series (latency, ttft, tpot) and name ('90.00', 'min', 'max', 'mean').
    ``lines`` has the line numbers of the flags and of ``validity``. The numbers of warnings and
    errors are None when the file ends before them.
    """

    sut: str | None = None
    scenario: str | None = None
    mode: str | None = None
    validity: str | None = None
    satisfied: dict[str, bool] = field(default_factory=dict)
    early_stopping: list[str] = field(default_factory=list)
    recommendations: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    stats: dict[str, float] = field(default_factory=dict)
    percentiles: dict[str, dict[str, int]] = field(default_factory=dict)
    parameters: dict[str, int | float | str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    num_warnings: int | None = None
    num_errors: int | None = None


def _number(text: str) -> float | None:
    try:
        return finite(float(text))
    except ValueError:
        return None


def _latency(log: SummaryLog, line: str) -> bool:
    """Store a percentile or extreme of a latency series; False when the line is none."""
    match = _PERCENTILE.match(line)
    if match:
        percent = _number(match[1])
        name = f"{percent:.2f}" if percent is not None else ""
    else:
        match = _EXTREME.match(line)
        name = match[1].lower() if match else ""
    if not match or not name:
        return False
    value = _number(match[3])
    if value is not None:
        series = log.percentiles.setdefault(_SERIES[match[2].lower()], {})
        series[name] = int(match[3]) if match[3].isdecimal() and len(match[3]) < 20 else int(value)
    return True


def _head_line(log: SummaryLog, number: int, line: str, heading: str) -> str:
    """Take in a line above the statistics; returns the heading that later bullets belong to."""
    if line.lstrip().startswith("* "):
        bullets = log.recommendations if heading.startswith("Recomm") else log.early_stopping
        series = heading[:4] + ": " if heading[:4] in ("TTFT", "TPOT") else ""
        if len(bullets) < MAX_KEPT:
            bullets.append(series + clean(line.lstrip()[2:], 300))
        return heading
    if match := _SATISFIED.match(line):
        flag = match[1].lower().replace(" ", "_")
        log.satisfied[flag] = match[2].lower() == "yes"
        log.lines[flag] = number
        return heading
    label, separator, value = (part.strip() for part in line.partition(":"))
    if separator and value:
        _head_value(log, number, label, value)
        _latency(log, line)
    return label if separator and not value else heading


def _head_value(log: SummaryLog, number: int, label: str, value: str) -> None:
    if label == "SUT name":
        log.sut = clean(value)
    elif label == "Scenario":
        log.scenario = scenario_name(value) or clean(value)
    elif label == "Mode":
        log.mode = {"performance": "PerformanceOnly", "accuracy": "AccuracyOnly"}.get(
            value.lower(), clean(value)
        )
    elif label == "Result is":
        log.validity = value if value in ("VALID", "INVALID") else None
        log.lines["validity"] = number
    elif (figure := _number(value)) is not None:
        log.metrics[label] = figure


def _parameter(log: SummaryLog, line: str) -> None:
    match = _PARAMETER.match(line)
    if match:
        value = _scalar(match[3])
        key = f"{match[1]}_{match[2]}" if match[2] else match[1]
        log.parameters[key] = value if isinstance(value, (int, float)) else match[3]


def parse_summary(text: str, *, name: str = "mlperf_log_summary.txt") -> SummaryLog:
    """Parse a summary of any round, v0.5 to v6.1; LogError only above ``MAX_LINE`` characters."""
    if len(text) > MAX_LINE:
        raise LogError(name, 0, f"file over {MAX_LINE} characters, refused")
    log = SummaryLog()
    section, heading = "head", ""
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.rstrip()
        if line in _TITLES:
            section = _TITLES[line]
        elif match := _ENCOUNTERED.match(line):
            count = 0 if match[1].lower() == "no" else int(match[1])
            if match[2].lower() == "error":
                log.num_errors = count
            else:
                log.num_warnings = count
        elif section == "head":
            heading = _head_line(log, number, line, heading)
        elif section == "parameters":
            _parameter(log, line)
        elif not _latency(log, line):
            label, _colon, value = line.partition(":")
            if (figure := _number(value)) is not None:
                log.stats[label.strip()] = figure
    return log


def read_summary(path: Path) -> SummaryLog:
    """``parse_summary`` of a file; LogError when missing, a link, or over ``MAX_LINE`` bytes."""
    return parse_summary(read_text(path, MAX_LINE), name=path.name)
