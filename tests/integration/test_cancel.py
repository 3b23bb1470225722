"""Cancel requests: they reach the right query or nothing at all."""
import contextlib
import os
import random
import signal
import struct
import subprocess
import threading
import time

import pytest
from conftest import wait_until
from protocol import error_of, login, types
from rawpg import CANCEL_REQUEST, PROTOCOL_3_2, PgError, RawPg, bind, execute, parse, query, sync


def cancel(weir, key):
    with weir.raw() as c:
        c.send(struct.pack("!II", 8 + len(key), CANCEL_REQUEST) + key)
        assert c.expect_closed() == []


@pytest.mark.parametrize("protocol", [3 << 16, PROTOCOL_3_2])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_query_is_cancelled_and_the_client_goes_on(cluster, pgweir, protocol, workers):
    weir = pgweir(workers=workers)
    with login(weir.port, protocol=protocol) as c:
        for sql in (query("SELECT pg_sleep(30)"), query("BEGIN; SELECT pg_sleep(30)"),
                    parse("", "SELECT pg_sleep(30)") + bind("", "") + execute() + sync()):
            c.send(sql)
            cluster.wait_active("pg_sleep(30)")
            c.cancel()
            assert error_of(c.read_until("Z", 5)).sqlstate == "57014"
            c.query("ROLLBACK")
            assert c.rows("SELECT 1") == [["1"]]


def test_psql_stops_by_ctrl_c(cluster, pgweir):
    weir = pgweir()
    psql = subprocess.Popen([cluster.bin / "psql", "-X", "-h", "127.0.0.1", "-p", str(weir.port), "-U", "app_scram", "app",
                             "-c", "SELECT pg_sleep(31)"], env={**os.environ, "PGPASSWORD": "secret"},
                            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    cluster.wait_active("pg_sleep(31)")
    psql.send_signal(signal.SIGINT)
    assert "canceling statement due to user request" in psql.communicate(timeout=10)[1]
    wait_until(lambda: cluster.active("pg_sleep(31)") == 0)


def test_wrong_keys_do_nothing_and_say_nothing(cluster, pgweir):
    weir = pgweir()
    c = login(weir.port)
    c.send(query("SELECT pg_sleep(1.2), 'done'"))
    cluster.wait_active("pg_sleep(1.2)")
    pid, secret = c.key[:4], c.key[4:]
    wrong = bytes([secret[0] ^ 1]) + secret[1:]
    for key in (pid + wrong, b"\0\0\0\1" + secret, b"\xff\xff\xff\xff" + secret, pid + secret + b"\0" * 28,
                b"\0" * 8, os.urandom(36), pid + os.urandom(256)):
        cancel(weir, key)
    assert types(c.read_until("Z")) == "TDCZ"


def test_a_waiting_client_is_cancelled_and_stays(cluster, pgweir):
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1, queue_timeout="20s")
    holder, waiter, third = login(weir.port), login(weir.port), login(weir.port)
    holder.query("BEGIN; SELECT 1")
    for data in (query("SELECT 1"), parse("", "SELECT 1") + bind("", "") + execute() + sync(),
                 query("SELECT 1") + query("SELECT 2")):
        waiter.send(data)
        wait_until(lambda: sum(int(p["cl_waiting"]) for p in weir.show("POOLS")) == 1)
        start = time.monotonic()
        while not waiter.inbox:
            waiter.cancel()
            waiter.silent(0.05)
            assert time.monotonic() - start < 5
        assert error_of(waiter.read_until("Z")).sqlstate == "57014"
        assert waiter.status == "I"
    third.send(query("SELECT 3"))
    holder.query("COMMIT")
    assert "D" in types(third.read_until("Z"))
    while not types(waiter.read_until("Z")) == "TDCZ":  # the second of the pipeline
        pass
    assert waiter.rows("SELECT 4") == [["4"]]


@pytest.mark.parametrize("begin", [b"", query("BEGIN")], ids=["alone", "in a transaction"])
@pytest.mark.parametrize("protocol", [3 << 16, PROTOCOL_3_2])
def test_a_client_whose_server_gets_its_settings_is_cancelled(cluster, pgweir, protocol, begin):
    """What runs then is pgweir's own, and goes on: nothing of the client's has been sent."""
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1)
    other, c = login(weir.port), login(weir.port, protocol=protocol, application_name="another one")
    ((pid,),) = other.rows("SELECT pg_backend_pid()")
    if begin:
        c.query("BEGIN")
    os.kill(int(pid), signal.SIGSTOP)
    try:
        c.send(query("SELECT pg_sleep(30)"))
        wait_until(lambda: sum(int(p["sv_active"]) for p in weir.show("POOLS")) == 1)
        k = weir.raw()
        k.send(struct.pack("!II", 8 + len(c.key), CANCEL_REQUEST) + c.key)
        assert k.silent(0.2)  # it is not over yet
    finally:
        os.kill(int(pid), signal.SIGCONT)
    assert k.expect_closed() == []
    assert error_of(c.read_until("Z", 5)).sqlstate == "57014"
    assert c.status == ("E" if begin else "I")
    c.query("ROLLBACK")
    assert c.rows("SHOW application_name") == [["another one"]]
    assert other.rows("SELECT pg_backend_pid()") == [[pid]]


def test_a_read_that_waits_for_a_replica_is_cancelled(cluster, pgweir):
    cluster.sql("primary", "CREATE TABLE IF NOT EXISTS cancel_waits (n int); GRANT ALL ON cancel_waits TO PUBLIC")
    cluster.wait_replayed()
    weir = pgweir(floor_wait="10s", primary_hold="0", max_lag=0)
    weir.wait_reads_on_replica()
    c = login(weir.port)
    for node in cluster.nodes[1:]:
        cluster.pause(node)
    for segment in (query("SELECT count(*) FROM cancel_waits"),
                    parse("", "SELECT count(*) FROM cancel_waits") + bind("", "") + execute() + sync()):
        c.query("INSERT INTO cancel_waits VALUES (1)")
        c.send(segment)
        assert c.silent(0.2)
        start = time.monotonic()
        c.cancel()
        assert error_of(c.read_until("Z", 5)).sqlstate == "57014" and c.status == "I"
        assert time.monotonic() - start < 5
    assert types(c.query("INSERT INTO cancel_waits VALUES (1)")) == "CZ"
    cluster.settle()
    cluster.sql("primary", "DROP TABLE cancel_waits")


def test_who_waits_for_a_token_is_cancelled(cluster, pgweir):
    """SHOW pgweir.lsn_token needs a sample of the primary."""
    weir = pgweir(lag_poll_interval="60s", probe_timeout="60s")
    c = login(weir.port)
    c.query("SELECT txid_current()")
    cluster.freeze("primary")
    for segment in (query("SHOW pgweir.lsn_token"), parse("", "SHOW pgweir.lsn_token") + bind("", "") + execute() + sync()):
        c.send(segment)
        if segment[:1] == b"P":
            c.read_until("2")
        assert c.silent(0.2)
        c.cancel()
        assert error_of(c.read_until("Z", 5)).sqlstate == "57014" and c.status == "I"
    cluster.thaw("primary")
    assert len(c.rows("SHOW pgweir.lsn_token")) == 1


def connections_to(port, pid):
    """Of this process, to this port."""
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    with open("/proc/net/tcp", encoding="ascii") as f:
        rows = [line.split() for line in f.readlines()[1:]]
    return sum(int(r[2].split(":")[1], 16) == port and f"socket:[{r[9]}]" in inodes for r in rows)


def test_cancels_have_a_budget_of_their_own(cluster, pgweir):
    """64 connections for a worker; the others wait, and are dropped when what they are to end has ended."""
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=20, workers=1, cancel_wait_timeout="60s")
    postmaster = int(cluster.sql("primary", "SELECT pg_read_file('postmaster.pid')")[0][0].split()[0])
    clients = [login(weir.port) for _ in range(20)]
    short = clients[16:]  # whose cancels come last, and whose queries end
    for c in clients:
        c.send(query("SELECT pg_sleep(1), 'short'" if c in short else "SELECT pg_sleep(40)"))
    cluster.wait_active("pg_sleep(40)", 16)
    cluster.wait_active("'short'", 4)
    before = connections_to(cluster.ports["primary"], weir.pid)
    keys = []
    os.kill(postmaster, signal.SIGSTOP)
    try:
        for _ in range(4):
            for c in clients[:16] if len(keys) < 64 else short:
                k = weir.raw()
                k.send(struct.pack("!II", 8 + len(c.key), CANCEL_REQUEST) + c.key)
                keys.append(k)
            wait_until(lambda: connections_to(cluster.ports["primary"], weir.pid) >= before + len(keys))
        late = []
        for c in short:
            late.append(weir.raw())
            late[-1].send(struct.pack("!II", 8 + len(c.key), CANCEL_REQUEST) + c.key)
        wait_until(lambda: weir.show("POOLS")[0]["cl_active_cancel_req"] == 64)
        assert weir.show("POOLS")[0]["sv_active_cancel"] == 64
        for c in short:
            assert types(c.read_until("Z", 10)) == "TDCZ"
            c.send(query("SELECT pg_sleep(0.2)"))
        assert connections_to(cluster.ports["primary"], weir.pid) <= before + 64
    finally:
        os.kill(postmaster, signal.SIGCONT)
    for k in keys + late:
        assert k.expect_closed() == []
    for c in clients[:16]:
        assert error_of(c.read_until("Z", 10)).sqlstate == "57014"
    for c in short:
        assert types(c.read_until("Z", 10)) == "TDCZ"


def test_a_cancel_for_an_idle_client_hits_nobody(cluster, pgweir):
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1)
    idle, busy, gone = login(weir.port), login(weir.port), login(weir.port)
    for c in (idle, gone):
        c.rows("SELECT 1")
    gone.close()
    busy.send(query("SELECT pg_sleep(1), 'mine'"))
    cluster.wait_active("pg_sleep(1)")
    for _ in range(20):
        cancel(weir, idle.key)
        cancel(weir, gone.key)
    assert types(busy.read_until("Z")) == "TDCZ"
    assert types(idle.query("SELECT 1")) == "TDCZ"


def test_ending_with_the_query_or_not_but_never_later(cluster, pgweir):
    """A cancel races the end of its query; the client's next query, and others, must not be hit."""
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1)
    c, other = login(weir.port), login(weir.port)
    hits = 0
    for n in range(60):
        c.send(query(f"SELECT pg_sleep({random.uniform(0, 0.004)})"))
        with RawPg(weir.port) as k:
            k.send(struct.pack("!II", 8 + len(c.key), CANCEL_REQUEST) + c.key)
            hits += "E" in types(c.read_until("Z"))
            assert types(other.query(f"SELECT {n}")) == "TDCZ"
    assert c.rows("SELECT 1") == [["1"]]
    assert 0 <= hits <= 60


def test_a_cancel_request_is_closed_when_postgres_has_got_it(cluster, pgweir):
    """What its sender asks next cannot be hit by it, then."""
    weir = pgweir(databases={"app": cluster.entry(["primary"])})
    postmaster = int(cluster.sql("primary", "SELECT pg_read_file('postmaster.pid')")[0][0].split()[0])
    c = login(weir.port)
    c.query("BEGIN")
    c.send(query("SELECT pg_sleep(20)"))
    cluster.wait_active("pg_sleep(20)")
    with weir.raw() as k:
        os.kill(postmaster, signal.SIGSTOP)
        try:
            k.send(struct.pack("!II", 8 + len(c.key), CANCEL_REQUEST) + c.key)
            assert k.silent(0.3)
        finally:
            os.kill(postmaster, signal.SIGCONT)
        assert k.expect_closed() == []
    assert error_of(c.read_until("Z", 5)).sqlstate == "57014"
    for _ in range(3):
        assert types(c.query("ROLLBACK")[-2:]) == "CZ"


def test_a_cancel_request_whose_sender_hangs_up_is_carried_out(cluster, pgweir):
    weir = pgweir()
    c = login(weir.port)
    c.send(query("SELECT pg_sleep(32)"))
    cluster.wait_active("pg_sleep(32)")
    with weir.raw() as k:
        k.send(struct.pack("!II", 8 + len(c.key), CANCEL_REQUEST) + c.key)
    assert error_of(c.read_until("Z", 5)).sqlstate == "57014"


@pytest.mark.deadline(60)
def test_many_cancels_never_hit_a_stranger(cluster, pgweir):
    weir = pgweir(default_pool_size=3, queue_timeout="30s", workers=2)
    seconds = float(os.environ.get("PGWEIR_CANCEL_SECONDS", 5))
    end = time.monotonic() + seconds
    victims = [login(weir.port) for _ in range(6)]
    strangers = [login(weir.port) for _ in range(10)]
    problems, counts = [], {"queries": 0, "hits": 0}

    def work(c, may_be_hit, n):
        r = random.Random(n)
        try:
            while time.monotonic() < end:
                token = str(r.random())
                sleep = f"pg_sleep({r.choice([0, 0.001, 0.003, 0.01])})"
                if r.random() < .5:
                    c.send(query(f"SELECT '{token}' FROM (SELECT {sleep}) x"))
                else:
                    c.send(parse("", f"SELECT $1::text FROM (SELECT {sleep}) x") + bind("", "", [token]) + execute() + sync())
                m = c.read_until("Z", 30)
                counts["queries"] += 1
                if "E" in types(m):
                    e = error_of(m)
                    counts["hits"] += 1
                    if not may_be_hit or e.sqlstate != "57014":
                        problems.append(f"{may_be_hit} {e}")
                elif [x.row() for x in m if x.type == "D"] != [[token.encode()]]:
                    problems.append(f"wrong answer {m}")
        except Exception as e:  # pylint: disable=broad-except
            problems.append(repr(e))

    def cancels():
        while time.monotonic() < end:
            try:
                random.choice(victims).cancel()
            except (PgError, OSError) as e:
                problems.append(repr(e))
    threads = [threading.Thread(target=work, args=(c, c in victims, n)) for n, c in enumerate(victims + strangers)]
    threads += [threading.Thread(target=cancels) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not problems, problems[:5]
    assert counts["hits"] > 10 and counts["queries"] > 200, counts
