"""SHOW ROUTES, SHOW PRIMARY_READS and SHOW LAG: where statements went, why reads stayed on the primary, who is behind."""
import re

import psycopg2
import pytest
from conftest import wait_until
from rawpg import bind, execute, parse, sync

SCHEMA = """
CREATE TABLE IF NOT EXISTS shown (n int, t text);
GRANT ALL ON shown TO PUBLIC;
"""


@pytest.fixture
def weir(cluster, pgweir):
    db = cluster.connect()
    with db.cursor() as cursor:
        cursor.execute(SCHEMA)
    db.close()
    cluster.wait_replayed()
    weir = pgweir(workers=2, log_routes="all")
    weir.wait_reads_on_replica()
    wait_until(lambda: reads_on_replica(weir), 10, "a table is read on the replica")
    return weir


def reads_on_replica(weir):
    before = routes(weir).get(("read", "replica", "read"), 0)
    weir.sql("SELECT n FROM shown")
    return routes(weir).get(("read", "replica", "read"), 0) > before


def routes(weir):
    return {(r["class"], r["route"], r["reason"]): r["count"] for r in weir.show("ROUTES")}


def primary_reads(weir):
    return {(r["sample"], r["reason"]): r["count"] for r in weir.show("PRIMARY_READS")}


def test_each_decision_is_counted_with_its_class_route_and_reason(weir):
    before = routes(weir)
    for _ in range(6):  # by clients on both workers
        weir.sql("SELECT count(*) FROM shown")
    weir.sql("INSERT INTO shown VALUES (1)")
    weir.sql("SELECT n FROM shown FOR UPDATE")
    rows = weir.show("ROUTES")
    after = {(r["class"], r["route"], r["reason"]): r["count"] for r in rows}
    grown = {key: count - before.get(key, 0) for key, count in after.items() if count != before.get(key, 0)}
    assert grown == {("read", "replica", "read"): 6, ("write", "primary", "write"): 1, ("locking_read", "primary", "locking_read"): 1}
    counts = [r["count"] for r in rows]
    assert counts == sorted(counts, reverse=True)
    assert all(r["share"] == f"{100 * r['count'] / sum(counts):.1f}%" for r in rows)


def test_why_reads_stayed_on_the_primary(weir):
    weir.sql("SELECT n, 'a secret' FROM shown WHERE t = 'another secret' OR n = 4711 FOR UPDATE /* secret */")
    for n in range(5):
        weir.sql(f"SELECT  n FROM shown\n WHERE n = {n} FOR UPDATE")
    with weir.raw().login("app_scram", "app", "secret") as c:
        for n in range(3):  # with parameters, and prepared
            c.send(parse("", "SELECT n FROM shown WHERE n = $1::int FOR SHARE"), bind("", "", [n]), execute(), sync())
            c.read_until("Z")
        c.send(parse("p", "SELECT t FROM shown WHERE n = $1::int FOR SHARE"), sync())
        c.read_until("Z")
        for n in range(2):
            c.send(bind("", "p", [n]), execute(), sync())
            c.read_until("Z")
        for n in range(4):  # in a transaction that could write
            c.query("BEGIN")
            c.query(f"SELECT n + {n} FROM shown")
            c.query(f"SELECT n - {n} FROM shown")
            c.query("INSERT INTO shown VALUES (2)")
            c.query("COMMIT")
        c.query("SELECT t || 'x' FROM shown")  # right behind a write: has not been replayed
    rows = weir.show("PRIMARY_READS")
    found = {(r["sample"], r["reason"]): r["count"] for r in rows}
    assert {("SELECT n, ? FROM shown WHERE t = ? OR n = ? FOR UPDATE", "locking_read"): 1,
            ("SELECT n FROM shown WHERE n = ? FOR UPDATE", "locking_read"): 5,
            ("SELECT n FROM shown WHERE n = $1::int FOR SHARE", "locking_read"): 3,
            ("SELECT t FROM shown WHERE n = $1::int FOR SHARE", "locking_read"): 3,
            ("SELECT n + ? FROM shown", "transaction"): 4,
            ("SELECT n - ? FROM shown", "held"): 4}.items() <= found.items(), found
    assert "secret" not in str(rows) and "4711" not in str(rows) and "INSERT" not in str(rows) and "COMMIT" not in str(rows)
    assert all(0 <= r["last_seen_ms"] < 60000 and len(r["sample"].encode()) <= 100 for r in rows)
    counts = [r["count"] for r in rows]
    assert counts == sorted(counts, reverse=True)
    fingerprint = next(r["fingerprint"] for r in rows if r["count"] == 5)
    assert re.fullmatch(r"[1-9]\d{5,20}", fingerprint)


def test_reads_on_a_replica_leave_no_trace_among_the_primary_reads(weir):
    for _ in range(3):
        weir.sql("SELECT n * 3 FROM shown")
    assert not [sample for sample, _ in primary_reads(weir) if "n * ?" in sample]


def test_a_long_sample_is_cut_between_characters(weir):
    weir.sql("SELECT " + ", ".join(f'n AS "spalte_ä_{i}"' for i in range(40)) + " FROM shown FOR UPDATE")
    (sample,) = [s for s, _ in primary_reads(weir) if "spalte" in s]
    assert 95 <= len(sample.encode()) <= 100


def test_many_different_reads_do_not_push_out_the_frequent_ones(weir):
    with weir.raw().login("app_scram", "app", "secret") as c:
        for i in range(1500):
            c.query(f"SELECT n AS column_{i} FROM shown FOR SHARE")
            if i % 3 == 0:
                c.query("SELECT n AS frequent FROM shown FOR SHARE")
    rows = weir.show("PRIMARY_READS")
    assert len(rows) == 100
    assert rows[0]["sample"] == "SELECT n AS frequent FROM shown FOR SHARE" and 400 <= rows[0]["count"] <= 500


def lag(weir, node):
    return next(r for r in weir.show("LAG") if r["node"].endswith(f":{node}"))


def test_lag_tells_each_nodes_position(cluster, weir):
    cluster.sql("primary", "INSERT INTO shown VALUES (3)")

    def caught_up():
        primary, replica = (lag(weir, cluster.ports[n]) for n in ("primary", "replica1"))
        return primary["flush_lsn"] == replica["replay_lsn"] and (primary, replica)
    primary, replica = wait_until(caught_up, 10, "the replica has replayed all")
    assert (primary["databases"], primary["role"], primary["timeline"], primary["eligible"]) == ("app", "primary", 1, "no")
    assert (replica["role"], replica["timeline"], replica["eligible"], replica["why_not"]) == ("replica", 1, "yes", "")
    assert primary["insert_lsn"] and primary["receive_lsn"] is primary["replay_lsn"] is primary["lag_ms"] is None
    assert replica["receive_lsn"] and replica["insert_lsn"] is replica["flush_lsn"] is None
    assert (replica["lag_ms"], replica["lag_bytes"]) == (0, 0) and 0 <= replica["sample_age_ms"] < 10000


def test_lag_tells_why_a_replica_is_not_eligible(cluster, weir):
    cluster.pause("replica1")
    cluster.sql("primary", "INSERT INTO shown SELECT 1 FROM generate_series(1, 1000)")
    row = wait_until(lambda: (r := lag(weir, cluster.ports["replica1"]))["eligible"] == "no" and r, 15, "it lags")
    assert row["why_not"] == "lag" and row["lag_ms"] > 1000 and row["lag_bytes"] > 0
    cluster.resume("replica1")
    wait_until(lambda: lag(weir, cluster.ports["replica1"])["eligible"] == "yes", 15, "it is back")


def test_entries_that_share_their_nodes_share_rows(cluster, pgweir):
    weir = pgweir(databases={"app": cluster.entry(), "other": cluster.entry(), "single": cluster.entry(["primary"])})
    assert sorted((r["databases"], r["node"].rsplit(":")[1]) for r in weir.show("LAG")) == sorted(
        [("app,other", str(port)) for port in cluster.ports.values()] + [("single", str(cluster.ports["primary"]))])


def test_help_and_who_may_look(cluster, pgweir):
    weir = pgweir(stats_users="app_md5")
    commands = [r["command"] for r in weir.show("HELP")]
    assert {"SHOW ROUTES", "SHOW PRIMARY_READS", "SHOW LAG", "RELOAD"} <= set(commands)
    for command in commands:
        if command.startswith("SHOW"):
            weir.show(command[5:], user="app_md5")
    with pytest.raises(psycopg2.Error, match="neither in admin_users nor in stats_users"):
        weir.show("ROUTES", user="app_plain")
    with pytest.raises(psycopg2.Error, match="Known: .*SHOW ROUTES"):
        weir.show("NOTHING")
