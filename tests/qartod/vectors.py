#!/usr/bin/env python3
"""Series with the flags that ioos_qc (U.S. IOOS) gives them: what the tests of quality in the engine are compared with.

    vectors.py                 writes the vectors to standard output
    vectors.py --check FILE    fails when FILE is not what this would write
    vectors.py --csv FILE...   vectors of real series instead: a time and a value in each line, behind a header

The vectors are the same at every run. Each line is one series in JSON:
{"t": [start, step, {row: seconds more before it}], "s": scale, "v": values, "q": {test: [parameters, flags]}}
Values are whole numbers to be divided by `s`, `_` for none; `5*3` is 5 5 5. Times are seconds since 1970, UTC.

Where ioos_qc 3.0.0 does not do what its manual says, the flag that is right is written, and this page says so:
* climatology gives 1 (good) to a value that is not there; here 9 (missing);
* the time gap of the first row is that of the second, which is not known yet when the first one comes; here 2.
Not generated, because ioos_qc has no answer: two rows within a second (it cuts fractions off), and thresholds of 0.
"""

import argparse
import csv
import json
import random
import sys
from datetime import datetime, timezone

import numpy as np
from ioos_qc import qartod

SEED = 20261122
GENERATED = 1000
START = 1_767_225_600  # 2026-01-01
STEPS = [60, 300, 600, 900, 3600]


def flags_of(values, times, spec):
    """Runs every test of `spec` over a series."""
    found = {}
    when = np.array(times, dtype="datetime64[s]").astype("datetime64[ns]")
    missing = np.isnan(values)
    for test, parameters in spec.items():
        if test == "gross":
            fail, suspect = parameters
            flags = qartod.gross_range_test(values, fail, suspect)
        elif test == "climatology":
            config = qartod.ClimatologyConfig()
            for period, span, suspect, fail in parameters:
                config.add(tspan=span, vspan=suspect, fspan=fail, period=period)
            flags = qartod.climatology_test(config, values, when, np.full(len(values), np.nan))
            flags[missing] = 9
        elif test == "spike":
            method, suspect, fail = parameters
            flags = qartod.spike_test(values, suspect, fail, method)
        elif test == "rate":
            suspect, fail = parameters
            flags = qartod.rate_of_change_test(values, when, suspect, fail)
        elif test == "flat":
            tolerance, suspect, fail = parameters
            flags = qartod.flat_line_test(values, when, suspect, fail, tolerance)
        elif test == "attenuated":
            measure, window, least, suspect, fail = parameters
            flags = qartod.attenuated_signal_test(
                values, when, suspect, fail, test_period=window, min_obs=least, check_type=measure
            )
        elif test == "gap":
            flags = qartod.time_gap_test(when, parameters[0] / 3600)
            flags[0] = 2
        found[test] = [int(flag) for flag in np.ma.getdata(flags)]
    found["all"] = [int(flag) for flag in qartod.qartod_compare([np.array(flags) for flags in found.values()])]
    return found


def packed(items):
    """Repeats written once."""
    runs = []
    for item in items:
        if runs and runs[-1][0] == item:
            runs[-1][1] += 1
        else:
            runs.append([item, 1])
    return " ".join(item if count == 1 else f"{item}*{count}" for item, count in runs)


def line(raw, scale, start, step, more, spec):
    """One series as a line; `raw` are whole numbers or None."""
    values = np.array([np.nan if number is None else number / scale for number in raw])
    times, now = [], start
    for row in range(len(raw)):
        now += (step if row else 0) + more.get(row, 0)
        times.append(now)
    found = flags_of(values, times, spec)
    quality = {test: [spec.get(test, []), packed(map(str, flags))] for test, flags in found.items()}
    written = packed("_" if number is None else str(number) for number in raw)
    series = {"t": [start, step, {str(row): more[row] for row in sorted(more)}], "s": scale, "v": written, "q": quality}
    return json.dumps(series, separators=(",", ":"))


def documented():
    """What the manuals and the texts of ioos_qc say of each test, at its edges."""
    flat, rising = [50] * 12, list(range(0, 240, 20))
    steps = [0, 0, 0, 100, 100, 100, 0, 0, 100, 0, 0, 0]
    holes = [10, None, 12, 13, None, None, 40, 41, 42, None, 10, 10]
    edges = [0, 100, -1, 101, 10, 90, 9, 91, None, 50]
    day = 86_400
    seasons = [
        ["month", [1, 2], [10, 90], [0, 100]],
        ["month", [2, 2], [40, 60], None],
    ]
    specs = [
        {"gross": [[0, 100], [10, 90]]},
        {"gross": [[100, 0], None]},
        {"climatology": seasons},
        {"climatology": [["week", [1, 3], [10, 90], None], ["hour", [0, 11], [40, 60], [20, 80]]]},
        {"spike": ["average", 25, 75]},
        {"spike": ["differential", 25, 75]},
        {"spike": ["differential", 100, None]},
        {"spike": ["average", None, 50]},
        {"rate": [0.1, 0.2]},
        {"rate": [0.05, None]},
        {"flat": [1, 180, 360]},
        {"flat": [21, 120, 600]},
        {"attenuated": ["std", 240, 1, 5, 1]},
        {"attenuated": ["range", 240, 3, 20, 5]},
        {"gap": [120]},
    ]
    for raw in (flat, rising, steps, holes, edges):
        for spec in specs:
            slow = [(5 * day, {})] if "climatology" in spec else []
            for step, more in [(60, {}), (60, {4: 60, 7: 61})] + slow:
                yield line(raw, 1, START, step, more, spec)


def generated(chance):
    """A series of some street sensor with everything that goes wrong, and tests with random limits."""
    scale = chance.choice([1, 10, 100])
    step = chance.choice(STEPS)
    count = chance.randint(10, 17)
    start = START + chance.randrange(0, 365 * 86_400, 60)
    kind = chance.choice(["walk", "still", "noise", "ramp", "waves"])
    level, raw = chance.randint(-50, 400), []
    for row in range(count):
        if kind == "walk":
            level += chance.randint(-6, 6)
        elif kind == "ramp":
            level += chance.randint(0, 2)
        elif kind == "still" and chance.random() < 0.1:
            level += chance.randint(-3, 3)
        number = level + (chance.randint(-9, 9) if kind == "noise" else 0)
        if kind == "waves":
            number += round(20 * np.sin(row / 3))
        if chance.random() < 0.06:
            number += chance.choice([-1, 1]) * chance.randint(10, 200)
        raw.append(number)
        if chance.random() < 0.05:
            level = number
    for _ in range(chance.choice([0, 0, 1, 2])):
        first = chance.randrange(count)
        length = chance.randint(2, 12)
        raw[first : first + length] = [raw[first]] * len(raw[first : first + length])
    if chance.random() < 0.6:
        raw = [None if chance.random() < 0.1 else number for number in raw]
    more = {chance.randrange(1, count): step * chance.randint(1, 40) for _ in range(chance.choice([0, 0, 1, 2]))}

    def limit(low, high):
        number = chance.randint(low, high) / scale
        return int(number) if number == int(number) else number

    low, high = limit(-60, 100), limit(250, 420)
    suspect_low, suspect_high = sorted([limit(100, 180), limit(181, 250)])
    period, most = chance.choice([("month", 12), ("week", 53), ("hour", 23)])
    turn = sorted([chance.randint(1, most), chance.randint(1, most)])
    one, two = sorted([chance.randint(2, 8), chance.randint(2, 14)])

    def seconds(number):
        return number * step + chance.choice([0, 0, step // 2])

    spec = {
        "gross": [[low, high], chance.choice([None, [suspect_low, suspect_high]])],
        "climatology": [
            [period, [0 if period == "hour" else 1, most], [suspect_low, suspect_high], None],
            [period, turn, [low, high], chance.choice([None, [low - 1, high + 1]])],
        ],
        "spike": [chance.choice(["average", "differential"]), limit(5, 40), chance.choice([None, limit(41, 150)])],
        "rate": [round(limit(5, 40) / step, 7), chance.choice([None, round(limit(41, 150) / step, 7)])],
        "flat": [limit(1, 6), seconds(one), seconds(two)],
        "attenuated": [
            chance.choice(["std", "range"]), seconds(chance.randint(3, 12)), chance.randint(1, 4),
            # Never met exactly: pandas adds to and takes from the deviation of a window, and is off by a last digit.
            round(limit(4, 20) + 0.0003, 4), round(limit(1, 3) + 0.0003, 4),
        ],
        "gap": [seconds(chance.randint(1, 6))],
    }
    return line(raw, scale, start, step, more, spec)


def of_csv(path):
    """A real series, in pieces, with limits by its own spread. Whole thousandths."""
    with open(path, newline="") as file:
        rows = [row for row in csv.reader(file)][1:]
    times = [int(datetime.fromisoformat(row[0]).replace(tzinfo=timezone.utc).timestamp()) for row in rows]
    raw = [None if row[1] in ("", "nan", "NaN") else round(float(row[1]) * 1000) for row in rows]
    known = sorted(value for value in raw if value is not None)
    spread = max(1, known[len(known) * 95 // 100] - known[len(known) * 5 // 100])
    steps = sorted(later - time for time, later in zip(times, times[1:]) if later > time)
    step = steps[len(steps) // 2]
    span = [known[len(known) // 100] / 1000, known[len(known) * 99 // 100] / 1000]
    spec = {
        "gross": [[known[0] / 1000, span[1]], span],
        "climatology": [["month", [1, 12], span, None], ["hour", [0, 11], [span[0], span[1] * 0.9], None]],
        "spike": ["differential", spread / 5000, spread / 2000],
        "rate": [spread / 5000 / step, spread / 2000 / step],
        "flat": [spread / 100_000 + 0.0005, 6 * step, 24 * step],
        "attenuated": ["std", 24 * step, 3, spread / 20_000, spread / 200_000],
        "gap": [3 * step],
    }
    more = {row: times[row] - times[row - 1] - step for row in range(1, len(times)) if times[row] - times[row - 1] != step}
    if any(step + extra <= 0 for extra in more.values()):
        print(f"{path}: left out, times do not rise", file=sys.stderr)
        return None
    return line(raw, 1000, times[0], step, more, spec)


def main():
    arguments = argparse.ArgumentParser(description="series with the flags that ioos_qc gives them")
    arguments.add_argument("--check", metavar="FILE")
    arguments.add_argument("--csv", metavar="FILE", nargs="+")
    given = arguments.parse_args()
    if given.csv:
        for series in filter(None, map(of_csv, given.csv)):
            print(series)
        return
    chance = random.Random(SEED)
    lines = list(documented()) + [generated(chance) for _ in range(GENERATED)]
    if not given.check:
        print("\n".join(lines))
        return
    with open(given.check) as file:
        stored = file.read().splitlines()
    if len(stored) != len(lines):
        sys.exit(f"{given.check}: {len(stored)} series, and ioos_qc gives {len(lines)}")
    wrong = [number for number, (old, new) in enumerate(zip(stored, lines), 1) if old != new]
    if wrong:
        sys.exit(f"{given.check}: ioos_qc gives other flags in lines {wrong[:10]}")
    print(f"{given.check}: {len(lines)} series, as ioos_qc flags them")


if __name__ == "__main__":
    main()
