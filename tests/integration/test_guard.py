"""The guard: what a replica refuses, or dies over, runs once more elsewhere, and the client sees the good answer only.

The functions here are marked PARALLEL SAFE, so that they count as reads whatever they do.
"""
import re
import threading

import psycopg2
import pytest
from conftest import Cluster, wait_until
from rawpg import bind, describe, execute, parse, query, sync

# What a replica may say, whether the answer then comes from elsewhere, and whether it is remembered.
SAID = [
    ("25006", "cannot execute INSERT", True, True),
    ("0A000", "cannot access temporary or unlogged relations during recovery", True, True),
    ("0A000", "cannot use serializable mode in a hot standby", True, True),
    ("0A000", "something else that is not supported", False, False),
    ("55000", "recovery is in progress", True, True),
    ("55000", "currval is not yet defined in this session", False, False),
    ("42P01", "not replayed yet", True, False),
    ("42703", "not replayed yet", True, False),
    ("42883", "not replayed yet", True, False),
    ("42704", "not replayed yet", True, False),
    ("3F000", "not replayed yet", True, False),
    ("42501", "not replayed yet", True, False),
    ("40001", "canceling statement due to conflict with recovery", True, False),
    ("40P01", "canceling statement due to conflict with recovery", True, False),
    ("40001", "could not serialize access", False, False),
    ("40P01", "deadlock detected", False, False),
    ("57P01", "going away", True, False),
    ("57P02", "going away", True, False),
    ("57P03", "going away", True, False),
    ("57P04", "going away", True, False),
    ("53300", "too many clients", True, False),
    ("08006", "lost somebody", True, False),
    ("57014", "canceling statement due to user request", False, False),
    ("22012", "division by zero", False, False),
]

SCHEMA = """
DROP SCHEMA IF EXISTS guarded CASCADE;
CREATE SCHEMA guarded;
GRANT USAGE ON SCHEMA guarded TO PUBLIC;
SET search_path = guarded;
CREATE FUNCTION says(code text, message text) RETURNS int LANGUAGE plpgsql PARALLEL SAFE AS $$
  BEGIN
    IF pg_is_in_recovery() THEN RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message; END IF;
    RETURN 7;
  END $$;
CREATE VIEW calm AS SELECT says('22012', 'never') * 0 AS n WHERE random() > 2;
CREATE TABLE written (n int);
CREATE FUNCTION writes() RETURNS int LANGUAGE sql PARALLEL SAFE AS 'INSERT INTO guarded.written VALUES (7) RETURNING n';
CREATE VIEW writing AS SELECT writes() AS n;
CREATE UNLOGGED TABLE unlogged AS SELECT 7 AS n;
CREATE FUNCTION reads_unlogged() RETURNS int LANGUAGE plpgsql PARALLEL SAFE AS $$BEGIN RETURN (SELECT n FROM guarded.unlogged); END$$;
CREATE VIEW unlogging AS SELECT reads_unlogged() AS n;
CREATE FUNCTION wal() RETURNS int LANGUAGE plpgsql PARALLEL SAFE AS $$BEGIN PERFORM pg_current_wal_lsn(); RETURN 7; END$$;
CREATE VIEW position AS SELECT wal() AS n;
CREATE FUNCTION nap() RETURNS int LANGUAGE plpgsql PARALLEL SAFE AS $$
  BEGIN
    IF pg_is_in_recovery() THEN PERFORM pg_sleep(60); END IF;
    RETURN 7;
  END $$;
CREATE VIEW napping AS SELECT nap() AS n;
CREATE FUNCTION shy() RETURNS int LANGUAGE plpgsql PARALLEL SAFE AS $$
  BEGIN
    IF current_setting('application_name') = current_setting('extra_float_digits') THEN
      RAISE EXCEPTION USING ERRCODE = '57P01', MESSAGE = 'not here';
    END IF;
    RETURN current_setting('extra_float_digits')::int;
  END $$;
CREATE VIEW shying AS SELECT shy() AS n;
CREATE TABLE vacuumed AS SELECT generate_series(1, 1000) AS n;
""" + "".join(f"CREATE VIEW says_{i} AS SELECT says('{code}', '{message}') AS n;\n" for i, (code, message, *_) in enumerate(SAID)) + """
GRANT ALL ON ALL TABLES IN SCHEMA guarded TO PUBLIC;
"""


def make_schema(cluster):
    db = cluster.connect()
    with db.cursor() as cursor:
        cursor.execute(SCHEMA)
    db.close()
    cluster.wait_replayed()


@pytest.fixture
def schema(cluster):
    make_schema(cluster)


def guarded(pgweir, cluster, **options):
    """A pgweir that knows that the views are reads (when it reads the catalog), with all replicas in use."""
    weir = pgweir(cluster=cluster, log_routes="all", **options)
    replicas = len(cluster.nodes) - 1
    wait_until(lambda: sum(n["role"] == "replica" and n["reads"] == "yes" for n in weir.show("NODES")) == replicas, 10, "replicas")

    def calm_on_replica():
        since = len(weir.log())
        weir.sql("SELECT n FROM guarded.calm")
        wait_logged(weir, since)
        return decisions(weir, since)[-1]["route"] == "replica"
    wait_until(calm_on_replica, 10, "views are read on replicas")
    return weir


@pytest.fixture
def weir(schema, cluster, pgweir):
    return guarded(pgweir, cluster)


def wait_logged(weir, since, clients=1):
    """Until all is in the log that these clients, which have left, caused."""
    wait_until(lambda: weir.log()[since:].count(" client.logout ") >= clients, 10, f"{clients} clients are logged out")


def decisions(weir, since=0):
    return [dict(re.findall(r"(\w+)=(\S*)", x)) for x in weir.log()[since:].splitlines() if " route.decision " in x]


def refusals(weir, since=0):
    return re.findall(r"route\.replica_refused.*sqlstate=(\w+)", weir.log()[since:])


def learnt(weir, since=0):
    return re.findall(r"route\.learned.* sqlstate=(\w+)", weir.log()[since:])


def code_of(run):
    """The rows, or the SQLSTATE of the error."""
    try:
        return run()
    except psycopg2.Error as e:
        return e.pgcode or str(e)  # of a FATAL psycopg2 keeps the text only


def test_each_sqlstate(weir):
    """Each client is new, so that what it saw on the primary does not keep it there."""
    for i, (code, message, elsewhere, remembered) in enumerate(SAID):
        since, statement = len(weir.log()), f"SELECT n FROM guarded.says_{i}"
        for again in range(3):
            assert code_of(lambda: weir.sql(statement)) == ([(7,)] if elsewhere else code), (code, message)
        wait_logged(weir, since, 3)
        seen = [(d["route"], d["reason"]) for d in decisions(weir, since)]
        first, second = ("replica", "read"), ("primary", "rerun")
        if remembered:
            assert seen == [first, second, *[("primary", "learned")] * 2], (code, message)
        else:
            assert seen == ([first, second] * 3 if elsewhere else [first] * 3), (code, message)
        assert learnt(weir, since) == [code] * remembered
        assert refusals(weir, since) == [code] * (elsewhere * (1 if remembered else 3))


def test_what_a_real_standby_refuses_for_good_is_asked_of_it_once(cluster, weir):
    """Other clients, other workers, the extended protocol: the mistake has been made."""
    expected = {"writing": "25006", "unlogging": "0A000", "position": "55000"}
    for view, code in expected.items():
        since = len(weir.log())
        for _ in range(4):  # over both workers
            assert weir.sql(f"SELECT n FROM guarded.{view}") == [(7,)]
        with weir.raw().login("app_scram", "app", "secret") as c:
            c.send(parse("", f"SELECT n FROM guarded.{view}"), bind("", ""), describe("P"), execute(), sync())
            assert [m.type for m in c.read_until("Z")] == ["1", "2", "T", "D", "C", "Z"]
            assert c.rows(f"select  n from guarded.{view} -- the same to a fingerprint") == [["7"]]
        wait_logged(weir, since, 5)
        assert (refusals(weir, since), learnt(weir, since)) == ([code], [code]), view
        assert code in weir.wait_log(r"route\.learned db=app fingerprint=\d+ sqlstate=" + code + r" node=127\.0\.0\.1:", since=since)
    assert cluster.sql("primary", "SELECT count(*) FROM guarded.written") == [(6,)]
    since = len(weir.log())
    assert weir.sql("SELECT n FROM guarded.calm") == []
    wait_logged(weir, since)
    assert [d["route"] for d in decisions(weir, since)] == ["replica"]


def test_a_read_only_transaction_gets_its_own_error(weir):
    with weir.raw().login("app_scram", "app", "secret") as c:
        answer = c.query("BEGIN READ ONLY; SELECT n FROM guarded.writing; COMMIT")
        assert [m.fields()["C"] for m in answer if m.type == "E"] == ["25006"]
        c.query("ROLLBACK")
        since = len(weir.log())
    wait_logged(weir, since)
    assert learnt(weir) == refusals(weir) == []


def in_background(run):
    """Calls run() in a thread; a function that waits for what it returned."""
    found = []
    thread = threading.Thread(target=lambda: found.append(code_of(run)))
    thread.start()

    def wait():
        thread.join(30)
        assert found, "no answer within 30 s"
        return found[0]
    return wait


def napping(cluster, node):
    return cluster.sql(node, "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%guarded.napping%'"
                             " AND pid <> pg_backend_pid()")


def test_a_terminated_backend(cluster, weir):
    since = len(weir.log())
    answer = in_background(lambda: weir.sql("SELECT n FROM guarded.napping"))
    ((pid,),) = wait_until(lambda: napping(cluster, "replica1"), 10, "the read runs on the replica")
    cluster.sql("replica1", "SELECT pg_terminate_backend(%s)", pid)
    assert answer() == [(7,)]
    wait_logged(weir, since)
    assert refusals(weir) == ["57P01"] and learnt(weir) == []


def test_a_canceled_query_is_told_and_not_run_again(cluster, weir):
    since = len(weir.log())
    answer = in_background(lambda: weir.sql("SELECT n FROM guarded.napping"))
    ((pid,),) = wait_until(lambda: napping(cluster, "replica1"), 10, "the read runs on the replica")
    cluster.sql("replica1", "SELECT pg_cancel_backend(%s)", pid)
    assert answer() == "57014"
    wait_logged(weir, since)
    assert refusals(weir) == []


def test_after_a_row_nothing_is_run_again(cluster, weir):
    sql = "SELECT CASE WHEN n < 50000 THEN 0 ELSE (SELECT n FROM guarded.napping) END FROM generate_series(1, 50000) n"
    with weir.raw().login("app_scram", "app", "secret") as c:
        since = len(weir.log())
        c.send(query(sql))
        c.read_until("D")
        ((pid,),) = wait_until(lambda: napping(cluster, "replica1"), 10, "the read sleeps on the replica")
        cluster.sql("replica1", "SELECT pg_terminate_backend(%s)", pid)
        assert c.read_until("E")[-1].fields()["C"] == "57P01"
        assert [d["route"] for d in decisions(weir, since)] == ["replica"]


def test_a_replica_killed_in_the_middle_of_a_read(cluster, weir):
    since = len(weir.log())
    answer = in_background(lambda: weir.sql("SELECT n FROM guarded.napping"))
    wait_until(lambda: napping(cluster, "replica1"), 10, "the read runs on the replica")
    cluster.kill("replica1")
    assert answer() == [(7,)]
    wait_logged(weir, since)
    assert [(d["route"], d["reason"]) for d in decisions(weir)][-2:] == [("replica", "read"), ("primary", "rerun")]


@pytest.mark.deadline(120)
def test_with_two_replicas(new_cluster, pgweir):
    """Another fresh replica takes the read; never the same one, never a third try."""
    cluster = new_cluster("--replicas", 2, "--replica-conf", "max_standby_streaming_delay=100ms")
    make_schema(cluster)
    weir = guarded(pgweir, cluster)
    ports = {str(port): node for node, port in cluster.ports.items()}

    def nodes_of(run):
        since = len(weir.log())
        found = code_of(run)
        wait_logged(weir, since)
        return found, [ports[d["node"].rsplit(":", 1)[1]] for d in decisions(weir, since)]

    # One replica refuses, the other answers. Which one is asked first is chance.
    digits = {node: cluster.sql(node, "SHOW extra_float_digits")[0][0] for node in cluster.nodes}
    seen = set()
    for _ in range(60):
        found, nodes = nodes_of(lambda: weir.sql("SELECT n FROM guarded.shying", application_name=digits["replica1"]))
        assert found == [(int(digits["replica2"]),)]
        seen.add(tuple(nodes))
        if len(seen) == 2:
            break
    assert seen == {("replica1", "replica2"), ("replica2",)}
    assert learnt(weir) == []

    # Both refuse: the second answer is told, and there is no third try.
    i = next(i for i, said in enumerate(SAID) if said[0] == "57P03")
    found, nodes = nodes_of(lambda: weir.sql(f"SELECT n FROM guarded.says_{i}"))
    assert found == "57P03" and sorted(nodes) == ["replica1", "replica2"]

    # A real conflict with recovery, on whichever replica naps; then the other naps, until it is told to end.
    with weir.raw().login("app_scram", "app", "secret") as c:
        c.send(query("SELECT n FROM guarded.napping"))
        first = wait_until(lambda: next((n for n in ("replica1", "replica2") if napping(cluster, n)), None), 10, "a nap")
        second = {"replica1": "replica2", "replica2": "replica1"}[first]
        cluster.sql("primary", "DELETE FROM guarded.vacuumed")
        cluster.sql("primary", "VACUUM guarded.vacuumed")
        ((pid,),) = wait_until(lambda: napping(cluster, second), 20, "the other replica naps")
        cluster.sql(second, "SELECT pg_terminate_backend(%s)", pid)
        error = c.read_until("E")[-1].fields()
        assert refusals(weir)[-1] == "40001"
        assert error["C"] in ("57P01", "40001"), error  # it has been run twice: what comes now is told


def test_a_conflict_with_recovery_runs_on_the_primary_without_another_replica(new_cluster, pgweir):
    cluster = new_cluster("--replicas", 1, "--replica-conf", "max_standby_streaming_delay=100ms")
    make_schema(cluster)
    weir = guarded(pgweir, cluster)
    since = len(weir.log())
    answer = in_background(lambda: weir.sql("SELECT n FROM guarded.napping"))
    wait_until(lambda: napping(cluster, "replica1"), 10, "the read runs on the replica")
    cluster.sql("primary", "DELETE FROM guarded.vacuumed")
    cluster.sql("primary", "VACUUM guarded.vacuumed")
    assert answer() == [(7,)]
    wait_logged(weir, since)
    assert refusals(weir) == ["40001"] and learnt(weir) == []


def test_log_routes_sample_logs_one_decision_in_a_hundred(schema, cluster, pgweir):
    many = 4000
    weir = pgweir(log_routes="sample")
    weir.wait_reads_on_replica()
    with weir.raw().login("app_scram", "app", "secret") as c:
        for _ in range(many // 20):
            c.send(*[query("SELECT 1")] * 20)
            for _ in range(20):
                c.read_until("Z")
        since = len(weir.log())
    wait_logged(weir, since)
    lines = decisions(weir)
    assert many // 400 < len(lines) < many // 25, len(lines)  # 40 are expected
    assert {"client", "db", "class", "route", "reason", "node", "lag_ms", "wait_us"} <= set(lines[-1])
    assert Cluster.WHO not in weir.log()
