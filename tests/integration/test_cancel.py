"""Cancel requests: they reach the right query or nothing at all."""
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
