"""What happens to the soak's clients: FAULTS, one at a time for each Trouble, at random.

A fault gets the Stand and dice, and is over when it returns: what it changed is as it was, but for lost connections.
"""
import collections
import random
import sys
import threading
import time
from contextlib import contextmanager, suppress

import psycopg2
from conftest import ROOT
from rawpg import Closed, Deadline, PgError, RawPg, query

sys.path.insert(0, str(ROOT / "tests/faults"))
from proxy import FaultProxy  # noqa: E402 pylint: disable=wrong-import-position

POOL_SIZE, QUEUE_TIMEOUT_S = 6, 1.0
OPTIONS = {  # of pgweir; small enough that all that is counted or timed comes to its end many times
    "workers": 2, "default_pool_size": POOL_SIZE, "reserve_pool_size": 2, "reserve_pool_timeout": "300ms", "recv_buffers": 128,
    "max_node_connections": 24, "max_db_connections": 16, "max_db_client_connections": 1000, "max_prepared_statements": 4,
    "queue_timeout": f"{QUEUE_TIMEOUT_S}s", "failover_wait": "3s", "query_wait_notify": "300ms", "abandon_timeout": "1s",
    "server_lifetime": "20s", "server_idle_timeout": "10s", "server_check_query": "<empty>", "server_check_delay": "2s",
    "server_login_retry": "500ms", "server_connect_timeout": "3s", "probe_timeout": "500ms", "catalog_poll_interval": "1s",
    "slow_start": "1s", "primary_read_budget": 4, "log_connections": 0, "log_disconnections": 0,
}
PATIENT = {**OPTIONS, "queue_timeout": "30s", "failover_wait": "30s"}  # before and after, however slow the machine is
RELOADS = {
    "default_pool_size": [3, 4, POOL_SIZE, 8], "queue_discipline": ["fifo", "codel"], "queue_max": [0, 4, 20],
    "queue_timeout": ["300ms", "1s", "2s"], "tx_reads": ["primary", "optimistic"], "max_prepared_statements": [2, 4, 50],
    "balance": ["p2c", "round_robin", "least_connections"], "primary_reads": ["never", "fallback", "weighted"],
    "consistency": ["session", "global"], "server_lifetime": ["2s", "20s"], "abandon_timeout": ["0", "1s"],
}


def certificates(cluster):
    return {"client_tls_sslmode": "allow", "client_tls_cert_file": cluster.tls_dir / "server.crt",
            "client_tls_key_file": cluster.tls_dir / "server.key"}


class Stand:
    """pgweir between a proxy in front of its clients and one in front of each node."""

    ASAN = "exitcode=99:detect_leaks=1:quarantine_size_mb=4:thread_local_quarantine_size_kb=64"  # else freed memory stays resident

    def __init__(self, cluster, pgweir, opened):
        self.cluster = cluster
        self.primary, self.replica = (opened.enter_context(FaultProxy(cluster.ports[n])) for n in ("primary", "replica1"))
        entry = f"host=127.0.0.1,127.0.0.1 port={self.primary.port},{self.replica.port} dbname=app"
        self.weir = pgweir(databases={"app": entry, "other": f"{entry} pool_size=2"}, **PATIENT, **certificates(cluster),
                           env={"ASAN_OPTIONS": self.ASAN})
        self.front = opened.enter_context(FaultProxy(self.weir.port))
        self.ending = threading.Event()
        self.cluster_lock, self.console_lock = threading.Lock(), threading.Lock()

    def last(self, least_s, most_s, dice):
        """How long a fault stays; at the end of the soak no longer."""
        self.ending.wait(dice.uniform(least_s, most_s))

    @contextmanager
    def console(self):
        with RawPg(self.weir.port, deadline_s=20) as c:
            yield c.login("app_scram", "pgweir", "secret")

    def says(self, *commands):
        with self.console() as c:
            for command in commands:
                c.rows(command)

    def calm(self):
        """Everything is as at the start, and nobody waits for long."""
        for proxy in (self.front, self.primary, self.replica):
            proxy.go()
            for way in (proxy.up, proxy.down):
                way.piece, way.bytes_per_s, way.delay_s = 0, 0, 0.0
        self.says("RESUME", "ENABLE app", "ENABLE other")
        self.weir.reload(**{**dict.fromkeys(RELOADS), **PATIENT})
        self.cluster.settle()


def any_proxy(stand, dice):
    return dice.choice([stand.front, stand.primary, stand.replica])


def ways(proxy, dice):
    return dice.choice([[proxy.up], [proxy.down], [proxy.up, proxy.down]])


# ---- Networks ----

def stall(stand, dice):
    chosen = ways(any_proxy(stand, dice), dice)
    for way in chosen:
        way.stall()
    stand.last(0.05, 1.5, dice)
    for way in chosen:
        way.go()


def reset(stand, dice):
    any_proxy(stand, dice).reset()


def half_close(stand, dice):
    dice.choice(ways(any_proxy(stand, dice), dice)).end()


def changed(name, value, least_s, most_s):
    """For some time a proxy handles bytes in another way."""
    def fault(stand, dice):
        chosen = ways(any_proxy(stand, dice), dice)
        for way in chosen:
            setattr(way, name, value)
        stand.last(least_s, most_s, dice)
        for way in chosen:
            setattr(way, name, type(value)(0))
    return fault


def refuse(stand, dice):
    proxy = any_proxy(stand, dice)
    proxy.refuse()
    if dice.random() < 0.5:
        proxy.reset()
    stand.last(0.1, 1.0, dice)
    proxy.accept()


# ---- Nodes ----

def restart_replica(stand, _dice):
    with stand.cluster_lock:
        stand.cluster.restart("replica1")


def hold_replay(stand, dice):
    with stand.cluster_lock:
        stand.cluster.pause("replica1")
        stand.last(0.2, 2.0, dice)
        stand.cluster.resume("replica1")


def terminate_backends(stand, dice):
    with suppress(psycopg2.Error):
        stand.cluster.sql(dice.choice(stand.cluster.nodes), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                          " WHERE usename LIKE 'app%%' ORDER BY random() LIMIT %s", dice.randrange(1, 6))


# ---- Operators ----

def reload(stand, dice):
    with stand.console_lock:
        stand.weir.reload(**{name: dice.choice(values) for name, values in RELOADS.items() if dice.random() < 0.3})


def database(dice):
    return dice.choice(["app", "other"])


def pause(stand, dice):
    """RESUME comes before PAUSE is done, or after."""
    with stand.console_lock, stand.console() as c:
        c.send(query(f"PAUSE {database(dice)}"))
        stand.last(0.1, 1.0, dice)
        stand.says("RESUME")
        c.read_until("Z")


def kill(stand, dice):
    with stand.console_lock:
        which = database(dice)
        stand.says(f"KILL {which}")
        stand.last(0.0, 0.3, dice)
        stand.says(f"RESUME {which}")


def reconnect(stand, dice):
    stand.says(f"RECONNECT {database(dice)}")


def disable(stand, dice):
    with stand.console_lock:
        which = database(dice)
        stand.says(f"DISABLE {which}")
        stand.last(0.1, 0.5, dice)
        stand.says(f"ENABLE {which}")


# ---- Others ----

def crowd(stand, dice):
    """Clients that hold all servers of the primary for longer than others may wait."""
    holders = []
    with suppress(PgError, Closed, Deadline, OSError):
        for _ in range(POOL_SIZE + 2):
            holders.append(RawPg(stand.weir.port, deadline_s=5).login("app_scram", "app", "secret"))
            holders[-1].send(query("BEGIN"), query("SELECT pg_sleep(2), txid_current()"))
    stand.last(1.2 * QUEUE_TIMEOUT_S, 2.0 * QUEUE_TIMEOUT_S, dice)
    for c in holders:
        dice.choice([c.close, c.reset])()


FAULTS = {
    # name: (how often, fault)
    "stall": (6, stall),
    "reset": (4, reset),
    "half-close": (4, half_close),
    "throttle": (3, changed("bytes_per_s", 60000, 0.3, 1.5)),
    "small segments": (2, changed("piece", 16, 0.1, 0.5)),
    "delay": (3, changed("delay_s", 0.02, 0.3, 1.5)),
    "refuse": (3, refuse),
    "restart the replica": (1, restart_replica),
    "hold replay": (3, hold_replay),
    "terminate backends": (6, terminate_backends),
    "reload": (5, reload),
    "PAUSE": (2, pause),
    "KILL": (1, kill),
    "RECONNECT": (2, reconnect),
    "DISABLE": (1, disable),
    "crowd": (4, crowd),
}


class Trouble(threading.Thread):
    """One of several. Together they begin with each fault once, in any order; then they draw. `done` counts faults, `problems` says
    which of them failed themselves."""

    def __init__(self, stand, number, of, seed):
        super().__init__(daemon=True)
        self.stand, self.dice = stand, random.Random(f"{seed} trouble {number}")
        self.first = list(FAULTS)[number::of]
        self.dice.shuffle(self.first)
        self.done, self.problems = collections.Counter(), []

    def draw(self):
        return self.first.pop() if self.first else self.dice.choices(list(FAULTS), [weight for weight, _ in FAULTS.values()])[0]

    def run(self):
        while not self.stand.ending.wait(self.dice.uniform(0.1, 1.0)):
            name = self.draw()
            try:
                FAULTS[name][1](self.stand, self.dice)
                self.done[name] += 1
            except Exception as e:  # pgweir may be gone: the soak tells
                self.problems.append(f"{time.strftime('%T')} {name}: {type(e).__name__}: {e}")
                print(self.problems[-1], flush=True)
