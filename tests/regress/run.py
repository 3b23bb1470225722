#!/usr/bin/env python3
"""PostgreSQL's own test suites, directly and through pgweir in transaction pooling: `make test-regress`.

    tests/regress/run.py [MODE...] [--tests "NAME ..."] [--out DIR]

Each mode is a suite run twice in the same environment: on a direct connection, then through pgweir. What passes
directly has to pass through pgweir. What does not is printed with the path of its diff and fails the run, unless
tests/regress/known.def lists it; a listed test that passes fails the run as well, so that the list only shrinks (but
for those marked with a ?, whose outcome depends on the server that they get).
A test that fails directly (the server may be newer than its tests) has to print the same through pgweir.
--tests runs some tests of the suite alone, with those that they need (test_setup and the like) named by you.
"""
import argparse
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tests/integration"))
# pylint: disable=wrong-import-position
import conftest

TREE = ROOT / "build/regress/postgresql"
NAMES = ROOT / "build/regress/session_names.so"
KNOWN = Path(__file__).with_name("known.def")
SUPERUSER = "postgres"
TEST_S = 200          # of one test; the slowest takes 30 s on a busy machine
SUITE_S = 1500        # of one suite
QUEUE_TIMEOUT = "300s"
DATABASES = {"regress": "regression", "isolation": "isolation_regression", "pipeline": "pipeline"}  # named in the tests
TRACED = {"simple_pipeline", "nosync", "multi_pipelines", "prepared", "singlerow", "pipeline_abort", "pipeline_idle",
          "transaction", "disallowed_in_pipeline"}  # libpq_pipeline's that come with a trace of their messages
# What pg_regress sets for a database that it creates itself.
DATABASE = """
ALTER DATABASE {0} SET lc_messages TO 'C'; ALTER DATABASE {0} SET lc_monetary TO 'C';
ALTER DATABASE {0} SET lc_numeric TO 'C'; ALTER DATABASE {0} SET lc_time TO 'C';
ALTER DATABASE {0} SET bytea_output TO 'hex'; ALTER DATABASE {0} SET timezone_abbreviations TO 'Default';
"""


class Mode(NamedTuple):
    what: str
    suite: str
    replicas: int = 0
    pool_size: int = 20
    arguments: tuple = ()


MODES = {
    "parallel": Mode("one node, pool size 20, parallel", "regress"),
    "serial": Mode("one node, pool size 2, one connection", "regress", pool_size=2,
                   arguments=("--max-connections=1",)),
    "replica": Mode("primary and replica, consistency = session, pool size 20, parallel", "regress", replicas=1),
    "isolation": Mode("one node, pool size 20", "isolation"),
    "pipeline": Mode("libpq_pipeline, one node, pool size 20", "pipeline"),
}


class Outcome(NamedTuple):
    passed: bool
    diff: str  # what differs from the expected output, or what went wrong


def as_owner(command):
    """As the user that PostgreSQL runs as: its suites let the server read and write their files."""
    return ["runuser", "-u", "postgres", "--", *command] if os.geteuid() == 0 else list(command)


def hand_over(path):
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        for one in [path, *path.rglob("*")]:
            os.chown(one, owner.pw_uid, owner.pw_gid)


def environment(port):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))}
    return {**kept, "PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": SUPERUSER, "PGSSLMODE": "disable",
            "PGCONNECT_TIMEOUT": "30", "PGISOLATIONTIMEOUT": "20"}


def run_bounded(command, seconds, log, **more):
    """Runs a command in a process group of its own, which does not outlive the time. True if it ended by itself."""
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                                   **more)
        try:
            process.wait(seconds)
            return True
        except subprocess.TimeoutExpired:
            return False
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


# ---- pg_regress and pg_isolation_regress ----

def outcomes_of(log, diffs):
    """What pg_regress said of each test, with the part of regression.diffs that belongs to it."""
    text = log.read_text(errors="replace")
    parts = re.split(r"^diff -U3 \S+ (?:\S*/)?results/(\S+)\.out$", diffs.read_text(errors="replace"), flags=re.M) \
        if diffs.exists() else [""]
    parts = dict(zip(parts[1::2], parts[2::2]))
    said = re.findall(r"^(?:test|    ) +(\S+) +\.\.\. (ok|FAILED|failed \(ignored\))([^\n]*)", text, re.M)
    return {name: Outcome(how == "ok", parts.get(name, how + rest)) for name, how, rest in said}


def also_expect(results, expected):
    """What the direct run printed where it failed (a server newer than its tests) is expected of the other run, too."""
    for file in results.glob("*.out"):
        shutil.copy(file, expected / f"{file.stem}_9.out")


def run_pg_regress(suite, port, work, mode, tests):
    here = work / "run"
    here.mkdir()
    program = {"regress": "pg_regress", "isolation": "pg_isolation_regress"}[suite]
    schedule = {"regress": "parallel_schedule", "isolation": "isolation_schedule"}[suite]
    shutil.copytree(TREE / suite, here / "in", ignore=shutil.ignore_patterns("*.c", "*.o"))
    (work / "failed").mkdir()
    if work.name == "through":
        also_expect(work.parent / "direct/failed", here / "in/expected")
    launcher = f"timeout -k 5 {TEST_S}"
    if suite == "isolation":
        shutil.copy(NAMES, here)
        launcher += f" env LD_PRELOAD={here / NAMES.name}"
    hand_over(here)
    command = [here / "in" / program, "--use-existing", f"--dbname={DATABASES[suite]}", "--host=127.0.0.1",
               f"--port={port}", f"--user={SUPERUSER}", f"--inputdir={here / 'in'}", f"--outputdir={here}", f"--dlpath={here / 'in'}",
               f"--bindir={here / 'in'}", f"--launcher={launcher}", "--max-concurrent-tests=20",
               *mode.arguments, *(tests or [f"--schedule={here / 'in' / schedule}"])]
    log = work / "suite.log"
    in_time = run_bounded(as_owner([str(x) for x in command]), SUITE_S, log, cwd=here, env=environment(port))
    found = outcomes_of(log, here / "regression.diffs")
    if not in_time or not found:
        found["the suite"] = Outcome(False, f"ended by itself: {in_time}\n" + log.read_text(errors="replace")[-2000:])
    for test, outcome in found.items():
        result = here / f"results/{test}.out"
        if not outcome.passed and result.exists():
            shutil.copy(result, work / "failed")
    return found


# ---- libpq_pipeline ----

def run_pipeline(port, work, tests):
    program = TREE / "libpq_pipeline/libpq_pipeline"
    names = tests or subprocess.run([program, "tests"], capture_output=True, text=True, check=True).stdout.split()
    found = {}
    for name in names:
        log, trace = work / f"{name}.log", work / f"{name}.trace"
        command = [program, "-r", "700", *(["-t", trace] if name in TRACED else []), name,
                   f"dbname={DATABASES['pipeline']} host=127.0.0.1 port={port} user={SUPERUSER}"]
        with open(log, "wb") as out:
            try:
                code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=TEST_S,
                                      env=environment(port), check=False).returncode
            except subprocess.TimeoutExpired:
                code = f"none within {TEST_S} s"
        diff = "" if code == 0 else f"exit code {code}\n{log.read_text(errors='replace')}\n"
        if name in TRACED and trace.exists():
            expected = program.parent / f"traces/{name}.trace"
            diff += subprocess.run(["diff", "-U3", "--label=expected", "--label=seen", expected, trace],
                                   capture_output=True, text=True, errors="replace", check=False).stdout
        found[name] = Outcome(not diff, diff)
    return found


# ---- a mode ----

class PlainCluster(conftest.Cluster):
    """Nodes with the same settings: other digits of floats on a replica would be found by the suites."""

    def _mark(self, replica):
        pass


def create_database(cluster, name):
    db = cluster.connect(dbname="postgres", user=SUPERUSER)
    with db.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        for statement in filter(str.strip, DATABASE.format(name).split(";")):
            cursor.execute(statement)
    db.close()
    if len(cluster.nodes) > 1:
        cluster.wait_replayed()


def start_pgweir(cluster, work, mode):
    """Any user may log in, to any database: the suites make users and databases and connect as and to them."""
    return conftest.Pgweir(work / "pgweir", {"*": cluster.entry().replace("dbname=app", "").strip()},
                           {"pool_mode": "transaction", "default_pool_size": mode.pool_size, "auth_type": "trust",
                            "auth_file": None, "queue_timeout": QUEUE_TIMEOUT, "consistency": "session",
                            "probe_dbname": "postgres", "admin_users": SUPERUSER},
                           binary=Path(os.environ.get("PGWEIR_BIN", conftest.RELEASE)))


def run_suite(mode, scratch, through, tests):
    """The outcomes of one run on a cluster of its own."""
    work = scratch / ("through" if through else "direct")
    work.mkdir()
    work.chmod(0o711)
    cluster = PlainCluster(scratch / f"cluster-{work.name}", "--replicas", mode.replicas,
                           "--conf", "max_prepared_transactions=10", "--conf", "shared_buffers=128MB")
    try:
        create_database(cluster, DATABASES[mode.suite])
        weir = start_pgweir(cluster, work, mode) if through else None
        port = weir.port if weir else cluster.ports["primary"]
        if mode.suite == "pipeline":
            found = run_pipeline(port, work, tests)
        else:
            found = run_pg_regress(mode.suite, port, work, mode, tests)
        if weir:
            found.update(end_of(weir, work))
        return found
    finally:
        cluster.stop()


def end_of(weir, work):
    """pgweir must have survived, and must end well."""
    for what in ("NODES", "POOLS", "ROUTES"):
        try:
            rows = weir.show(what, user=SUPERUSER)
            (work / f"show_{what.lower()}").write_text("".join(f"{row}\n" for row in rows))
        except Exception as e:  # pylint: disable=broad-except
            (work / f"show_{what.lower()}").write_text(f"{e}\n")
    try:
        weir.stop()
    except AssertionError as e:
        return {"pgweir's end": Outcome(False, str(e))}
    return {}


# ---- the report ----

def read_known():
    """(mode, test) -> (why, whether it may pass all the same)."""
    known = {}
    for number, line in enumerate(KNOWN.read_text().splitlines(), 1):
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        modes, name, why = (line.split(None, 2) + ["", ""])[:3]
        assert why, f"{KNOWN}:{number}: not 'modes test why'"
        for mode in MODES if modes == "*" else modes.split(","):
            assert mode in MODES, f"{KNOWN}:{number}: no mode {mode}"
            key = mode, name.rstrip("?")
            assert key not in known, f"{KNOWN}:{number}: {mode} {name} stands there twice"
            known[key] = why, name.endswith("?")
    return known


def write_diffs(outcomes, directory):
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for name, outcome in outcomes.items():
        if not outcome.passed:
            (directory / (name.replace(" ", "_") + ".diff")).write_text(outcome.diff)


def passed_or_same(outcome, direct):
    """A test that was not run has not passed."""
    return outcome is not None and (outcome.passed or (not direct.passed and outcome.diff == direct.diff))


def judge(name, direct, through, known, directory, partial):
    """Prints a mode's rows; how many lines of them are errors."""
    errors = 0
    for test in sorted(t for t, o in direct.items() if not o.passed):
        print(f"  {test}: fails on a direct connection, too: {directory}/direct/{test}.diff")
    differing = [t for t, o in direct.items() if not passed_or_same(through.get(t), o)]
    differing += [t for t, o in through.items() if t not in direct and not o.passed]  # the suite or pgweir itself
    for test in differing:
        why, _ = known.get((name, test), (None, False))
        errors += why is None
        path = f"{directory}/through/{test.replace(' ', '_')}.diff"
        print(f"  {test}: {'known: ' + why if why else 'DIFFERS'}  {path if test in through else 'not run'}")
    for (mode, test), (why, may_pass) in known.items():
        if mode == name and test not in differing and not may_pass and not (partial and test not in direct):
            errors += 1
            print(f"  {test}: PASSES, so drop its line from tests/regress/known.def ({why})")
    return errors


def run_mode(name, arguments, known):
    mode, tests = MODES[name], arguments.tests.split()
    scratch = Path(subprocess.run([ROOT / "scripts/cluster", "new", "regress"], capture_output=True, text=True,
                                  check=True).stdout.strip())
    began = time.monotonic()
    try:
        found = {}
        for through in (False, True):
            found[through] = run_suite(mode, scratch, through, tests)
            directory = arguments.out / name / ("through" if through else "direct")
            write_diffs(found[through], directory)
            keep_logs(scratch, directory)
        seconds = time.monotonic() - began
    finally:
        for cluster in scratch.glob("cluster-*"):
            subprocess.run([ROOT / "scripts/cluster", "stop", cluster], check=False)
        shutil.rmtree(scratch, ignore_errors=True)
    passed = {through: sum(o.passed for o in outcomes.values()) for through, outcomes in found.items()}
    print(f"{name} ({mode.what}): {len(found[False])} tests, {passed[False]} pass directly, {passed[True]} through "
          f"pgweir, {seconds:.0f} s", flush=True)
    errors = judge(name, found[False], found[True], known, os.path.relpath(arguments.out / name), bool(tests))
    return len(found[False]), passed[False], passed[True], errors


def keep_logs(scratch, directory):
    for pattern in ("*/suite.log", "*/pgweir/pgweir.log", "*/pgweir/pgweir.ini", "*/show_*"):
        for file in scratch.glob(f"{directory.name}{pattern[1:]}"):
            shutil.copy(file, directory)


def main():
    for sig in (signal.SIGTERM, signal.SIGINT):  # end through every `finally`
        signal.signal(sig, lambda number, _: sys.exit(128 + number))
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("modes", nargs="*", metavar="MODE", default=[*MODES], help="of " + ", ".join(MODES))
    p.add_argument("--tests", default="")
    p.add_argument("--out", type=Path, default=ROOT / "build/regress/out")
    arguments = p.parse_args()
    unknown = [m for m in arguments.modes if m not in MODES]
    if unknown:
        p.error(f"no mode {unknown[0]}; there are {', '.join(MODES)}")
    known = read_known()
    rows = {name: run_mode(name, arguments, known) for name in arguments.modes}
    print(f"\n{'mode':<12}{'tests':>8}{'direct':>8}{'through':>9}{'errors':>8}")
    for name, row in rows.items():
        print(f"{name:<12}" + "".join(f"{n:>{w}}" for n, w in zip(row, (8, 8, 9, 8))))
    errors = sum(row[3] for row in rows.values())
    print(f"regress: {sum(row[2] for row in rows.values())} passed, {errors} failed")
    return 1 if errors or not all(row[1] for row in rows.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
