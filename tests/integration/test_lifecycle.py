"""Ends and new configurations: SIGTERM drains, SIGHUP reloads, nothing is lost by either."""
import os
import signal
import subprocess
import time
from datetime import datetime

import pytest
from conftest import wait_until
from protocol import error_of, login, types
from rawpg import Closed, PgError, RawPg, copy_data, copy_done, query


def is_gone(weir):
    return weir.process.poll() is not None


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_transaction_may_end_and_idle_clients_are_told(cluster, pgweir, sig, workers):
    weir = pgweir(workers=workers)
    idle, busy, running = login(weir.port), login(weir.port), login(weir.port)
    busy.query("BEGIN; SELECT 1")
    busy.query("CREATE TEMP TABLE ending AS SELECT 5 AS n")
    running.send(query("SELECT pg_sleep(1.5), 'finished'"))
    cluster.wait_active("pg_sleep(1.5)")
    weir.process.send_signal(sig)
    (told,) = idle.expect_closed(5)
    assert (told.fields()["S"], told.fields()["C"]) == ("FATAL", "57P01")
    idle.close()
    assert busy.rows("SELECT n FROM ending") == [["5"]]
    assert types(busy.query("COMMIT"))[:2] == "CZ"
    assert [m.fields()["C"] for m in busy.expect_closed(5)] == ["57P01"]
    busy.close()
    assert types(running.read_until("Z")) == "TDCZ"
    running.close()
    assert weir.process.wait(8) == 0


def test_a_transaction_that_does_not_end_is_ended_after_five_seconds(pgweir):
    weir = pgweir()
    c = login(weir.port)
    c.query("BEGIN; SELECT 1")
    start = time.monotonic()
    weir.process.send_signal(signal.SIGTERM)
    c.expect_closed(12)
    c.close()
    assert weir.process.wait(10) == 0
    assert 4 < time.monotonic() - start < 9


def test_nobody_comes_in_any_more(cluster, pgweir):
    weir = pgweir()
    c = login(weir.port)
    half = weir.raw()
    c.query("BEGIN; SELECT 1")
    weir.process.send_signal(signal.SIGTERM)

    def refused():
        try:
            RawPg(weir.port).close()
            return False
        except OSError:
            return True
    wait_until(refused)
    assert half.expect_closed(5) is not None
    assert c.rows("SELECT 1") == [["1"]]
    c.query("COMMIT")
    c.close()
    half.close()
    assert weir.process.wait(8) == 0


def test_the_second_signal_ends_it_at_once(pgweir):
    weir = pgweir()
    c = login(weir.port)
    c.query("BEGIN; SELECT 1")
    weir.process.send_signal(signal.SIGTERM)
    weir.wait_log("signal.received")
    assert c.rows("SELECT 1") == [["1"]]
    start = time.monotonic()
    weir.process.send_signal(signal.SIGTERM)
    wait_until(lambda: is_gone(weir), 3)
    assert time.monotonic() - start < 3


def test_waiting_clients_are_told_at_the_end(cluster, pgweir):
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1, queue_timeout="30s")
    holder, waiter = login(weir.port), login(weir.port)
    holder.query("BEGIN; SELECT 1")
    waiter.send(query("SELECT 1"))
    wait_until(lambda: sum(int(p["cl_waiting"]) for p in weir.show("POOLS")) == 1)
    weir.process.send_signal(signal.SIGTERM)
    assert [m.fields()["C"] for m in waiter.expect_closed(8)] == ["57P01"]
    holder.close()
    waiter.close()
    assert weir.process.wait(8) == 0


def test_a_copy_may_end(cluster, pgweir):
    weir = pgweir()
    c = login(weir.port)
    c.query("BEGIN; SELECT 1")
    c.query("CREATE TEMP TABLE ending (n int)")
    c.send(query("COPY ending FROM STDIN") + copy_data(b"1\n"))
    c.read_until("G")
    weir.process.send_signal(signal.SIGTERM)
    weir.wait_log("signal.received")
    c.send(copy_data(b"2\n") + copy_done())
    assert c.read_until("Z")[0].text == "COPY 2"
    assert types(c.query("COMMIT"))[:2] == "CZ"
    c.close()
    assert weir.process.wait(8) == 0


def health(weir):
    done = subprocess.run([weir.binary, "health", weir.ini], capture_output=True, text=True, timeout=10,
                          env={k: v for k, v in os.environ.items() if not k.startswith("PGWEIR_")})
    return done.returncode, done.stdout.strip()


def test_for_a_while_new_clients_are_still_taken_but_it_is_not_healthy(pgweir):
    weir = pgweir(drain_grace="2s")
    first = login(weir.port)
    assert health(weir) == (0, "healthy")
    weir.process.send_signal(signal.SIGTERM)
    wait_until(lambda: health(weir) == (1, "unhealthy: it is shutting down"))
    late = login(weir.port)
    assert late.rows("SELECT 1") == first.rows("SELECT 1") == [["1"]]
    for c in (first, late):
        assert [m.fields()["C"] for m in c.expect_closed(8)] == ["57P01"]
        c.close()
    assert weir.process.wait(8) == 0


def test_clients_are_told_one_after_the_other(pgweir):
    weir = pgweir(workers=1)
    clients = [login(weir.port) for _ in range(60)]
    weir.process.send_signal(signal.SIGTERM)
    for c in clients:
        assert [m.fields()["C"] for m in c.expect_closed(8)] == ["57P01"]
    assert weir.process.wait(8) == 0
    told = [line.split()[0] for line in weir.log().splitlines() if "sqlstate=57P01" in line]
    assert len(told) == 60
    assert 0.2 < (datetime.fromisoformat(told[-1][:-1]) - datetime.fromisoformat(told[0][:-1])).total_seconds() < 2.5


# SIGHUP

def reload(weir, **options):
    since = len(weir.log())
    weir.reload(**options)
    return weir.wait_log("config", since=since)


def test_a_bad_file_changes_nothing(cluster, pgweir):
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1, queue_timeout="300ms", workers=1)
    c, other = login(weir.port), login(weir.port)
    line = reload(weir, default_pool_size=5, queue_timeout="soon")
    assert "ERROR" in line and "queue_timeout" in weir.log(), line
    c.query("BEGIN; SELECT 1")
    assert error_of(other.query("SELECT 1")).sqlstate == "53300"  # still one server
    c.query("COMMIT")
    assert c.rows("SELECT 1") == [["1"]]


def test_a_missing_file_changes_nothing(pgweir):
    weir = pgweir()
    c = login(weir.port)
    weir.ini.rename(weir.ini.with_suffix(".away"))
    since = len(weir.log())
    weir.process.send_signal(signal.SIGHUP)
    weir.wait_log("ERROR.*pgweir.ini", since=since)
    assert c.rows("SELECT 1") == [["1"]]
    assert login(weir.port).rows("SELECT 1") == [["1"]]
    weir.ini.with_suffix(".away").rename(weir.ini)


def test_a_pool_grows_and_shrinks(cluster, pgweir):
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=1, queue_timeout="500ms", workers=2)
    clients = [login(weir.port) for _ in range(3)]

    def busy():
        """How many of them can have a transaction at the same time."""
        for c in clients:
            c.query("BEGIN; SELECT 1")
        n = sum(c.status == "T" for c in clients)
        for c in clients:
            c.query("COMMIT")
        return n
    assert busy() == 1
    reload(weir, default_pool_size=3)
    wait_until(lambda: busy() == 3)
    reload(weir, default_pool_size=2)
    wait_until(lambda: busy() == 2)
    (count,), = cluster.sql("primary", "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_scram'")
    assert count <= 2


def test_routes_are_logged_from_now_on(pgweir):
    weir = pgweir(log_routes="none")
    c = login(weir.port)
    c.rows("SELECT 'quiet'")
    assert "route.decision" not in weir.log()
    reload(weir, log_routes="all")
    wait_until(lambda: c.rows("SELECT 1") and "route.decision" in weir.log())


def test_a_new_password_holds_at_once_and_clients_stay(pgweir):
    weir = pgweir(auth_type="md5", users={"app": "old"})
    c = weir.raw().login("app", "app", "old")
    weir.write_users({"app": "new", "more": "m"})
    reload(weir)

    def new_works():
        try:
            weir.raw().login("app", "app", "new").close()
            return True
        except PgError:
            return False
    wait_until(new_works)
    with pytest.raises(PgError):
        weir.raw().login("app", "app", "old")
    assert c.rows("SELECT 1") == [["1"]]


def test_a_database_comes_and_goes(cluster, pgweir):
    weir = pgweir()
    c = login(weir.port)
    weir.databases["second"] = cluster.entry(["primary"])
    reload(weir)
    wait_until(lambda: "3D000" not in weir.log() and weir.sql("SELECT 1", dbname="second") == [(1,)])
    del weir.databases["second"]
    reload(weir)

    def gone():
        try:
            weir.raw().login("app_scram", "second", "secret").close()
            return False
        except (PgError, Closed):
            return True
    wait_until(gone)
    assert c.rows("SELECT 1") == [["1"]]


@pytest.mark.parametrize("workers", [1, 4])
def test_a_storm_of_reloads_under_logins_and_queries(pgweir, workers):
    """PgBouncer #826, #968: users and credentials that go away while they are in use."""
    weir = pgweir(workers=workers)
    c = login(weir.port)
    for n in range(40):
        weir.write_users({"app_scram": "secret", "app": f"p{n}"})
        weir.reload(default_pool_size=1 + n % 4, log_routes=("none", "all")[n % 2])
        assert c.rows(f"SELECT {n}") == [[str(n)]]
        half = weir.raw()
        with login(weir.port) as other:
            assert other.rows("SELECT 1") == [["1"]]
        half.close()
