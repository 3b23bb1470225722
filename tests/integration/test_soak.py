"""Some tens of clients, and everything that can happen to them, for a long time: `make soak S=1800 SEED=...`; 25 s without.

The clients are in soak_steps.py, the faults in soak_faults.py. A seed gives each client and each trouble-maker its sequence
again; what meets what is not repeatable. At the end a calm, in which nothing may fail, and then nothing may be left.
"""
import collections
import contextlib
import os
import random
import re
import statistics
import threading
import time
from pathlib import Path

import psycopg2
import pytest
from conftest import Cluster, wait_until
from rawpg import Message, PgError
from soak_faults import FAULTS, OPTIONS, FaultProxy, Stand, Trouble, certificates
from soak_steps import EXPECTED, LEAVES, STEPS, TABLE, Client, Ledger

SECONDS = float(os.environ.get("PGWEIR_SOAK_S") or 25)
SEED = os.environ.get("PGWEIR_SOAK_SEED") or str(random.randrange(1 << 32))
CLIENTS, TROUBLES = 32, 2
CALM_STEPS = 20  # of each client, in which nothing fails
LONG_S = 300  # from here on the process is warm after a quarter of the time
# Between the second and the last quarter of half an hour lie some 60 000 steps: 100 bytes lost by each would be 6 MB.
RSS_GROWTH_MAX_KB = 6 * 1024
FD_GROWTH_MAX = 8  # of the median; it follows how many clients are there at a time, and those are at most CLIENTS
LEAST_FOR_EACH_S = 0.02  # steps a client must have done for each second, or the soak shows nothing


class Watch(threading.Thread):
    """Samples of the process: (seconds since the start, resident kB, descriptors)."""

    def __init__(self, weir, clients):
        super().__init__(daemon=True)
        self.weir, self.clients = weir, clients
        self.samples, self.stopping, self.began = [], threading.Event(), time.monotonic()

    def run(self):
        told = 0
        while not self.stopping.wait(max(0.2, SECONDS / 1000)) and self.weir.process.poll() is None:
            at = time.monotonic() - self.began
            with contextlib.suppress(OSError):
                self.samples.append((at, rss_kb(self.weir.pid), self.weir.fds()))
            if at - told > 60:
                told = at
                steps = sum(sum(c.tally.values()) for c in self.clients)
                print(f"{at:6.0f} s: {self.samples[-1][1]} kB, {self.samples[-1][2]} descriptors, {steps} steps and words, "
                      f"{sum(len(c.problems) for c in self.clients)} problems", flush=True)


def rss_kb(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1))


def quarters(samples):
    """The median of each quarter of the time, of each thing that was sampled."""
    size = len(samples) // 4
    return [[statistics.median(values[q * size:(q + 1) * size]) for q in range(4)] for values in list(zip(*samples))[1:]]


def growth(samples):
    """What is not level after the first quarter."""
    rss, fds = quarters(samples)
    limits = {"resident kB": (rss, RSS_GROWTH_MAX_KB), "descriptors": (fds, FD_GROWTH_MAX)}
    return [f"{name} by quarters: {medians}" for name, (medians, most) in limits.items() if medians[3] - medians[1] > most]


def backends(cluster, condition="true"):
    return [row for node in cluster.nodes for row in cluster.sql(
        node, f"SELECT pid, state, query FROM pg_stat_activity WHERE usename LIKE 'app%' AND {condition}")]


def nothing_is_left(stand, fds_before):
    """All clients have gone."""
    weir, cluster = stand.weir, stand.cluster
    busy = ("cl_active", "cl_waiting", "sv_active", "sv_used", "sv_login")
    wait_until(lambda: sum(int(row[column]) for row in weir.show("POOLS") for column in busy) == 0, 20, "nobody has a server")
    wait_until(lambda: not backends(cluster, "state <> 'idle'"), 20, "all servers are idle")
    for node in cluster.nodes:
        assert cluster.sql(node, "SELECT * FROM pg_locks WHERE locktype = 'advisory'") == []
    assert cluster.sql("primary", "SELECT relname FROM pg_class WHERE relname = 'soak_mine'") == []
    weir.reload(server_idle_timeout="100ms", min_pool_size=0)
    wait_until(lambda: not backends(cluster), 20, "idle servers are closed")
    wait_until(lambda: weir.show("POOLS") == [], 20, "pools without clients and servers go")
    assert [row for row in weir.show("LIMITS") if row["used"]] == []
    wait_until(lambda: weir.fds() <= fds_before, 20, f"no more than {fds_before} descriptors")


def total(threads, what):
    return sum((getattr(t, what) for t in threads), collections.Counter())


def start_all(threads):
    for thread in threads:
        thread.start()


def join_all(threads, deadline_s):
    end = time.monotonic() + deadline_s
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    assert not [t for t in threads if t.is_alive()], f"a thread did not end within {deadline_s} s"


def report(clients, troubles, watch, ledger):
    tally, done = total(clients, "tally"), total(troubles, "done")
    told = {name[5:]: n for name, n in sorted(tally.items()) if name.startswith("told ")}
    print(f"seed {SEED}, {SECONDS:.0f} s, {CLIENTS} clients")
    print("steps:", ", ".join(f"{name} {tally[name]}" for name in ("login", *STEPS, *LEAVES)))
    print("told:", ", ".join(f"{what} {n} ({EXPECTED.get(what, 'the end of the connection')})" for what, n in told.items()))
    print("faults:", ", ".join(f"{name} {done[name]}" for name in FAULTS))
    print(f"rows: {len(ledger.written)} acknowledged, {len(ledger.refused)} refused, {len(ledger.unknown)} unknown")
    for name, medians in zip(("resident kB", "descriptors"), quarters(watch.samples)):
        print(f"{name}, medians of quarters: {medians}")


def reads_on_replica(weir):
    """And the file of the calm holds."""
    try:
        calm_now = [row["value"] for row in weir.show("CONFIG") if row["key"] in ("queue_timeout", "queue_max")]
        return sorted(calm_now) == ["0", "30"] and Cluster.node_of(weir.sql(Cluster.WHO)[0][0]) == "replica1"
    except psycopg2.Error:
        return False


def calm(stand, clients, strict):
    """Nothing fails any more, in the sessions that begin now."""
    stand.calm()
    wait_until(lambda: reads_on_replica(stand.weir), 40, "calm")
    strict.set()
    before = [sum(c.tally.values()) for c in clients]
    wait_until(lambda: all(sum(c.tally.values()) >= n + CALM_STEPS for c, n in zip(clients, before)), 60, "all clients go on")


@pytest.mark.deadline(SECONDS + 240)
def test_soak(new_cluster, pgweir):
    cluster = new_cluster("--replicas", 1, "--max-connections", 100, "--tls")
    cluster.sql("primary", TABLE)
    print(f"seed {SEED}", flush=True)
    with contextlib.ExitStack() as opened:
        stand = Stand(cluster, pgweir, opened)
        stand.weir.wait_reads_on_replica()
        stand.weir.reload(**OPTIONS)
        fds_before = stand.weir.fds()
        ledger, strict, end = Ledger(), threading.Event(), time.monotonic() + SECONDS
        clients = [Client(n, stand.front.port, ledger, SEED, strict=strict) for n in range(CLIENTS)]
        troubles = [Trouble(stand, n, TROUBLES, SEED) for n in range(TROUBLES)]
        watch = Watch(stand.weir, clients)
        start_all([*clients, *troubles, watch])
        while time.monotonic() < end and stand.weir.process.poll() is None:
            stand.ending.wait(0.5)
        for ending in (watch.stopping, stand.ending):
            ending.set()
        join_all([*troubles, watch], 60)
        assert stand.weir.process.poll() is None, stand.weir.log()[-4000:]
        try:
            calm(stand, clients, strict)
            for c in clients:
                c.stopping.set()
            join_all(clients, 60)
        finally:
            report(clients, troubles, watch, ledger)
        problems = [p for t in (*clients, *troubles) for p in t.problems]
        problems += ledger.problems([n for (n,) in cluster.sql("primary", "SELECT id FROM soak")])
        problems += growth(watch.samples) if SECONDS >= LONG_S else []
        assert not problems, "\n".join([f"{len(problems)} problems:", *problems[:20]])
        nothing_is_left(stand, fds_before)
        tally, done = total(clients, "tally"), total(troubles, "done")
        assert min(tally[name] for name in STEPS) > LEAST_FOR_EACH_S * SECONDS and len(done) == len(FAULTS), (tally, done)


# What the soak would notice

def test_it_notices_what_became_of_rows():
    ledger = Ledger()
    first, second, third = ledger.new(3)
    with ledger.outcome([first]) as commit:
        commit.sent()
    with contextlib.suppress(OSError), ledger.outcome([second]):
        raise OSError
    with contextlib.suppress(OSError), ledger.outcome([third]) as commit:
        commit.sent()
        raise OSError
    assert ledger.problems([first]) == ledger.problems([first, third]) == []
    for found, what in (([], "not there"), ([first, second], "refused"), ([first, first], "twice"), ([first, 99], "never")):
        (problem,) = ledger.problems(found)
        assert what in problem


def test_it_notices_growth():
    level = [(n, 50000 + n % 500, 60 + n % 7) for n in range(1000)]
    assert growth(level) == []
    assert growth([(n, max(0, 200 - n) + 50000, 60) for n in range(1000)]) == []
    assert len(growth([(n, rss + 14 * n, fds) for n, rss, fds in level])) == 1
    assert len(growth([(n, rss, fds + n // 40) for n, rss, fds in level])) == 1


@pytest.mark.parametrize("name", ["simple query", "named statement", "check settings", "LISTEN"])
def test_it_notices_what_is_not_its_own(cluster, pgweir, name):
    """A proxy changes the tokens that a client is shown."""
    entry = cluster.entry(["primary"])
    with FaultProxy(pgweir(databases={"app": entry, "other": entry}, **certificates(cluster)).port) as front:
        client = Client(7, front.port, Ledger(), 1, pause_s=0)
        client.draw = lambda table: name if table is STEPS else "close"
        client.start()
        wait_until(lambda: client.tally[name] > 20, what=client.problems)
        assert client.problems == []
        front.down.rewrite = lambda data: re.sub(rb"7x(?=[0-9a-f]{8})", b"8x", data)
        wait_until(lambda: client.problems)
        client.stopping.set()
        join_all([client], 20)


def test_it_notices_an_error_that_has_no_place():
    client = Client(1, 0, Ledger(), 1)
    for sqlstate, expected in (("53300", True), ("08P01", False), ("57014", False), ("42P01", False)):
        client.problems.clear()
        client.told(PgError(Message("E", f"SERROR\0C{sqlstate}\0Mwords\0\0".encode())))
        assert (client.problems == []) == expected
    client.problems.clear()
    client.calm = True
    client.told(PgError(Message("E", b"SERROR\0C53300\0Mwords\0\0")))
    client.lost(OSError("reset"))
    assert len(client.problems) == 2
