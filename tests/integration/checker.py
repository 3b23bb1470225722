"""The consistency checker: many clients read and write registers, and none may be shown less than it has seen.

A register is a row (id, version); a write adds 1 and learns the new version, a read learns the version. A client
that is shown a version below one that it has written or read before makes a Violation, with what both came from.
What happens to the nodes meanwhile is the test's affair.

Each client has a connection of its own; with `shared` connections it takes any free one of those for each
statement, as behind a driver's pool, and with `tokens` brings what it has seen along by pgweir.lsn_token.
"""
import random
import threading
import time
from typing import NamedTuple

import psycopg2
from conftest import Cluster

SCHEMA = """
DROP TABLE IF EXISTS registers;
CREATE TABLE registers (id int PRIMARY KEY, version bigint NOT NULL) WITH (fillfactor = 50);
INSERT INTO registers SELECT id, 0 FROM generate_series(0, %d) id;
GRANT ALL ON registers TO PUBLIC;
"""
READ = "SELECT version, (17 - length(pi()::text)) / 2 FROM registers WHERE id = %s"
WRITE = "UPDATE registers SET version = version + 1 WHERE id = %s RETURNING version"
LOST = ("08006", "08007", "57P01", "57P03", None)  # of a write while there is no primary: what came of it is unknown


class Seen(NamedTuple):
    version: int
    how: str   # "write" or "read"
    node: str
    epoch: int  # grows with each failover


class Violation(NamedTuple):
    client: int
    register: int
    before: Seen
    after: Seen
    told: int  # the greatest version that a writer had been told of when the later read began

    def is_postgres_own(self, primary="primary", told_at_failover=None):
        """A replica showed a commit that nobody had been told of, and then the primary did not: PostgreSQL lets a
        standby show a commit a moment before the primary does, and loses it if the primary dies in that moment."""
        if self.before.how != "read" or self.before.node == primary:
            return False
        if self.before.epoch != self.after.epoch:
            return self.before.version > told_at_failover[self.register]
        return self.after.node == primary and self.before.version > self.told


def prepare(cluster, registers=50):
    db = cluster.connect()
    with db.cursor() as cursor:
        cursor.execute(SCHEMA % (registers - 1))
    db.close()
    cluster.wait_replayed()


class Connections:
    """A connection for each statement: the client's own, or any of the shared ones."""

    def __init__(self, weir, shared, **connect):
        self.weir, self.connect_args = weir, connect
        self.free, self.there = [self._open() for _ in range(shared)], threading.Condition()
        self.shared = bool(shared)

    def _open(self):
        return self.weir.connect(**self.connect_args)

    def take(self, own):
        if not self.shared:
            return own or self._open()
        with self.there:
            self.there.wait_for(lambda: self.free, 30)
            return self.free.pop(random.randrange(len(self.free)))

    def give(self, db):
        if self.shared:
            with self.there:
                self.free.append(self._open() if db.closed else db)
                self.there.notify()

    def close(self):
        for db in self.free:
            db.close()


class Checker:
    """with Checker(weir, 300) as checker: ...; then checker.violations, checker.reads[node], checker.writes."""

    def __init__(self, weir, clients, registers=50, write_share=0.2, shared=0, tokens=False, pause_s=0.0, **connect):
        self.weir, self.registers, self.write_share, self.tokens = weir, registers, write_share, tokens
        self.pause_s = pause_s
        self.connections = Connections(weir, shared, **connect)
        self.violations, self.errors, self.lost_writes = [], [], []
        self.acked = [0] * registers  # the greatest version that any writer was told of
        self.reads, self.writes, self.epoch, self.stopping = {}, 0, 0, False
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._client, args=(n,), daemon=True) for n in range(clients)]

    def _client(self, number):
        dice, seen, token, own = random.Random(number), {}, None, None
        while not self.stopping:
            writing = dice.random() < self.write_share
            register = dice.randrange(self.registers)
            db, told = None, self.acked[register]
            try:
                db = self.connections.take(own)
                own = None if self.connections.shared else db
                with db.cursor() as cursor:
                    if token:
                        cursor.execute("SET pgweir.min_lsn = %s", (token,))
                    now = self._write(cursor, register) if writing else self._read(cursor, register)
                    if self.tokens:
                        cursor.execute("SHOW pgweir.lsn_token")
                        token = cursor.fetchone()[0]
            except psycopg2.Error as e:
                self._failed(number, writing, e)
                if own and (own.closed or e.pgcode is None):
                    own.close()
                    own = None
                continue
            finally:
                if db:
                    self.connections.give(db)
            before = seen.get(register)
            if before and now.version < before.version:
                with self.lock:
                    self.violations.append(Violation(number, register, before, now, told))
            seen[register] = now
            if self.pause_s:
                time.sleep(dice.random() * 2 * self.pause_s)
        if own:
            own.close()

    def _write(self, cursor, register):
        epoch = self.epoch
        cursor.execute(WRITE, (register,))
        version = cursor.fetchone()[0]
        with self.lock:
            self.writes += 1
            self.acked[register] = max(self.acked[register], version)
        return Seen(version, "write", "primary", epoch)

    def _read(self, cursor, register):
        epoch = self.epoch
        cursor.execute(READ, (register,))
        version, node = cursor.fetchone()
        node = Cluster.node_of(node)
        with self.lock:
            self.reads[node] = self.reads.get(node, 0) + 1
        return Seen(version, "read", node, epoch)

    def _failed(self, number, writing, e):
        code = e.pgcode or e.diag.sqlstate
        with self.lock:
            (self.lost_writes if writing and code in LOST else self.errors).append((number, writing, code, str(e)))
        time.sleep(0.02)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        for thread in self.threads:
            thread.join(30)
        self.connections.close()
        assert not any(t.is_alive() for t in self.threads), "a client got no answer within 30 s"

    def broken(self, **failover):
        return [v for v in self.violations if not v.is_postgres_own(**failover)]

    def replica_share(self):
        return 1 - self.reads.get("primary", 0) / max(1, sum(self.reads.values()))

    def report(self):
        return (f"{sum(self.reads.values())} reads ({self.replica_share():.0%} on replicas), {self.writes} writes, "
                f"{len(self.violations)} violations, {len(self.errors)} errors: {self.violations[:5]} {self.errors[:5]}")
