"""Which node a statement runs on, and what a client sees when a replica refuses what it was sent."""
import re

import psycopg2
import pytest
from conftest import Cluster, wait_until
from rawpg import bind, close, describe, execute, flush, parse, query, sync

SCHEMA = """
DROP VIEW IF EXISTS seen, touching;
DROP TABLE IF EXISTS routed, touched, unlogged;
DROP SEQUENCE IF EXISTS routed_seq;
CREATE TABLE routed (n int);
INSERT INTO routed VALUES (1), (2), (3);
CREATE SEQUENCE routed_seq;
GRANT ALL ON routed, routed_seq TO PUBLIC;
CREATE TABLE touched (n int);
GRANT ALL ON touched TO PUBLIC;
CREATE OR REPLACE FUNCTION touch() RETURNS int LANGUAGE sql AS 'INSERT INTO touched VALUES (1) RETURNING n';
CREATE VIEW seen AS SELECT touch() AS n;
CREATE OR REPLACE FUNCTION lie() RETURNS int LANGUAGE sql PARALLEL SAFE AS 'INSERT INTO touched VALUES (1) RETURNING n';
CREATE VIEW touching AS SELECT lie() AS n;
GRANT ALL ON seen, touching TO PUBLIC;
CREATE UNLOGGED TABLE unlogged AS SELECT 7 AS n;
GRANT ALL ON unlogged TO PUBLIC;
"""


@pytest.fixture
def schema(cluster):
    db = cluster.connect()
    with db.cursor() as cursor:
        cursor.execute(SCHEMA)
    db.close()
    cluster.wait_replayed()


@pytest.fixture
def routing(schema, pgweir):
    """A pgweir that logs every decision and has a replica to read from."""
    weir = pgweir(log_routes="all", workers=1)
    weir.wait_reads_on_replica()
    return weir


def decisions(weir, since):
    """The decisions logged after `since` characters of the log, as dicts."""
    lines = [x for x in weir.log()[since:].splitlines() if " route.decision " in x]
    return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines]


def decision_of(weir, run):
    """Calls run() and returns the decision for it, and its node's name."""
    since = len(weir.log())
    run()
    return wait_until(lambda: decisions(weir, since), what="route.decision is logged")[-1]


def node_name(cluster, decision):
    return next(n for n, port in cluster.ports.items() if decision["node"].endswith(f":{port}"))


def refusals(weir):
    return re.findall(r"route\.replica_refused.*sqlstate=(\w+)", weir.log())


def wait_back_on_replica(cluster, client):
    """Until what it saw on the primary is on the replica, and it reads there again. An idle primary may keep WAL
    that no commit has flushed, so there is a commit."""
    cluster.sql("primary", "SELECT txid_current()")
    wait_until(lambda: client.rows(Cluster.WHO) == [["1"]], 5, "the client reads on the replica")


def touched(cluster):
    return cluster.sql("primary", "SELECT count(*) FROM touched")[0][0]


ON_A_REPLICA = [
    ("SELECT count(*) FROM routed", "read"),
    ("select /* c */ n from routed where n = 1 -- for update", "read"),
    ("VALUES (1), (2)", "read"),
    ("TABLE routed", "read"),
    ("WITH a AS (SELECT n FROM routed) SELECT sum(n) FROM a", "read"),
    ("SELECT 'DELETE FROM routed', $$; DROP TABLE routed$$", "read"),
    ("SELECT now(), random(), pg_sleep(0), generate_series(1, 3)", "read"),
    ("SELECT 1; SELECT 2", "read"),
]
ON_THE_PRIMARY = [
    ("INSERT INTO routed VALUES (4)", "write"),
    ("UPDATE routed SET n = n", "write"),
    ("DELETE FROM routed WHERE n = 4", "write"),
    ("SELECT 1; INSERT INTO routed VALUES (4)", "write"),
    ("SELECT n FROM routed FOR UPDATE", "locking_read"),
    ("SELECT n FROM (SELECT n FROM routed FOR KEY SHARE) s", "locking_read"),
    ("WITH d AS (DELETE FROM routed WHERE n = 9 RETURNING n) SELECT * FROM d", "hidden_write"),
    ("SELECT n INTO TEMP routed_copy FROM routed", None),
    ("SELECT nextval('routed_seq')", "writer_function"),
    ("SELECT touch()", "user_function"),
    ("SELECT n FROM seen", "view"),
    ("SELECT n FROM unlogged", "unlogged_table"),
    ("SELECT n FROM no_such_table", "unknown_relation"),
    ("SELECT txid_current()", "xid"),
    ("SELECT pg_is_in_recovery()", "node_identity"),
    ("SELECT relname FROM pg_class LIMIT 1", "catalog_read"),
    ("SELECT pg_advisory_xact_lock(1)", "session_function"),
    ("TRUNCATE touched", None),
    ("ANALYZE routed", "utility"),
    ("BEGIN; SELECT n FROM routed; COMMIT", "tx_control"),
    ("SET work_mem = '5MB'", "session_state"),
    ("NOTIFY somebody", "notify"),
    ("/* only a comment", None),
    # the catalog is stale behind these
    ("CREATE TABLE IF NOT EXISTS routed (n int)", "ddl"),
    ("CALL no_such_procedure()", "call"),
    ("DO $$BEGIN NULL; END$$", None),
]


def run_any(weir, statement):
    """Runs it; an error of PostgreSQL is an answer too."""
    try:
        weir.sql(statement)
    except psycopg2.Error as e:
        assert e.pgcode not in ("25006", "08006", "08007", "08P01"), e


def test_reads_are_sent_to_the_replica(cluster, routing):
    for statement, reason in ON_A_REPLICA:
        decision = decision_of(routing, lambda: run_any(routing, statement))
        assert (node_name(cluster, decision), decision["reason"]) == ("replica1", reason), statement
    assert refusals(routing) == []


def test_everything_else_is_sent_to_the_primary(cluster, routing):
    for statement, reason in ON_THE_PRIMARY:
        decision = decision_of(routing, lambda: run_any(routing, statement))
        assert node_name(cluster, decision) == "primary", (statement, decision)
        assert reason in (None, decision["reason"]), (statement, decision)
    assert refusals(routing) == []


def test_copy_out_reads_the_replica_and_copy_in_writes_the_primary(cluster, routing):
    with routing.raw().login("app_scram", "app", "secret") as c:
        copy_out = decision_of(routing, lambda: c.query("COPY routed TO STDOUT"))
        assert (node_name(cluster, copy_out), copy_out["class"]) == ("replica1", "copy_out")
        assert node_name(cluster, decision_of(routing, lambda: c.query("COPY routed FROM '/dev/null'"))) == "primary"


def test_the_answer_itself_comes_from_the_node_that_the_log_tells(routing):
    decision = decision_of(routing, lambda: routing.sql(Cluster.WHO))
    assert routing.sql(Cluster.WHO) == [(1,)]
    assert {"class": "read", "route": "replica", "reason": "read"}.items() <= decision.items()
    assert int(decision["lag_ms"]) <= 1000 and int(decision["wait_us"]) >= 0


def test_a_transaction_stays_on_the_primary(routing):
    db = routing.connect(autocommit=False)
    with db.cursor() as cursor:
        for _ in range(2):
            cursor.execute(Cluster.WHO)
            assert cursor.fetchone() == (0,)
            cursor.execute("INSERT INTO routed VALUES (5)")
            cursor.execute(Cluster.WHO)
            assert cursor.fetchone() == (0,)
            db.commit()
    db.close()


@pytest.mark.parametrize("begin", ["BEGIN READ ONLY", "START TRANSACTION READ ONLY, ISOLATION LEVEL REPEATABLE READ"])
def test_a_read_only_transaction_runs_on_the_replica(routing, begin):
    with routing.raw().login("app_scram", "app", "secret") as c:
        c.query(begin)
        assert c.status == "T"
        assert c.rows(Cluster.WHO) == [["1"]]
        assert c.rows("SELECT pg_is_in_recovery()") == [["t"]]
        c.query("COMMIT")
        assert c.rows("SELECT pg_is_in_recovery()") == [["f"]]


def test_a_write_in_a_read_only_transaction_is_the_clients_own_error(routing):
    with routing.raw().login("app_scram", "app", "secret") as c:
        c.query("BEGIN READ ONLY")
        assert c.rows(Cluster.WHO) == [["1"]]
        answer = c.query("INSERT INTO routed VALUES (1)")
        assert [m.type for m in answer] == ["E", "Z"] and answer[0].fields()["C"] == "25006"
        assert c.status == "E"
        c.query("ROLLBACK")
        assert c.status == "I"
    assert refusals(routing) == []


def test_an_advisory_lock_is_refused_on_a_replica(routing):
    with routing.raw().login("app_scram", "app", "secret") as c:
        c.query("BEGIN READ ONLY, ISOLATION LEVEL REPEATABLE READ")
        assert c.rows(Cluster.WHO) == [["1"]]
        answer = c.query("SELECT pg_advisory_xact_lock(3)")
        assert [m.type for m in answer] == ["E", "Z"] and answer[0].fields()["C"] == "0A000"
        c.query("ROLLBACK")
        assert c.rows("SELECT 1") == [["1"]]


def test_a_serializable_read_only_transaction_runs_on_the_primary(routing):
    with routing.raw().login("app_scram", "app", "secret") as c:
        c.query("BEGIN READ ONLY, ISOLATION LEVEL SERIALIZABLE")
        assert c.rows(Cluster.WHO) == [["0"]]
        c.query("COMMIT")


# What a replica refuses. A function that is marked PARALLEL SAFE and writes is believed to read.

def test_a_view_that_writes_runs_once_on_the_primary(cluster, routing):
    with routing.raw().login("app_scram", "app", "secret") as c:
        before = touched(cluster)
        answer = c.query("SELECT n FROM touching")
        assert [m.type for m in answer] == ["T", "D", "C", "Z"]
        assert answer[1].row() == [b"1"]
        assert touched(cluster) == before + 1
        assert refusals(routing) == ["25006"]
        wait_back_on_replica(cluster, c)


def test_a_table_that_the_replica_does_not_know_yet_is_read_on_the_primary(cluster, routing):
    cluster.pause("replica1")
    cluster.sql("primary", "CREATE TABLE fresh AS SELECT 8 AS n; GRANT ALL ON fresh TO PUBLIC")
    try:
        assert routing.sql("SELECT n FROM fresh") == [(8,)]
        assert refusals(routing) == []
    finally:
        cluster.sql("primary", "DROP TABLE fresh")


def extended(sql, name=""):
    return parse(name, sql), bind("", name), describe("P"), execute(), sync()


def test_the_extended_protocol_sees_only_the_good_answer(cluster, routing):
    with routing.raw().login("app_scram", "app", "secret") as c:
        before = touched(cluster)
        c.send(*extended("SELECT n FROM touching"))
        assert [m.type for m in c.read_until("Z")] == ["1", "2", "T", "D", "C", "Z"]
        assert touched(cluster) == before + 1
        assert refusals(routing) == ["25006"]


def test_a_prepared_statement_that_a_replica_refuses_runs_on_the_primary_each_time(cluster, routing):
    with routing.raw().login("app_scram", "app", "secret") as c:
        before = touched(cluster)
        c.send(parse("s", "SELECT n FROM touching"), describe("S", "s"), sync())
        assert [m.type for m in c.read_until("Z")] == ["1", "t", "T", "Z"]
        for n in (1, 2, 3):
            c.send(bind("", "s"), execute(), sync())
            assert [m.type for m in c.read_until("Z")] == ["2", "D", "C", "Z"]
            assert touched(cluster) == before + n
        c.send(close("S", "s"), sync())
        assert [m.type for m in c.read_until("Z")] == ["3", "Z"]
        assert set(refusals(routing)) == {"25006"}


def test_a_pipeline_of_segments_is_answered_in_order_though_one_is_refused(cluster, routing):
    with routing.raw().login("app_scram", "app", "secret") as c:
        before = touched(cluster)
        c.send(*extended("SELECT 1"), *extended("SELECT n + 10 FROM touching"), *extended("SELECT 3"), query("SELECT 4"))
        rows = []
        for tags in (["1", "2", "T", "D", "C", "Z"],) * 3 + (["T", "D", "C", "Z"],):
            answer = c.read_until("Z")
            assert [m.type for m in answer] == tags
            rows += [m.row()[0] for m in answer if m.type == "D"]
        assert rows == [b"1", b"11", b"3", b"4"]
        assert touched(cluster) == before + 1


def test_statements_in_one_segment_go_together(cluster, routing):
    with routing.raw().login("app_scram", "app", "secret") as c:
        who = parse("", Cluster.WHO), bind("", ""), execute()
        c.send(*who, parse("w", "INSERT INTO routed VALUES (1)"), bind("", "w"), execute(), sync())
        answer = c.read_until("Z")
        assert [m.type for m in answer] == ["1", "2", "D", "C", "1", "2", "C", "Z"]
        assert answer[2].row() == [b"0"]


def test_a_flush_before_the_end_of_the_segment_sends_it_to_the_primary(routing):
    with routing.raw().login("app_scram", "app", "secret") as c:
        c.send(parse("", Cluster.WHO), bind("", ""), execute(), flush())
        answer = c.read_until("C")
        assert [m.type for m in answer] == ["1", "2", "D", "C"]
        assert answer[2].row() == [b"0"]
        c.send(sync())
        assert [m.type for m in c.read_until("Z")] == ["Z"]


def test_psycopg2_parameters_and_prepared_statements_read_the_replica(routing):
    db = routing.connect()
    with db.cursor() as cursor:
        cursor.execute(Cluster.WHO + " + %s", (40,))
        assert cursor.fetchone() == (41,)
    db.close()
    with routing.raw().login("app_scram", "app", "secret") as c:
        c.send(parse("p", Cluster.WHO + " + $1::int"), sync())
        c.read_until("Z")
        for n in range(3):
            c.send(bind("", "p", [n]), execute(), sync())
            assert c.read_until("Z")[1].row() == [str(1 + n).encode()]


# What is the client's own error.

@pytest.mark.parametrize("statement,sqlstate", [
    ("SELECT 1 / 0", "22012"),
    ("SELECT n / 0 FROM routed", "22012"),
    ("SELECT 'x'::int", "22P02"),
    ("SELECT 1 FORM routed WHERE", "42601"),
    ("SELECT n FROM no_such_table", "42P01"),
    ("SELECT no_such_column FROM routed", "42703"),
    ("SELECT no_such_function(1)", "42883"),
])
def test_the_clients_own_error_comes_once_and_unchanged(cluster, routing, statement, sqlstate):
    with pytest.raises(psycopg2.Error) as direct:
        cluster.sql("primary", statement)
    with routing.raw().login("app_scram", "app", "secret") as c:
        answer = c.query(statement)
        errors = [m.fields() for m in answer if m.type == "E"]
        assert [m.type for m in answer] in (["E", "Z"], ["T", "E", "Z"])
        assert len(errors) == 1 and errors[0]["C"] == sqlstate == direct.value.pgcode
        assert errors[0]["M"] == direct.value.diag.message_primary
        assert errors[0].get("P") == direct.value.diag.statement_position
        c.send(*extended(statement))
        answer = c.read_until("Z")
        assert [m.fields()["C"] for m in answer if m.type == "E"] == [sqlstate]
        assert [m.type for m in answer][-2:] == ["E", "Z"] and c.status == "I"
        wait_back_on_replica(cluster, c)


def test_division_by_zero_on_the_replica_is_not_tried_again(routing):
    decision = decision_of(routing, lambda: run_any(routing, "SELECT 1 / 0"))
    assert decision["route"] == "replica"
    assert refusals(routing) == []


def test_a_statement_timeout_on_the_replica_is_passed_on(cluster, routing):
    with routing.raw().login("app_scram", "app", "secret", options="-c statement_timeout=100") as c:
        answer = c.query("SELECT pg_sleep(10)")
        assert [m.fields()["C"] for m in answer if m.type == "E"] == ["57014"]
        assert refusals(routing) == []


def test_log_routes_none_is_silent_and_changes_tells_changes_only(cluster, pgweir):
    weir = pgweir(log_routes="none")
    weir.wait_reads_on_replica()
    assert "route." not in weir.log()
    weir = pgweir(log_routes="changes")
    weir.wait_reads_on_replica()
    line = weir.wait_log(r"route\.node_eligible")
    assert re.search(rf"node=127\.0\.0\.1:{cluster.ports['replica1']} lag_ms=\d+ max_lag_ms=1000", line)
    assert "route.decision" not in weir.log()


def test_without_a_replica_in_the_list_all_goes_to_the_one_node(cluster, pgweir):
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, log_routes="all")
    assert weir.sql(Cluster.WHO) == [(0,)]
    assert weir.wait_log("route.decision").count("reason=no_split") == 1
