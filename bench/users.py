"""Runs build/levels, the users of an application, and sums up what they met; samples the servers meanwhile."""
import collections
import itertools
import re
import subprocess
from typing import NamedTuple

TABLES = """
CREATE TABLE session (id serial PRIMARY KEY, owner int NOT NULL);
CREATE TABLE room (id int PRIMARY KEY, n int NOT NULL) WITH (fillfactor = 50);
CREATE TABLE message (id serial PRIMARY KEY, session int NOT NULL, room int NOT NULL, body text NOT NULL);
CREATE INDEX ON message (session, id);
CREATE TABLE event (id bigserial PRIMARY KEY, stream int NOT NULL, body text NOT NULL);
INSERT INTO room SELECT i, 0 FROM generate_series(1, 600) AS i;
ALTER TABLE session OWNER TO app; ALTER TABLE room OWNER TO app;
ALTER TABLE message OWNER TO app; ALTER TABLE event OWNER TO app;"""
EMPTY = "TRUNCATE session, message, event RESTART IDENTITY; UPDATE room SET n = 0"
COUNTS = """SELECT (SELECT sum(n) FROM room), (SELECT count(*) FROM message), (SELECT count(*) FROM session),
            (SELECT count(*) FROM event)"""


RUNS = itertools.count()


class Operation(NamedTuple):
    """A line of build/levels; times in ms."""
    kind: str
    user: int
    arrived: float
    sent: float
    ended: float
    outcome: str
    text: str

    @property
    def took(self):
        return self.ended - self.arrived


class Result:
    """What the users of one run met."""

    def __init__(self, lines):
        self.logins, self.operations, self.broken, self.gap_ms = [], [], 0, 0.0
        for line in lines:
            kind, user, *times, outcome_text = line.rstrip("\n").split(" ", 5)
            if kind == "gap":
                self.gap_ms = int(outcome_text) / 1000
                continue
            outcome, _, text = outcome_text.partition(" ")
            one = Operation(kind, int(user), *(int(t) / 1000 for t in times), outcome, text.strip())
            if kind == "idle":
                self.broken += 1  # a connection that ended while nothing ran on it
            else:
                (self.logins if kind == "login" else self.operations).append(one)

    def count(self, *outcomes, kinds=None):
        return sum(op.outcome in outcomes and (kinds is None or op.kind in kinds) for op in self.operations)

    def failures(self):
        """{what: how often}, of logins too."""
        counted = collections.Counter()
        for op in self.logins + self.operations:
            if op.outcome != "ok":
                counted[f"{op.kind}: {op.outcome} {blur(op.text)}".strip()] += 1
        if self.broken:
            counted["idle connections closed"] = self.broken
        return counted

    def seconds(self):
        return max(op.ended for op in self.operations) / 1000 if self.operations else 0.0


def together(results):
    """Of users who were there at the same time."""
    one = results[0]
    for other in results[1:]:
        one.logins += other.logins
        one.operations += other.operations
        one.broken += other.broken
        one.gap_ms = max(one.gap_ms, other.gap_ms)
    return one


def blur(text):
    """Without the numbers that make each of many equal errors another one."""
    return re.sub(r"\d+", "N", text)


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def run(bed, port, *args, limit=300):
    """The users of one endpoint: their Result."""
    return finish(start(bed, port, *args), limit)


def start(bed, port, *args):
    """The same in the background: to be given to finish()."""
    argv = [f"{bed.dir}/levels", "-p", str(port), "-a", f"users {port}", *map(str, args)]
    with open(f"{bed.dir}/levels-{next(RUNS)}.out", "w+", encoding="utf-8") as out:
        process = subprocess.Popen(argv, stdout=out, stdin=subprocess.DEVNULL)
    process.out = out.name
    return process


def finish(process, limit=300):
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise SystemExit(f"bench: the users did not come to an end within {limit} s") from None
    if code:
        raise SystemExit(f"bench: build/levels ended with {code}")
    with open(process.out, encoding="utf-8", errors="replace") as f:
        return Result(f)


class Servers:
    """Samples, every 50 ms and on each node, how many servers the users of a target have (who was never lent to a user
    has no name yet): most at once, and how many were busy."""

    QUERY = """SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity
               WHERE usename = 'app' AND application_name = 'users {port}' \\watch 0.05"""

    def __init__(self, bed, target):
        self.bed, self.target, self.runs = bed, target, []

    def __enter__(self):
        for port in self.bed.primary, self.bed.replica:
            argv = [f"{self.bed.bin}/psql", "-XqAt", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-d", "postgres"]
            psql = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            psql.stdin.write(self.QUERY.format(port=self.target.port) + "\n")
            psql.stdin.flush()
            self.runs.append(psql)
        return self

    def __exit__(self, *_):
        samples = []
        for psql in self.runs:
            psql.terminate()
            text = psql.communicate()[0]
            samples.append([tuple(map(int, m)) for m in re.findall(r"^(\d+)\|(\d+)$", text, re.M)])
        together = [[sum(v) for v in zip(*pair)] for pair in zip(*samples)]
        self.most = sum(max((all_of for all_of, _ in node), default=0) for node in samples)
        self.each = [max((all_of for all_of, _ in node), default=0) for node in samples]
        busy = [b for _, b in together if b]
        self.busy = sum(busy) / len(busy) if busy else 0.0


def wait_replayed(bed):
    """Until the replica shows all that the primary has."""
    lsn = bed.sql("SELECT pg_current_wal_flush_lsn()")
    for _ in range(600):
        if bed.sql(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}' FROM pg_sleep(0.05)", "replica1") == "t":
            return
    raise SystemExit(f"bench: the replica does not replay up to {lsn}")


def empty(bed):
    bed.sql(EMPTY)
    bed.sql("VACUUM")
    wait_replayed(bed)


def miscounts(bed, result):
    """What is in the database and should not be, or the other way round, as texts. An operation of unknown outcome may
    be there or not."""
    rooms, messages, sessions, events = (int(n or 0) for n in bed.sql(COUNTS).split("|"))
    wrong = []
    for what, there, kind in [("sum of n", rooms, "message"), ("messages", messages, "message"),
                              ("sessions", sessions, "session"), ("events", events, "append")]:
        told = result.count("ok", kinds=[kind])
        unknown = result.count("unknown", "late", kinds=[kind])
        if not told <= there <= told + unknown:
            wrong.append(f"{what}: {there} in the database, {told} acknowledged" + f", {unknown} unknown" * (unknown > 0))
    return wrong
