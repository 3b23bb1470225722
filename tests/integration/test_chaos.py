"""Clients and servers are killed at random under load: no crash, no leak, no answer at the wrong client.

10 seconds; PGWEIR_CHAOS_SECONDS=60 for the long run.
"""
import os
import random
import signal
import subprocess
import threading
import time

import psycopg2
import pytest
from conftest import wait_until
from protocol import login, types
from rawpg import PgError, bind, copy_data, copy_done, execute, parse, query, sync

SECONDS = float(os.environ.get("PGWEIR_CHAOS_SECONDS", 10))


class Load(threading.Thread):
    """A client that asks for tokens which only it knows, in all the ways there are."""

    def __init__(self, weir, seed, end):
        super().__init__(daemon=True)
        self.weir, self.r, self.end = weir, random.Random(seed), end
        self.good, self.broken, self.problems, self.doing = 0, 0, [], ""

    def run(self):
        while time.monotonic() < self.end:
            try:
                with login(self.weir.port) as c:
                    c.deadline_s = 20
                    while time.monotonic() < self.end:
                        self.one(c)
                        self.good += 1
            except (PgError, OSError):
                self.broken += 1
            except AssertionError as e:
                if type(e).__name__ != "Closed":
                    self.problems.append(f"{self.doing}: {type(e).__name__}: {e}")
                    return
                self.broken += 1

    def rows(self, c, data, count):
        c.send(data)
        result = []
        for _ in range(count):
            messages = c.read_until("Z")
            for m in messages:
                if m.type == "E":
                    raise PgError(m)
            result += [m.row()[0] for m in messages if m.type == "D"]
        return result

    def one(self, c):
        token = f"{self.r.random()}"
        kind = self.r.randrange(8)
        self.doing = f"kind {kind} {token} client {c.key.hex()} since {time.strftime('%T')}"
        want = [token.encode()]
        if kind == 0:
            got = self.rows(c, query(f"SELECT '{token}'"), 1)
        elif kind == 1:
            got = self.rows(c, parse("", "SELECT $1::text") + bind("", "", [token]) + execute() + sync(), 1)
        elif kind == 2:
            name = f"s{self.r.random()}"
            got = self.rows(c, parse(name, f"SELECT $1::text, {self.r.randrange(20)}") + sync() +
                            bind("", name, [token]) + execute() + sync(), 2)
        elif kind == 3:
            got = self.rows(c, query("BEGIN") + query(f"SELECT '{token}'") + query("COMMIT"), 3)
        elif kind == 4:
            n = self.r.randrange(1, 3000)
            got = self.rows(c, query(f"SELECT '{token}' FROM generate_series(1, {n})"), 1)
            want *= n
        elif kind == 5:
            got = self.rows(c, query("BEGIN; CREATE TEMP TABLE chaos (t text) ON COMMIT DROP") + query("COPY chaos FROM STDIN"), 1)
            c.read_until("G")
            got = self.rows(c, copy_data(f"{token}\n".encode()) + copy_done() + query("SELECT t FROM chaos") + query("COMMIT"), 3)
        elif kind == 6:
            got = self.rows(c, query(f"SET application_name = '{token}'") + query("SHOW application_name"), 2)
        else:
            got = self.rows(c, query(f"SELECT '{token}' FROM (SELECT pg_sleep({self.r.uniform(0, 0.02)})) x"), 1)
        assert got == want, f"kind {kind}: {got[:3]} instead of {want[:1]}"


def kill_clients(weir, cluster, end, r):
    """psql and pgbench processes that die by SIGKILL."""
    while time.monotonic() < end:
        command = r.choice([
            ["psql", "-Xqc", "SELECT repeat('x', 1000) FROM generate_series(1, 1000000)"],
            ["psql", "-Xqc", "COPY (SELECT generate_series(1, 10000000)) TO STDOUT"], ["psql", "-Xqc", "SELECT pg_sleep(10)"],
            ["psql", "-Xqc", "BEGIN", "-c", "SELECT 1", "-c", "SELECT pg_sleep(10)"]])
        p = subprocess.Popen([cluster.bin / command[0], "-h", "127.0.0.1", "-p", str(weir.port), "-U", "app_scram", *command[1:],
                              "app"], env={**os.environ, "PGPASSWORD": "secret"}, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(r.uniform(0, 0.25))
        p.kill()
        p.wait()


def terminate_servers(cluster, end, r):
    while time.monotonic() < end:
        node = r.choice(cluster.nodes)
        try:
            cluster.sql(node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'app%%'"
                        " ORDER BY random() LIMIT %s", r.randrange(1, 5))
        except psycopg2.Error:
            pass
        time.sleep(r.uniform(0, 0.12))


@pytest.mark.deadline(SECONDS + 90)
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_killed_clients_and_servers(cluster, pgweir, workers):
    weir = pgweir(workers=workers, default_pool_size=6, queue_timeout="5s", log_connections=0, log_disconnections=0)
    seconds = SECONDS / 3 if SECONDS <= 10 else SECONDS
    end = time.monotonic() + seconds
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    loads = [Load(weir, seed + n, end) for n in range(12)]
    more = [threading.Thread(target=kill_clients, args=(weir, cluster, end, random.Random(seed + 100 + n))) for n in range(3)]
    more.append(threading.Thread(target=terminate_servers, args=(cluster, end, random.Random(seed + 200))))
    for t in (*loads, *more):
        t.start()
    for t in (*loads, *more):
        t.join()
    if weir.process.poll() is not None:
        weir.check_end(weir.process.returncode)
    assert not [p for load in loads for p in load.problems][:3]
    assert sum(load.good for load in loads) > 50 * seconds / 4
    assert sum(load.broken for load in loads) > 0
    with login(weir.port) as c:
        assert types(c.query("SELECT 1")) == "TDCZ"
    print(f"good {sum(load.good for load in loads)} broken {sum(load.broken for load in loads)}")


@pytest.mark.deadline(120)
def test_killed_backends_take_the_whole_node_down_and_it_comes_back(new_cluster, pgweir):
    """kill -9 of a backend makes PostgreSQL restart all of them."""
    cluster = new_cluster("--replicas", 1)
    weir = pgweir(cluster=cluster, workers=2, default_pool_size=4, queue_timeout="5s", log_connections=0, log_disconnections=0)
    seconds = max(4.0, SECONDS / 3)
    end = time.monotonic() + seconds
    loads = [Load(weir, n, end) for n in range(8)]
    for t in loads:
        t.start()
    kills = 0
    while time.monotonic() < end - 1:
        try:
            node = random.choice(cluster.nodes)
            rows = cluster.sql(node, "SELECT pid FROM pg_stat_activity WHERE usename LIKE 'app%%' LIMIT 1")
            if rows:
                os.kill(rows[0][0], signal.SIGKILL)
                kills += 1
        except (psycopg2.Error, ProcessLookupError):
            pass
        time.sleep(0.7)
    for t in loads:
        t.join()
    assert kills
    assert not [p for load in loads for p in load.problems][:3]

    def works():
        try:
            return weir.sql("SELECT 1") == [(1,)]
        except psycopg2.Error:
            return False
    wait_until(works, 30)
