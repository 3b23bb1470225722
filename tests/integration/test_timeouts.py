"""Timeouts of clients, of PgBouncer's names, with PostgreSQL's SQLSTATEs; and what becomes of the server."""
import time

import pytest
from conftest import wait_until
from protocol import error_of, login, types
from rawpg import bind, execute, parse, query, sync


def start(cluster, pgweir, entry="", users=(), **options):
    sections = "[users]\n" + "\n".join(users) if users else ""
    return pgweir(databases={"app": cluster.entry(["primary"]) + " " + entry}, workers=1, sections=sections, **options)


def fatal(client, deadline_s=20):
    """What ends the connection, and when."""
    began = time.monotonic()
    e = error_of(client.read_until("E", deadline_s))
    assert e.fields["S"] == "FATAL"
    client.expect_closed()
    return e.sqlstate, time.monotonic() - began


@pytest.mark.parametrize("where", ["global", "database", "user"])
def test_query_timeout(cluster, pgweir, where):
    """Also of a user, who counts before his database; the query is cancelled at the server."""
    short, none = "query_timeout=400ms", "query_timeout=0"
    weir = start(cluster, pgweir, entry={"global": "", "database": short, "user": none}[where],
                 users=[f"app_scram = {short if where == 'user' else ''}"] if where == "user" else (),
                 query_timeout="400ms" if where == "global" else 0)
    c, other = login(weir.port), login(weir.port)
    for _ in range(5):
        assert c.rows("SELECT 1") == [["1"]]
    c.query("BEGIN")
    c.send(query("SELECT pg_sleep(30), 'sleeper'"))
    sqlstate, took = fatal(c)
    assert sqlstate == "57014" and 0.38 < took < 10
    wait_until(lambda: cluster.active("sleeper") == 0)
    assert other.rows("SELECT 1") == [["1"]]


def test_query_timeout_counts_each_query_of_its_own(cluster, pgweir):
    weir = start(cluster, pgweir, query_timeout="1500ms")
    c = login(weir.port)
    c.query("BEGIN")
    c.send(query("SELECT pg_sleep(0.6)") * 4)  # 2.4 s together
    for _ in range(4):
        assert types(c.read_until("Z")) == "TDCZ"
    assert types(c.query("COMMIT")) == "CZ"


def test_a_write_that_query_timeout_ends_has_an_unknown_outcome(cluster, pgweir):
    weir = start(cluster, pgweir, query_timeout="300ms")
    cluster.sql("primary", "CREATE TABLE IF NOT EXISTS slow (n int); GRANT ALL ON slow TO PUBLIC")
    try:
        c = login(weir.port)
        c.send(query("INSERT INTO slow SELECT 1 FROM pg_sleep(30)"))
        assert fatal(c)[0] == "08007"
        wait_until(lambda: cluster.active("INSERT INTO slow") == 0)
    finally:
        cluster.sql("primary", "DROP TABLE slow")


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN; SELECT 1", None])
def test_transaction_timeout(cluster, pgweir, begin):
    """From its BEGIN, whoever answered that, over all of its statements; of a statement alone too."""
    weir = start(cluster, pgweir, transaction_timeout="700ms")
    c = login(weir.port)
    began = time.monotonic()
    if begin:
        c.query(begin)
        assert types(c.query("SELECT pg_sleep(0.1)")) == "TDCZ" and c.status == "T"
    else:
        c.send(query("SELECT pg_sleep(30), 'sleeper'"))
    assert fatal(c)[0] in (("25P04",) if begin else ("25P04", "08007"))  # 08007: what it calls was not known to be a read
    assert 0.65 < time.monotonic() - began < 10
    wait_until(lambda: not cluster.sql("primary", "SELECT 1 FROM pg_stat_activity WHERE usename = 'app_scram' AND state <> 'idle'"))


def test_many_short_transactions_have_no_timeout(cluster, pgweir):
    weir = start(cluster, pgweir, transaction_timeout="1s", query_timeout="1s", client_idle_timeout="1s")
    c = login(weir.port)
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        c.query("BEGIN")
        assert types(c.query("SELECT pg_sleep(0.05)")) == "TDCZ"
        c.query("COMMIT")
        c.send(parse("", "SELECT 1") + bind("", "") + execute() + sync())
        assert types(c.read_until("Z")) == "12DCZ"


def test_client_idle_timeout(cluster, pgweir):
    """Not of one that waits for an answer, or is in a transaction; and a reload makes it hold for those that idle already."""
    weir = start(cluster, pgweir)
    idle, busy, within = (login(weir.port) for _ in range(3))
    idle.rows("SELECT 1")
    within.query("BEGIN; SELECT 1")
    busy.send(query("SELECT pg_sleep(2)"))
    weir.reload(client_idle_timeout="600ms")
    sqlstate, took = fatal(idle)
    assert sqlstate == "57P05" and took < 10
    assert types(busy.read_until("Z")) == "TDCZ"
    assert fatal(busy)[0] == "57P05"
    assert types(within.query("COMMIT")) == "CZ"
    assert fatal(within)[0] == "57P05"


def test_idle_transaction_timeout_of_a_user(cluster, pgweir):
    weir = start(cluster, pgweir, users=["app_scram = idle_transaction_timeout=400ms"])
    c = login(weir.port)
    c.query("BEGIN; SELECT 1")
    assert fatal(c)[0] == "25P03"
    other = weir.raw().login("app_plain", "app", "secret")
    other.query("BEGIN; SELECT 1")
    assert other.silent(0.8)


def test_who_waits_for_a_server_is_not_idle_and_asks_nothing(cluster, pgweir):
    weir = start(cluster, pgweir, default_pool_size=1, query_timeout="700ms", client_idle_timeout="700ms", queue_timeout="20s")
    holder, c = login(weir.port), login(weir.port)
    holder.query("BEGIN; SELECT 1")
    c.send(query("SELECT 1"))
    assert c.silent(1.5)
    holder.query("COMMIT")
    assert types(c.read_until("Z")) == "TDCZ"
