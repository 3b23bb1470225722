"""Floors and lag: how soon a client is back on a replica, tokens, cascades, and how true the lag is."""
import re
import time

import pytest
from conftest import Cluster, wait_until
from loads import Readers, Writers
from protocol import login

PROBES = {"lag_poll_interval": "100ms", "probe_timeout": "500ms"}
FLUSHED = "SELECT pg_current_wal_insert_lsn() = pg_current_wal_flush_lsn()"
SAME_PAGE = ("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint / 8192 = "
             "(pg_current_wal_flush_lsn() - '0/0')::bigint / 8192")


@pytest.fixture
def written(cluster):
    cluster.sql("primary", "DROP TABLE IF EXISTS written; CREATE TABLE written (client int, n int);"
                           "GRANT ALL ON written TO PUBLIC")
    cluster.wait_replayed()
    return cluster


def read_node(client):
    return Cluster.node_of(client.rows(Cluster.WHO)[0][0])


# Floors on the primary.

def unflushed(cluster, db):
    """Leaves WAL that nobody will flush: of an open transaction, and not up to the end of a page."""
    with db.cursor() as cursor:
        for _ in range(20):
            db.rollback()
            cluster.sql("primary", "SELECT txid_current()")
            cursor.execute("INSERT INTO written VALUES (0, 0)")
            if cluster.sql("primary", FLUSHED) == [(False,)] and cluster.sql("primary", SAME_PAGE) == [(True,)]:
                return
    raise AssertionError("the primary flushes at once")


def test_wal_that_nobody_flushes_does_not_keep_a_client_on_the_primary(written, pgweir):
    """It would for up to 15 s, PostgreSQL's interval for such WAL. Three times, so that no luck makes it pass."""
    weir = pgweir(cluster=written, **PROBES)
    weir.wait_reads_on_replica()
    db = written.connect()
    db.autocommit = False
    took = []
    for _ in range(3):
        unflushed(written, db)
        with weir.raw().login("app_scram", "app", "secret") as c:
            assert c.rows("SELECT pg_is_in_recovery()") == [["f"]]
            begun = time.monotonic()
            wait_until(lambda: read_node(c) == "replica1", 10, "the client reads on the replica")
            took.append(time.monotonic() - begun)
    db.rollback()
    db.close()
    assert max(took) < 5, took


def test_a_reader_without_a_pause_moves_to_a_replica_that_came_back(new_cluster, pgweir):
    three = new_cluster("--replicas", 2)
    weir = pgweir(cluster=three, **PROBES)
    weir.wait_reads_on_replica()
    three.kill("replica2")
    weir.wait_log(r"node=127\.0\.0\.1:%d .*reason=unreachable" % three.ports["replica2"])
    with Readers(weir, 8) as readers:
        readers.wait_all_from("replica1")
        three.restart("replica2")
        wait_until(lambda: {node for node, _, _ in readers.answers[-200:]} == {"replica1", "replica2"}, 20, "both read")
    assert readers.errors == []


# Tokens.

def test_a_token_carries_a_write_to_another_connection(written, pgweir):
    weir = pgweir(cluster=written, **PROBES)
    weir.wait_reads_on_replica()
    written.pause("replica1")
    with weir.raw().login("app_scram", "app", "secret") as writer, weir.raw().login("app_scram", "app", "secret") as c:
        assert writer.rows("SHOW pgweir.lsn_token") == [["0-0/0"]]
        writer.query("INSERT INTO written VALUES (1, 1)")
        ((token,),) = writer.rows("SHOW pgweir.lsn_token")
        assert re.fullmatch(r"1-[0-9A-F]+/[0-9A-F]+", token)
        assert c.rows("SELECT count(*) FROM written") == [["0"]]  # it has seen nothing of it
        c.query(f"SET pgweir.min_lsn = '{token}'")
        assert c.rows("SELECT count(*) FROM written") == [["1"]]
        assert read_node(c) == "primary"
        with weir.raw().login("app_scram", "app", "secret", options=f"-c pgweir.min_lsn={token}") as third:
            assert third.rows("SELECT count(*) FROM written") == [["1"]]
        with weir.raw().login("app_scram", "app", "secret") as fourth:
            assert fourth.rows(f"/* pgweir: min_lsn={token} */ SELECT count(*) FROM written") == [["1"]]
        written.resume("replica1")
        wait_until(lambda: read_node(c) == "replica1", 10, "the replica got there")
        assert c.rows("SELECT count(*) FROM written") == [["1"]]
        assert c.rows("SHOW pgweir.lsn_token")[0][0] >= token


@pytest.mark.parametrize("token", ["1-FFFFFF/0", "9-0/1", "FFFFFF/0"])
def test_a_token_that_is_never_reached_sends_reads_to_the_primary_at_once(written, pgweir, token):
    weir = pgweir(cluster=written, **PROBES)
    weir.wait_reads_on_replica()
    with weir.raw().login("app_scram", "app", "secret") as c:
        c.query(f"SET pgweir.min_lsn = '{token}'")
        took = []
        for _ in range(50):
            begun = time.monotonic()
            assert read_node(c) == "primary"
            took.append(time.monotonic() - begun)
        assert sorted(took)[25] < 0.2


@pytest.mark.parametrize("consistency", ["eventual", "session", "global"])
def test_a_token_holds_whatever_the_consistency(written, pgweir, consistency):
    weir = pgweir(cluster=written, consistency=consistency, **PROBES)
    weir.wait_reads_on_replica()
    written.pause("replica1")
    ((token,),) = written.sql("primary", "INSERT INTO written VALUES (2, 2); SELECT pg_current_wal_insert_lsn()::text")
    with weir.raw().login("app_scram", "app", "secret") as c:
        assert c.rows("SELECT count(*) FROM written") == [["0"]]
        c.query(f"SET pgweir.min_lsn = '{token}'")
        assert c.rows("SELECT count(*) FROM written") == [["1"]]


def test_a_token_of_what_the_replica_has_received_and_not_replayed(written, pgweir):
    """The floor of a client that reads there is all that the replica has received: it says nothing of the token."""
    weir = pgweir(cluster=written, **PROBES)
    weir.wait_reads_on_replica()
    written.pause("replica1")
    ((lsn,),) = written.sql("primary", "INSERT INTO written VALUES (6, 6); SELECT pg_current_wal_insert_lsn()::text")
    wait_until(lambda: written.sql("replica1", "SELECT pg_last_wal_receive_lsn() >= %s", lsn) == [(True,)])
    with weir.raw().login("app_scram", "app", "secret") as c:
        assert c.rows("SELECT count(*) FROM written") == [["0"]]
        ((token,),) = c.rows("SHOW pgweir.lsn_token")
        assert written.sql("primary", "SELECT %s::pg_lsn >= %s::pg_lsn", token.split("-")[1], lsn) == [(True,)]
        assert c.rows("SELECT count(*) FROM written") == [["0"]]  # home stays good
        c.query(f"SET pgweir.min_lsn = '{lsn}'")
        assert c.rows("SELECT count(*) FROM written") == [["1"]]


def only_samples_that_are_asked_for(weir, **options):
    """From now on, and for as long as a test takes."""
    weir.reload(lag_poll_interval="30s", **options)
    weir.wait_log(r"config\.reload")

    def pauses():
        before = [row["sample_age_ms"] for row in weir.show("LAG")]
        time.sleep(0.3)  # three of the intervals before
        return all(int(now["sample_age_ms"]) >= int(was) + 300 for was, now in zip(before, weir.show("LAG")))
    wait_until(pauses, what="no sample by itself")


def test_a_token_that_cannot_be_told_in_time_is_an_error(written, pgweir):
    weir = pgweir(cluster=written, **PROBES)
    weir.wait_reads_on_replica()
    only_samples_that_are_asked_for(weir)
    with weir.raw().login("app_scram", "app", "secret") as c:
        c.query("INSERT INTO written VALUES (3, 3)")
        written.freeze("primary")
        begun = time.monotonic()
        answer = c.query("SHOW pgweir.lsn_token")
        assert [m.type for m in answer if m.type in "EZ"] == ["E", "Z"]
        assert time.monotonic() - begun < 5
        written.thaw("primary")
        wait_until(lambda: c.query("SHOW pgweir.lsn_token")[0].type == "T", 10, "a token")


@pytest.mark.parametrize("fate", ["gone", "restarted"])
def test_a_token_of_a_client_whose_replica_is_lost(written, pgweir, fate):
    """What it showed then only the primary can tell: a replica that has restarted may be older than it was."""
    weir = pgweir(cluster=written, **PROBES)
    weir.wait_reads_on_replica()
    only_samples_that_are_asked_for(weir, probe_timeout="5s")
    with weir.raw().login("app_scram", "app", "secret") as c:
        written.sql("primary", "INSERT INTO written VALUES (5, 5)")
        written.wait_replayed()
        assert read_node(c) == "replica1"
        written.kill("replica1")
        if fate == "restarted":
            written.restart("replica1")
        ((inserted,),) = written.sql("primary", "SELECT pg_current_wal_insert_lsn()")
        ((token,),) = c.rows("SHOW pgweir.lsn_token")
        # A token never points behind the header (40 bytes at most) of a page of WAL that has nothing else.
        assert written.sql("primary", "SELECT %s::pg_lsn + 40 >= %s::pg_lsn", token.split("-")[1], inserted) == [(True,)]


def test_what_others_wrote_is_seen_at_once_with_global_consistency_only(written, pgweir):
    weir = pgweir(cluster=written, **PROBES)
    weir.wait_reads_on_replica()
    written.pause("replica1")
    with weir.raw().login("app_scram", "app", "secret") as writer, weir.raw().login("app_scram", "app", "secret") as c:
        assert c.rows("SELECT count(*) FROM written") == [["0"]]
        writer.query("INSERT INTO written VALUES (4, 4)")
        assert c.rows("SELECT count(*) FROM written") == [["0"]]
        c.query("SET pgweir.consistency = 'global'")
        assert c.rows("SELECT count(*) FROM written") == [["1"]]
        c.query("SET pgweir.consistency = 'eventual'")
        assert c.rows("SELECT count(*) FROM written") == [["0"]]


# Cascades.

def lag_row(weir, cluster, node):
    return next(r for r in weir.show("NODES") if r["database"] == "leaf" and r["node"].endswith(f":{cluster.ports[node]}"))


def test_a_replica_of_a_replica(new_cluster, pgweir):
    three = new_cluster("--replicas", 2)
    three.sql("primary", "CREATE TABLE written (client int, n int); GRANT ALL ON written TO PUBLIC")
    three.follow("replica2", "replica1")
    three.wait_replayed()
    weir = pgweir(cluster=three, max_lag="500ms", databases={"app": three.entry(["primary", "replica1", "replica2"]),
                                                             "leaf": three.entry(["primary", "replica2"])}, **PROBES)
    weir.wait_log(r"route\.node_eligible database=leaf")
    wait_until(lambda: weir.sql(Cluster.WHO, dbname="leaf") == [(2,)], 10, "reads on the leaf")
    row = lag_row(weir, three, "replica2")
    assert (row["role"], row["timeline"], row["reads"]) == ("replica", 1, "yes")
    since = len(weir.log())
    with Writers(weir, pause_s=0.01, dbname="leaf") as writers:
        three.kill("replica1")  # the leaf is well, and gets nothing any more
        weir.wait_log(r"route\.node_ineligible database=leaf .*reason=lag .*walreceiver=none", 20, since)
        since = len(weir.log())
        three.restart("replica1")
        weir.wait_log(r"route\.node_eligible database=leaf", 20, since)
    assert writers.errors == []


@pytest.mark.parametrize("sql", ["SET TimeZone = 'Asia/Tokyo'", "SELECT set_config('TimeZone', 'Asia/Tokyo', false)"])
def test_a_setting_shows_nothing_that_a_replica_would_have_to_have(written, pgweir, sql):
    """Drivers and frameworks set something at each login: the reads behind that need not wait for a sample."""
    weir = pgweir(cluster=written)
    weir.wait_reads_on_replica()
    for _ in range(10):
        with login(weir.port) as c:
            c.query(sql)
            assert c.rows(Cluster.WHO) == [["1"]] and c.rows("SHOW TimeZone") == [["Asia/Tokyo"]]
