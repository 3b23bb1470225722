#!/usr/bin/python3
"""The differential protocol tester: `make test-differ S=60`.

Each seed makes a sequence of messages (generate.py), which is sent to PostgreSQL and through pgweir to an equal
database, with a pool of two servers whose other users see to it that the sequence changes servers wherever it may
(switch.py). What differs is printed by kind, made small, with its seeds.

    tests/differ/differ.py --seconds 900            a long run; its first seed is printed
    tests/differ/differ.py --seed 42 [--count 100]  these seeds again; one alone is printed with all that was said
    tests/differ/differ.py --print 42               the sequence only
    tests/differ/differ.py --cases [NAME]           the sequences of cases.py
"""
import argparse
import multiprocessing
import os
import queue
import random
import re
import sys
import time
import traceback
from typing import NamedTuple

from compare import Runner, Unusable, shrink
from generate import sequence
from ops import Sequence
from place import HERE, Fixture, Place
from switch import Switcher

KNOWN = HERE / "known.def"
BEFORE_MAX = 30  # so many earlier sequences may be the cause of a difference


class Known(NamedTuple):
    name: str
    how: str
    pattern: re.Pattern
    after: re.Pattern  # of what was sent up to there


def known_kinds():
    """Rows of known.def: differences that are on somebody's list already."""
    rows = []
    for line in KNOWN.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            name, how, pattern, after, why = (x.strip() for x in line.split(" | ", 4))
            assert why and how in ("same", "ends", "leak"), f"{KNOWN}: {name}: same, ends or leak, and a reason"
            rows.append(Known(name, how, re.compile(pattern), re.compile(after, re.S)))
    return rows


def name_of(signature, sent, known, how=("same", "ends")):
    """sent: what led to it, as Python."""
    return next((k.name for k in known if k.how in how and k.pattern.search(signature) and k.after.search(sent)), None)


def sent(what, at):
    """The messages up to this step."""
    return repr(Sequence(what.steps[:at + 1], what.start))


class Lane:
    """One pair of databases and the strangers on it; all of it is made anew when something broke."""

    def __init__(self, place, pair, strict=False):
        """strict: nothing passes for equal because it is known."""
        self.place, self.pair, self.fixture = place, pair, Fixture(place, pair)
        known, self.switcher = [] if strict else known_kinds(), None
        self.runner = Runner(place, pair, self.fixture, None, lambda signature, what, at: name_of(signature, sent(what, at), known, ("same",)))
        self._fresh()

    def _fresh(self):
        if self.switcher:
            self.switcher.close()
        for left in (2, 1, 0):  # pgweir may still have to notice that servers are gone
            try:
                self.runner.switcher = self.switcher = Switcher(self.place.weir.port, self.fixture.name, self.place.rewrites_names())
                return
            except AssertionError:
                if not left:
                    raise

    def clean(self):
        """No server of pgweir's remembers anything of earlier sequences."""
        self.switcher.close()
        self.fixture.end_servers()
        self._fresh()

    def run(self, what):
        """(difference or None, trouble of the tester itself or None)"""
        try:
            found = self.runner.run(what)
            if self.runner.dirty:
                self.clean()
            return found, None
        except Unusable as e:
            return None, str(e)
        except AssertionError as e:
            self.clean()
            return None, str(e)

    def shrink(self, what, found, seconds, run=None):
        """run(sequence): its difference or None, by default on servers as they are."""
        self.runner.deadline_s, before = 2.0, self.runner.deadline_s
        try:
            return shrink(run or (lambda s: self.run(s)[0]), what, found, seconds)
        finally:
            self.runner.deadline_s = before

    def after(self, before, what):
        """The difference of `what` on clean servers which served `before` first."""
        self.clean()
        if before:
            self.run(before)
        return self.run(what)[0]

    def cause(self, seed, signature, step, first):
        """An earlier sequence of this lane (every step-th seed down to first) after which seed differs in this way."""
        for earlier in range(seed - step, max(first, seed - step * BEFORE_MAX) - 1, -step):
            found = self.after(sequence(earlier), sequence(seed))
            if found and found.signature == signature:
                return earlier, found
        return None, None


def lane_main(place, pair, options, results):
    """Seeds pair, pair + jobs ... until the time is over."""
    try:
        lane, end, n = Lane(place, pair), time.monotonic() + options.seconds, 0
        for n in range(pair, options.count or 1 << 60, options.jobs):
            if time.monotonic() > end:
                break
            seed = options.seed + n
            found, trouble = lane.run(sequence(seed))
            results.put((seed, found, trouble, [*lane.runner.passed.values()]))
    except BaseException:  # pylint: disable=broad-except
        results.put((options.seed, None, traceback.format_exc(), []))
    results.put((None, None, None, None))


class Report:
    def __init__(self):
        self.kinds, self.done, self.troubles, self.known, self.passed = {}, 0, [], known_kinds(), {}

    def add(self, seed, found, trouble, passed):
        self.done += 1
        for name in passed:
            self.passed[name] = self.passed.get(name, 0) + 1
        if trouble:
            self.troubles.append((seed, trouble))
        if not found:
            return
        what = sequence(seed)
        name = name_of(found.signature, sent(what, found.at), self.known)
        if name:
            self.passed[name] = self.passed.get(name, 0) + 1
        else:
            self.kinds.setdefault(found.signature, []).append((what.size(), seed, found))

    def unknown(self):
        return sorted(self.kinds, key=lambda s: -len(self.kinds[s]))

    def print_known(self):
        for name, count in sorted(self.passed.items(), key=lambda x: -x[1]):
            print(f"known      {count:6} {name}")


def explore(place, options):
    results, report = multiprocessing.Queue(), Report()
    lanes = [multiprocessing.Process(target=lane_main, args=(place, n, options, results), daemon=True) for n in range(options.jobs)]
    for p in lanes:
        p.start()
    left = len(lanes)
    while left:
        try:
            seed, found, trouble, passed = results.get(timeout=120)
        except queue.Empty:
            raise AssertionError("no lane has said anything for two minutes") from None
        if seed is None:
            left -= 1
        else:
            report.add(seed, found, trouble, passed)
    for p in lanes:
        p.join()
    return report


def print_kind(lane, signature, found, options):
    size, seed, first = min(found, key=lambda x: x[0])
    print(f"\nDIFFERENT  {len(found):6} {signature}\n    seeds {' '.join(str(x[1]) for x in found[:6])}")
    lane.clean()
    again, _ = lane.run(sequence(seed))
    if again and again.signature == signature:
        small, what = lane.shrink(sequence(seed), again, options.shrink)
        print(f"    {what}\n    {small!r}", flush=True)
        return
    earlier, again = lane.cause(seed, signature, options.jobs, options.seed)
    if not again:
        print(f"    not again with seed {seed} ({size} messages), alone or after one of the {BEFORE_MAX} before it\n    {first}", flush=True)
        return
    small, what = lane.shrink(sequence(seed), again, options.shrink, lambda s: lane.after(sequence(earlier), s))
    before, what = lane.shrink(sequence(earlier), what, options.shrink, lambda s: lane.after(s, small))
    print(f"    {what}\n    after another client's (seed {earlier}) {before!r}\n    {small!r}", flush=True)


def print_report(place, report, options, took):
    report.print_known()
    for seed, trouble in report.troubles[:10]:
        print(f"\nTROUBLE    seed {seed}: {trouble}", flush=True)
    lane = Lane(place, 0)
    unknown = report.unknown()
    for signature in unknown[:options.show]:
        print_kind(lane, signature, report.kinds[signature], options)
    several = sum(len(report.kinds[s]) for s in unknown)
    print(f"\n{report.done} sequences in {took:.0f} s from seed {options.seed}: {several} differ in {len(unknown)} kinds that known.def does not name, "
          f"{len(report.troubles)} could not be judged")
    failed = several + len(report.troubles)
    print(f"{report.done - failed} passed, {failed} failed")
    return 1 if failed else 0


def run_cases(place, pattern, options):
    from cases import CASES, KNOWN_TO_FAIL  # pylint: disable=import-outside-toplevel
    lane, failed = Lane(place, 0, strict=True), []
    chosen = [name for name in CASES if re.search(pattern, name) and name.startswith("replica:") == bool(options.replicas)]
    for name in chosen:
        lane.clean()
        for _ in (1, 2) if CASES[name].before else ():  # each of the two servers
            lane.run(CASES[name].before)
        found, trouble = lane.run(CASES[name])
        differs, expected = bool(found or trouble), name in KNOWN_TO_FAIL
        verdict = {(False, False): "ok", (True, True): "known", (True, False): "FAILED", (False, True): "PASSES"}[differs, expected]
        print(f"{verdict:8} {name}{': ' + KNOWN_TO_FAIL[name] if expected else ''}")
        if differs:
            print(f"         {found.signature if found else trouble}")
        if found and (not expected or options.verbose):
            print(f"    {found}\n    {CASES[name]!r:.3000}")
        if verdict in ("FAILED", "PASSES"):  # one that passes leaves the list
            failed.append(name)
    print(f"{len(chosen) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed or not chosen else 0


def one_seed(place, seed, options):
    lane, what = Lane(place, 0), sequence(seed)
    found, trouble = lane.run(what)
    print(f"seed {seed}\n{what!r}\n{trouble or found or 'no difference'}")
    if found:
        print(f"{found.signature}\nmade small:")
        small, last = lane.shrink(what, found, options.shrink)
        print(f"{small!r}\n{last}")
    return 1 if found or trouble else 0


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--seconds", type=float, default=60)
    p.add_argument("--seed", type=int, help="the first seed (default: a random one, which is printed)")
    p.add_argument("--count", type=int, help="so many sequences (default: 1 with --seed)")
    p.add_argument("--print", type=int, metavar="SEED", dest="only")
    p.add_argument("--cases", nargs="?", const="", metavar="PATTERN")
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("--shrink", type=float, default=10, help="seconds for making a finding small")
    p.add_argument("--show", type=int, default=60, help="so many kinds are made small")
    p.add_argument("--workers", type=int, default=1)
    p.add_argument("--replicas", type=int, default=0)
    p.add_argument("--verbose", action="store_true")
    p.add_argument("--option", action="append", default=[], metavar="K=V", help="of pgweir")
    return p.parse_args()


def main():
    options = arguments()
    if options.only is not None:
        print(repr(sequence(options.only)))
        return 0
    if options.seed is not None:
        options.count = options.count or 1
    else:
        options.seed = random.randrange(1 << 30)
    more = dict(o.split("=", 1) for o in options.option)
    with Place(pairs=options.jobs, replicas=options.replicas, workers=options.workers, **more) as place:
        if options.cases is not None:
            return run_cases(place, options.cases, options)
        if options.count == 1:
            return one_seed(place, options.seed, options)
        print(f"seed {options.seed}, {options.seconds:.0f} s, {options.jobs} jobs, {os.environ.get('PGWEIR_BIN', 'build/pgweir-asan')}")
        began = time.monotonic()
        report = explore(place, options)
        return print_report(place, report, options, time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
