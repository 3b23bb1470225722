"""Replicas that fall behind, hang or die: reads go on from the primary, and come back by themselves."""
import os
import re
import time

import psycopg2
import pytest
from conftest import Cluster, wait_until
from loads import Pgbench, Readers, Writers
from rawpg import Closed, query

PROBES = {"lag_poll_interval": "100ms", "probe_timeout": "500ms"}
PROBE_DEADLINE_S = 0.5
FULL = [("stopped", "simple"), ("killed", "extended"), ("held back", "extended")] if os.environ.get("PGWEIR_FULL") else []
SLACK_S = 1.5  # for a machine that is busy, and sanitizers


@pytest.fixture
def weir(cluster, pgweir):
    """Two workers; `written` is there; the replica serves reads."""
    cluster.sql("primary", "DROP TABLE IF EXISTS written; CREATE TABLE written (client int, n int);"
                           "GRANT ALL ON written TO PUBLIC")
    cluster.wait_replayed()
    one = pgweir(max_lag="500ms", **PROBES)
    one.wait_reads_on_replica()
    return one


def node_row(weir, cluster, node):
    return next(row for row in weir.show("NODES") if row["node"].endswith(f":{cluster.ports[node]}"))


def wait_back(weir, since, deadline_s=10.0):
    return weir.wait_log(r"route\.node_eligible", deadline_s, since)


def test_reads_leave_a_replica_that_lags_and_return(cluster, weir):
    with Writers(weir, pause_s=0.01), Readers(weir) as readers:
        readers.wait_all_from("replica1")
        since, paused_at = len(weir.log()), time.monotonic()
        cluster.pause("replica1")
        line = weir.wait_log(r"route\.node_ineligible", since=since)
        assert time.monotonic() - paused_at < 0.5 + SLACK_S
        assert 500 < int(re.search(r"reason=lag lag_ms=(\d+) max_lag_ms=500 lag_bytes=\d+", line)[1]) < 500 + 1000 * SLACK_S
        readers.wait_all_from("primary")
        row = node_row(weir, cluster, "replica1")
        assert (row["role"], row["reads"], row["why_not"]) == ("replica", "no", "lag")
        assert int(row["lag_ms"]) > 500 and int(row["lag_bytes"]) > 0
        assert node_row(weir, cluster, "primary")["reads"] == "yes"

        since = len(weir.log())
        cluster.resume("replica1")
        wait_back(weir, since)
        readers.wait_all_from("replica1")
        row = node_row(weir, cluster, "replica1")
        assert (row["role"], row["reads"], row["why_not"], row["writes"]) == ("replica", "yes", "", "no")
        row = node_row(weir, cluster, "primary")
        assert (row["role"], row["reads"], row["why_not"], row["writes"]) == ("primary", "no", "is_primary", "yes")
    assert readers.errors == []
    assert weir.log().count("route.node_ineligible") == 1, "one line per change"


def test_an_idle_primary_gives_no_lag(cluster, weir):
    """Nothing is written, so a replica that replays nothing misses nothing."""
    def wal():
        return cluster.sql("primary", "SELECT pg_current_wal_insert_lsn()")[0][0]

    for _ in range(5):  # PostgreSQL itself writes WAL now and then: that is lag
        cluster.sql("primary", "CHECKPOINT")
        cluster.wait_replayed()
        weir.wait_reads_on_replica()
        cluster.pause("replica1")
        before, begun = wal(), time.monotonic()
        with Readers(weir) as readers:
            wait_until(lambda: time.monotonic() - begun > 1.2 and readers.answers, what="longer than max_lag")
        lag_ms = int(node_row(weir, cluster, "replica1")["lag_ms"])
        if wal() == before:
            break
        cluster.resume("replica1")
    assert wal() == before, "the primary is never idle"
    assert {node for node, _, _ in readers.answers} == {"replica1"} and readers.errors == []
    assert lag_ms == 0


def test_lag_in_bytes_has_a_limit_of_its_own(cluster, weir):
    weir.reload(max_lag="1h", max_lag_bytes="64kB")
    weir.wait_log(r"config\.reload")
    since = len(weir.log())
    cluster.pause("replica1")
    cluster.sql("primary", "CREATE TABLE bulky AS SELECT repeat('x', 100) FROM generate_series(1, 5000)")
    weir.wait_log(r"route\.node_ineligible .*reason=lag_bytes .*max_lag_bytes=65536", since=since)
    cluster.resume("replica1")
    wait_back(weir, since)
    cluster.sql("primary", "DROP TABLE bulky")


def test_a_dead_walreceiver_is_lag(cluster, weir):
    since = len(weir.log())
    cluster.sql("replica1", "ALTER SYSTEM SET primary_conninfo = ''; ")
    cluster.sql("replica1", "SELECT pg_reload_conf()")
    try:
        with Writers(weir, pause_s=0.01), Readers(weir) as readers:
            weir.wait_log(r"route\.node_ineligible .*reason=lag", since=since)
            readers.wait_all_from("primary")
    finally:
        since = len(weir.log())
        cluster.follow("replica1", "primary")
    wait_back(weir, since, 20)


def disturb(cluster, how):
    if how == "stopped":
        cluster.freeze("replica1")
    elif how == "killed":
        cluster.kill("replica1")
    else:
        cluster.pause("replica1")


@pytest.mark.parametrize("how", ["stopped", "killed", "held back"])
def test_readers_go_on_while_the_replica_is(how, cluster, weir):
    with Writers(weir, pause_s=0.01) as writers, Readers(weir, 4) as readers:
        readers.wait_all_from("replica1")
        since, at = len(weir.log()), time.monotonic()
        disturb(cluster, how)
        weir.wait_log(r"route\.node_ineligible", since=since)
        readers.wait_all_from("primary")
        assert readers.slowest(since=at) < PROBE_DEADLINE_S + SLACK_S
        since = len(weir.log())
        cluster.settle()
        wait_back(weir, since, 20)
        readers.wait_all_from("replica1", deadline_s=20)
    assert readers.errors == [] and writers.errors == []


@pytest.mark.parametrize("how,mode", [("stopped", "prepared"), ("killed", "prepared"), ("held back", "simple"), *FULL])
def test_pgbench_reads_on_while_the_replica_is(how, mode, cluster, weir):
    assert weir.pgbench(cluster, "-i", "-q", "-s", 1, "-I", "dtg")[0] == 0
    cluster.wait_replayed()
    with Writers(weir, pause_s=0.01) as writers, Pgbench(weir, cluster, "-S", "-M", mode, "-c", 8) as load:
        since = len(weir.log())
        disturb(cluster, how)
        weir.wait_log(r"route\.node_ineligible", since=since)
        seconds = len(load.progress())
        wait_until(lambda: load.progress()[seconds + 1:], what="pgbench goes on from the primary")
        assert load.progress()[-1] > 0
        since = len(weir.log())
        cluster.settle()
        wait_back(weir, since, 20)
        seconds = len(load.progress())
        wait_until(lambda: load.progress()[seconds + 1:], what="pgbench goes on from the replica")
    assert writers.errors == []


def test_a_read_in_flight_on_a_stopped_replica_is_answered_by_the_primary(cluster, weir):
    with weir.raw().login("app_scram", "app", "secret") as c, weir.raw().login("app_scram", "app", "secret") as other:
        assert c.rows(Cluster.WHO) == other.rows(Cluster.WHO) == [["1"]]
        cluster.freeze("replica1")
        asked = time.monotonic()
        assert c.rows(Cluster.WHO) == [["0"]]
        assert other.rows(Cluster.WHO) == [["0"]]
        assert time.monotonic() - asked < PROBE_DEADLINE_S + SLACK_S


def test_a_read_in_flight_on_a_killed_replica_is_answered_by_the_primary(cluster, weir):
    with weir.raw().login("app_scram", "app", "secret") as c:
        assert c.rows(Cluster.WHO) == [["1"]]
        c.send(query("SELECT pg_sleep(3), (17 - length(pi()::text)) / 2"))
        wait_until(lambda: cluster.sql("replica1", "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))
        cluster.kill("replica1")
        answer = c.read_until("Z")
        assert [m.type for m in answer] == ["T", "D", "C", "Z"]
        assert answer[1].row()[1] == b"0"


def test_a_transaction_with_one_snapshot_on_a_killed_replica_is_lost_and_said_so(cluster, weir):
    with weir.raw().login("app_scram", "app", "secret") as c:
        c.query("BEGIN READ ONLY, ISOLATION LEVEL REPEATABLE READ")
        assert c.rows(Cluster.WHO) == [["1"]]
        cluster.kill("replica1")
        c.send(query("SELECT 1"))
        answer = c.expect_closed()
        assert [m.type for m in answer] == ["E"]
        assert (answer[0].fields()["S"], answer[0].fields()["C"]) in (("FATAL", "08006"), ("FATAL", "57P01"))


def test_rows_that_have_left_are_never_followed_by_another_nodes(cluster, weir):
    with weir.raw().login("app_scram", "app", "secret") as c:
        c.send(query("SELECT (17 - length(pi()::text)) / 2, generate_series(1, 10000000)"))
        assert c.read().type == "T"
        assert c.read().row() == [b"1", b"1"]
        cluster.kill("replica1")
        n = 1
        try:
            while (m := c.read()).type == "D":
                n += 1
                assert m.row() == [b"1", str(n).encode()]
            assert m.type == "E" and m.fields()["C"] == "08006"
        except Closed:
            pass  # in the middle of a row: there was no place for an error
        assert n < 10000000


def test_logins_and_writes_go_on_while_the_replica_is_stopped(cluster, weir):
    cluster.freeze("replica1")
    for n in range(5):
        db = weir.connect()
        with db.cursor() as cursor:
            cursor.execute("INSERT INTO written VALUES (0, %s)", (n,))
            cursor.execute("SELECT count(*) FROM written")
            assert cursor.fetchone() == (n + 1,)
        db.close()


def test_with_every_replica_gone_from_the_start_reads_use_the_primary(cluster, pgweir):
    cluster.kill("replica1")
    weir = pgweir(**PROBES)
    assert weir.sql(Cluster.WHO) == [(0,)]
    since = len(weir.log())
    cluster.restart("replica1")
    wait_back(weir, since, 20)
    weir.wait_reads_on_replica()


def test_without_a_probe_login_replicas_get_no_reads_but_all_works(cluster, pgweir):
    weir = pgweir(probe_user="nobody_of_that_name")
    weir.wait_log("probe")
    assert weir.sql(Cluster.WHO) == [(0,)]
    assert psycopg2.extensions.TRANSACTION_STATUS_IDLE == weir.connect().get_transaction_status()
