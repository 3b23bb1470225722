"""What only the catalog tells: what may not run on a replica never gets there, and its harmless twin does."""
import re
import threading
from contextlib import closing

import pytest
from conftest import wait_until

SCHEMA = """
DROP SCHEMA IF EXISTS cat CASCADE;
DROP EXTENSION IF EXISTS hstore, citext CASCADE;
CREATE SCHEMA cat;
CREATE EXTENSION hstore;
CREATE EXTENSION citext;
CREATE EXTENSION IF NOT EXISTS file_fdw;
CREATE EXTENSION IF NOT EXISTS xml2;
SET search_path = cat, public;
CREATE TABLE effect (x int);
CREATE TABLE t (id int, v text);
INSERT INTO t VALUES (1, 'one');
CREATE FUNCTION bad(int) RETURNS int LANGUAGE sql AS 'INSERT INTO cat.effect VALUES ($1) RETURNING x';
CREATE FUNCTION stab(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1';
CREATE FUNCTION fine(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION par(int) RETURNS int LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT $1';
CREATE FUNCTION badfield(t) RETURNS int LANGUAGE sql AS 'INSERT INTO cat.effect VALUES (1) RETURNING x';
CREATE FUNCTION finefield(t) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1.id';
CREATE FUNCTION initcap(t) RETURNS text LANGUAGE sql AS 'INSERT INTO cat.effect VALUES (1) RETURNING x::text';
CREATE VIEW v_bad AS SELECT bad(id) FROM t;
CREATE VIEW v_v_bad AS SELECT * FROM v_bad;
CREATE VIEW v_fine AS SELECT fine(id), upper(v) FROM t;
CREATE VIEW v_v_fine AS SELECT * FROM v_fine;
CREATE VIEW v_lock AS SELECT id FROM t FOR SHARE;
CREATE UNLOGGED TABLE ul AS SELECT 1 AS id;
CREATE TABLE parts (id int) PARTITION BY LIST (id);
CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1);
CREATE UNLOGGED TABLE part2 PARTITION OF parts FOR VALUES IN (2);
CREATE TABLE whole (id int) PARTITION BY LIST (id);
CREATE TABLE whole1 PARTITION OF whole FOR VALUES IN (1);
CREATE TABLE heir_parent (id int);
CREATE UNLOGGED TABLE heir () INHERITS (heir_parent);
CREATE SEQUENCE seq;
CREATE SERVER IF NOT EXISTS files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE ft (line text) SERVER files OPTIONS (filename '/etc/hostname');
CREATE FUNCTION chk(int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN INSERT INTO cat.effect VALUES ($1); RETURN true; END';
CREATE TABLE rls_bad AS SELECT 1 AS id;
ALTER TABLE rls_bad ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON rls_bad USING (chk(id));
CREATE TABLE rls_fine AS SELECT 1 AS id;
ALTER TABLE rls_fine ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON rls_fine USING (id IN (SELECT id FROM t) OR current_setting('app.tenant', true) = 'x');
CREATE DOMAIN d_bad AS int CHECK (chk(VALUE));
CREATE DOMAIN d_fine AS int CHECK (VALUE > 0);
CREATE TABLE has_d_bad (d d_bad[]);
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE pair AS (a int, m mood);
CREATE TABLE typed (m mood, p pair, d d_fine);
CREATE FUNCTION op_bad(int, int) RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO cat.effect VALUES ($1); RETURN 1; END';
CREATE OPERATOR ### (LEFTARG = int, RIGHTARG = int, FUNCTION = op_bad);
CREATE OPERATOR @@@ (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl);
CREATE FUNCTION is_not(int, int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN INSERT INTO cat.effect VALUES (1); RETURN false; END';
CREATE FUNCTION is_so(int, int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN true; END';
CREATE OPERATOR ==== (LEFTARG = int, RIGHTARG = int, FUNCTION = is_so, NEGATOR = !===);
CREATE OPERATOR !=== (LEFTARG = int, RIGHTARG = int, FUNCTION = is_not, NEGATOR = ====);
CREATE FUNCTION cast_bad(text) RETURNS pair LANGUAGE plpgsql AS 'BEGIN INSERT INTO cat.effect VALUES (1); RETURN NULL; END';
CREATE CAST (text AS pair) WITH FUNCTION cast_bad(text);
CREATE AGGREGATE agg_bad (int) (SFUNC = op_bad, STYPE = int, INITCOND = '0');
CREATE AGGREGATE agg_fine (int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE TABLE ext (h hstore, c citext);
CREATE TYPE has_bad AS (a d_bad);
CREATE FUNCTION takes_d(d_bad) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1::int';
CREATE FUNCTION takes_row(has_bad) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT ($1).a::int';
CREATE FUNCTION takes_many(VARIADIC d_bad[]) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1[1]::int';
CREATE FUNCTION gives_d(int) RETURNS d_bad LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION gives_out(OUT a d_bad, OUT b int) LANGUAGE sql IMMUTABLE AS 'SELECT 1, 2';
CREATE FUNCTION takes_fine(d_fine) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION step_d(int, d_bad) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $2::int';
CREATE AGGREGATE agg_d (d_bad) (SFUNC = step_d, STYPE = int, INITCOND = '0');
CREATE FUNCTION op_d(d_bad, d_bad) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1::int + $2::int';
CREATE OPERATOR #### (LEFTARG = d_bad, RIGHTARG = d_bad, FUNCTION = op_d);
CREATE FUNCTION pair_int2(pair) RETURNS int2 LANGUAGE sql AS 'INSERT INTO cat.effect VALUES (1) RETURNING x::int2';
CREATE CAST (pair AS int2) WITH FUNCTION pair_int2(pair);
CREATE DOMAIN d_int2 AS int2;
CREATE FUNCTION "a""b"(t) RETURNS int LANGUAGE sql AS 'INSERT INTO cat.effect VALUES (1) RETURNING x';
CREATE FUNCTION "b\u00e4d"(t) RETURNS int LANGUAGE sql AS 'INSERT INTO cat.effect VALUES (1) RETURNING x';
CREATE FUNCTION f23456789012345678901234567890123456789012345678901234567890123(t) RETURNS int LANGUAGE sql
    AS 'INSERT INTO cat.effect VALUES (1) RETURNING x';
CREATE FUNCTION pg_catalog.reverse(cat.t) RETURNS text LANGUAGE sql
    AS 'INSERT INTO cat.effect VALUES (1) RETURNING x::text';
CREATE FUNCTION op_t(t, t) RETURNS int LANGUAGE sql AS 'INSERT INTO cat.effect VALUES (1) RETURNING x';
CREATE OPERATOR pg_catalog.+ (LEFTARG = cat.t, RIGHTARG = cat.t, FUNCTION = op_t);
GRANT USAGE ON SCHEMA cat TO PUBLIC;
GRANT ALL ON ALL TABLES IN SCHEMA cat TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA cat TO PUBLIC;
"""

# Statement, reason, what cat.effect gains by it. The statement runs with search_path = cat, public.
NEVER_ON_A_REPLICA = [
    ("SELECT bad(1)", "user_function", 1),
    ("SELECT cat.bad(1)", "user_function", 1),
    ("SELECT stab(1)", "user_function", 0),
    ("SELECT t.badfield FROM t", "user_function", 1),
    ("SELECT (x).badfield FROM t AS x", "user_function", 1),
    ("SELECT initcap(t) FROM t", "user_function", 1),
    ("SELECT * FROM v_bad", "view", 1),
    ("SELECT * FROM cat.v_v_bad", "view", 1),
    ("SELECT * FROM v_lock", "view", 0),
    ("SELECT * FROM rls_bad", "row_security", 1),
    ("SELECT * FROM ul", "unlogged_table", 0),
    ("SELECT count(*) FROM parts", "unlogged_table", 0),
    ("SELECT * FROM heir_parent", "unlogged_table", 0),
    ("SELECT * FROM ft", "foreign_table", 0),
    ("SELECT last_value FROM seq", "sequence", 0),
    ("SELECT 1::d_bad", "user_type", 1),
    ("SELECT * FROM has_d_bad", "user_type", 0),
    ("SELECT 1 ### 2", "user_operator", 1),
    ("SELECT id FROM t WHERE NOT id ==== 1", "user_operator", 1),
    ("SELECT 'x'::text::pair", "user_cast", 1),
    ("SELECT agg_bad(id) FROM t", "user_function", 1),
    # A literal, a column or a parameter becomes what the function takes.
    ("SELECT takes_d('5')", "user_function", 1),
    ("SELECT takes_d(id) FROM t", "user_function", 1),
    ("SELECT takes_row('(5)')", "user_function", 1),
    ("SELECT takes_many('5', '6')", "user_function", 2),
    ("SELECT agg_d(id) FROM t", "user_function", 1),
    ("SELECT gives_d(5)", "user_function", 1),
    ("SELECT (gives_out()).b", "user_function", 1),
    ("SELECT '5' #### '6'", "user_operator", 2),
    ("SELECT '(1,ok)'::pair::smallint", "user_cast", 1),
    ("SELECT CAST('(1,ok)'::pair AS d_int2)", "user_cast", 1),
    # Names that are not the catalog's byte by byte: with a quote in them, folded, cut off.
    ('SELECT t."a""b" FROM t', "unknown_name", 1),
    ("SELECT t.B\u00e4D FROM t", "unknown_name", 1),
    ("SELECT t.f23456789012345678901234567890123456789012345678901234567890123_and_more FROM t", "unknown_name", 1),
    # What a user has put into pg_catalog.
    ("SELECT pg_catalog.reverse(t) FROM t", "user_function", 1),
    ("SELECT a OPERATOR(pg_catalog.+) b FROM t AS a, t AS b", "user_operator", 1),
    # Marked PARALLEL SAFE by its extension, but it runs SQL text.
    ("SELECT * FROM xpath_table('id', 'v', 'cat.t', '/a', 'cat.bad(1) = 2') AS a(id int)", "user_function", 1),
]
ON_A_REPLICA = [
    "SELECT * FROM t", "SELECT fine(1), cat.par(2)", "SELECT t.finefield, t.v FROM t", "SELECT * FROM v_fine, cat.v_v_fine",
    "SELECT * FROM rls_fine", "SELECT * FROM part1, whole", "SELECT 1::d_fine, 'ok'::mood, '{ok}'::cat.mood[]",
    "SELECT * FROM typed", "SELECT 1 @@@ 2", "SELECT agg_fine(id) FROM t", "SELECT h -> 'a', c = 'X' FROM ext",
    "SELECT upper(v), lower(v) FROM t ORDER BY v", "SELECT takes_fine('5')", "SELECT pg_catalog.upper(v) FROM t",
    "SELECT 1 OPERATOR(pg_catalog.*) 2, 1::pg_catalog.int4",
]


def apply(cluster, statements):
    db = cluster.connect()
    with db.cursor() as cursor:
        cursor.execute(statements)
    db.close()
    cluster.wait_replayed()


@pytest.fixture
def schema(cluster):
    apply(cluster, SCHEMA)
    yield
    cluster.sql("primary", "DROP SCHEMA IF EXISTS cat CASCADE; DROP EXTENSION IF EXISTS hstore, citext CASCADE")


def effects(cluster):
    return cluster.sql("primary", "SELECT count(*) FROM cat.effect")[0][0]


class Reader:
    """A client that tells where each of its statements ran, by the log."""

    def __init__(self, cluster, weir, user="app_scram"):
        self.cluster, self.weir = cluster, weir
        self.db = weir.connect(user=user, options="-c search_path=cat,public")

    def run(self, statement):
        """(node, reason): also of a statement that fails."""
        since = len(self.weir.log())
        with self.db.cursor() as cursor:
            cursor.execute(statement)
        line = wait_until(lambda: next((x for x in self.weir.log()[since:].splitlines() if "route.decision" in x), None),
                          what=f"decision of {statement}")
        got = dict(re.findall(r"(\w+)=(\S*)", line))
        node = next(n for n, port in self.cluster.ports.items() if got["node"].endswith(f":{port}"))
        return node, got["reason"]

    def wait_replica(self, statement):
        """Until it runs on the replica: floors need an LSN that has been flushed."""
        def there():
            self.cluster.sql("primary", "SELECT txid_current()")
            return self.run(statement)[0] == "replica1"
        wait_until(there, 15, f"on the replica: {statement}")

    def wait_reason(self, statement, reason):
        wait_until(lambda: self.run(statement) == ("primary", reason), 15, f"{reason}: {statement}")

    def close(self):
        self.db.close()


@pytest.fixture
def weir(schema, pgweir):
    weir = pgweir(log_routes="all", workers=2, catalog_poll_interval="100ms")
    weir.wait_reads_on_replica()
    return weir


@pytest.fixture
def reader(cluster, weir):
    reader = Reader(cluster, weir)
    yield reader
    reader.close()


def refusals(weir):
    return re.findall(r"route\.replica_refused.*", weir.log())


def test_none_of_these_is_ever_on_a_replica(cluster, weir, reader):
    reader.wait_replica("SELECT * FROM t")
    for statement, reason, gains in NEVER_ON_A_REPLICA:
        before = effects(cluster)
        assert reader.run(statement) == ("primary", reason), statement
        assert effects(cluster) == before + gains, statement
    assert refusals(weir) == []


def test_their_harmless_twins_are(reader, weir):
    for statement in ON_A_REPLICA:
        reader.wait_replica(statement)
    assert refusals(weir) == []


def test_a_declared_parameter_may_run_what_its_type_runs(cluster, weir, reader):
    from rawpg import bind, execute, parse, sync
    oids = dict(cluster.sql("primary", "SELECT t, t::regtype::oid::int FROM unnest(ARRAY['cat.mood', 'cat.d_bad', 'cat.d_bad[]',"
                            " 'cat.has_bad', 'cat.has_d_bad']) AS t"))
    reader.wait_replica("SELECT * FROM typed")
    with weir.raw().login("app_scram", "app", "secret") as c:
        for name, values, gains in (("mood", "ok", 0), ("d_bad", 5, 1), ("d_bad[]", "{5,6}", 2), ("has_bad", "(5)", 1),
                                    ("has_d_bad", '("{5}")', 1)):
            for statement in "", "s_" + name:
                before, since = effects(cluster), len(weir.log())
                c.send(parse(statement, "SELECT $1", [oids["cat." + name]]), bind("", statement, [values]), execute(), sync())
                assert [m.type for m in c.read_until("Z")] == ["1", "2", "D", "C", "Z"]
                assert effects(cluster) == before + gains
                if gains:
                    assert "reason=user_type" in wait_until(lambda: weir.log()[since:], 5, "its decision")
    assert refusals(weir) == []


def test_prepared_statements_follow_the_catalog(cluster, weir, reader):
    with weir.raw().login("app_scram", "app", "secret") as c:
        from rawpg import bind, execute, parse, sync
        c.send(parse("s", "SELECT cat.par(9), (17 - length(pi()::text)) / 2"), sync())
        c.read_until("Z")

        def node():
            c.send(bind("", "s"), execute(), sync())
            return c.read_until("Z")[1].row()[1]
        wait_until(lambda: node() == b"1", 10, "on the replica")
        apply(cluster, "CREATE OR REPLACE FUNCTION cat.par(int) RETURNS int LANGUAGE sql VOLATILE PARALLEL UNSAFE"
                       " AS 'INSERT INTO cat.effect VALUES ($1) RETURNING x'")
        reader.wait_reason("SELECT par(1)", "user_function")
        before = effects(cluster)
        assert [node() for _ in range(3)] == [b"0"] * 3
        assert effects(cluster) == before + 3


CHANGES = [
    ("ALTER TABLE cat.t SET UNLOGGED", "SELECT * FROM t", "unlogged_table"),
    ("CREATE OR REPLACE FUNCTION cat.fine(int) RETURNS int LANGUAGE sql VOLATILE"
     " AS 'INSERT INTO cat.effect VALUES ($1) RETURNING x'", "SELECT fine(1)", "user_function"),
    ("CREATE OR REPLACE VIEW cat.v_fine AS SELECT cat.bad(id) AS fine, upper(v) FROM cat.t", "SELECT * FROM v_v_fine", "view"),
    ("DROP POLICY p ON cat.rls_fine; CREATE POLICY p ON cat.rls_fine USING (cat.chk(id))", "SELECT * FROM rls_fine",
     "row_security"),
    ("ALTER DOMAIN cat.d_fine ADD CHECK (cat.chk(VALUE))", "SELECT * FROM typed", "user_type"),
    ("CREATE UNLOGGED TABLE cat.whole2 PARTITION OF cat.whole FOR VALUES IN (2)", "SELECT * FROM whole", "unlogged_table"),
    ("CREATE FUNCTION cat.upper(text) RETURNS text LANGUAGE sql AS 'SELECT 1::text'", "SELECT upper(v) FROM t", "user_function"),
    ("ALTER FUNCTION cat.int4agg(int) STABLE", "SELECT int4agg(1)", "user_function"),
    ("CREATE FUNCTION cat.lower(varchar) RETURNS text LANGUAGE sql AS 'SELECT 1::text'", "SELECT lower('X'::varchar)",
     "user_function"),
]


@pytest.mark.parametrize("change,statement,reason", CHANGES, ids=[s for _, s, _ in CHANGES])
def test_a_change_through_pgweir_counts_at_once(cluster, weir, change, statement, reason):
    """Not one read behind the DDL's answer is on a replica, by whatever connection."""
    apply(cluster, "CREATE FUNCTION cat.int4agg(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'")
    readers = [Reader(cluster, weir) for _ in range(4)]  # on both workers
    for one in readers:
        one.wait_replica(statement)
    weir.sql(change, user="postgres")
    for one in readers:
        assert one.run(statement)[0] == "primary"
    readers[0].wait_reason(statement, reason)
    for one in readers:
        assert one.run(statement) == ("primary", reason)
        one.close()
    assert refusals(weir) == []


def test_ddl_behind_other_things(cluster, schema, pgweir):
    """In the second query of a pipeline, and in what COMMIT PREPARED of another connection brings."""
    from rawpg import query
    weir = pgweir(log_routes="all", workers=2, catalog_poll_interval="60s")
    weir.wait_reads_on_replica()
    good, bad = [f"CREATE OR REPLACE FUNCTION cat.fine(int) RETURNS int LANGUAGE sql {kind} AS 'SELECT $1'"
                 for kind in ("IMMUTABLE", "VOLATILE")]
    reader = Reader(cluster, weir)
    with weir.raw().login("postgres", "app", "postgres") as one, \
            weir.raw().login("postgres", "app", "postgres") as two:
        def pipelined():
            one.send(query("INSERT INTO cat.effect VALUES (1)"), query("SELECT pg_sleep(0.3); " + bad))
            one.read_until("Z")
            one.read_until("Z")

        def prepared():
            one.query("BEGIN; " + bad + "; PREPARE TRANSACTION 'cat'")
            reader.wait_replica("SELECT fine(1)")  # by a catalog without it
            two.query("COMMIT PREPARED 'cat'")
        for change in pipelined, prepared:
            reader.wait_replica("SELECT fine(1)")
            change()
            assert reader.run("SELECT fine(1)")[0] == "primary", change
            reader.wait_reason("SELECT fine(1)", "user_function")
            one.query(good)
    reader.close()


def test_a_replica_that_lags_has_the_old_function(cluster, schema, pgweir):
    """What is harmless by now may be the writing one there: such a replica takes no read by the new catalog."""
    weir = pgweir(log_routes="all", workers=2, catalog_poll_interval="100ms", max_lag="1h")
    weir.wait_reads_on_replica()
    reader = Reader(cluster, weir)
    apply(cluster, "CREATE OR REPLACE FUNCTION cat.fine(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1'")
    reader.wait_reason("SELECT fine(1)", "user_function")
    reader.wait_replica("SELECT * FROM t")
    others = [Reader(cluster, weir) for _ in range(3)]
    others[0].wait_replica("SELECT * FROM t")
    cluster.pause("replica1")
    loads = weir.log().count("catalog.loaded")
    cluster.sql("primary", "CREATE OR REPLACE FUNCTION cat.fine(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'")
    wait_until(lambda: weir.log().count("catalog.loaded") > loads, 10, "the new catalog")
    for one in others:
        assert one.run("SELECT fine(1)") == ("primary", "not_replayed_yet")
    cluster.resume("replica1")
    reader.wait_replica("SELECT fine(1)")
    for one in (reader, *others):
        one.close()


def test_a_temporary_table_that_explain_analyze_makes(cluster, weir, reader):
    reader.wait_replica("SELECT id FROM t")
    with reader.db.cursor() as cursor:
        cursor.execute("EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 7 AS id")
        for _ in range(3):
            cursor.execute("SELECT id FROM t")
            assert cursor.fetchall() == [(7,)]


def test_a_change_past_pgweir_is_found(cluster, weir, reader):
    apply(cluster, "CREATE FUNCTION cat.int4agg(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'")
    for change, statement, reason in CHANGES:
        reader.wait_replica(statement)
        apply(cluster, change)
        reader.wait_reason(statement, reason)
        apply(cluster, SCHEMA)
        apply(cluster, "CREATE FUNCTION cat.int4agg(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'")


def test_what_is_new_is_read_on_a_replica_once_it_is_known(cluster, weir, reader):
    apply(cluster, "CREATE TABLE cat.novel (n int); GRANT ALL ON cat.novel TO PUBLIC")
    node, reason = reader.run("SELECT * FROM novel")
    assert (node, reason) in (("primary", "unknown_relation"), ("primary", "catalog_stale"), ("replica1", "read"))
    reader.wait_replica("SELECT * FROM novel")
    weir.sql("CREATE TABLE cat.novel2 (n int); GRANT ALL ON cat.novel2 TO PUBLIC", user="postgres")
    reader.wait_replica("SELECT * FROM novel2")


def test_a_rolled_back_change_and_temporary_tables(cluster, weir, reader):
    reader.wait_replica("SELECT * FROM t")
    db = weir.connect(user="postgres", autocommit=False)
    with db.cursor() as cursor:
        cursor.execute("ALTER TABLE cat.t SET UNLOGGED")
    db.rollback()
    db.close()
    reader.wait_replica("SELECT * FROM t")
    loads = weir.log().count("catalog.loaded")
    with closing(weir.connect(user="postgres")) as db, db.cursor() as cursor:
        for i in range(20):
            cursor.execute(f"CREATE TEMP TABLE only_mine_{i} (n int)")
    reader.wait_replica("SELECT * FROM t")
    assert weir.log().count("catalog.loaded") <= loads + 1  # the rest of what came before


@pytest.mark.deadline(90)
def test_a_storm_of_ddl(cluster, weir):
    """A table turns unlogged and back, a function good and bad: no client sees an error, and in the end the catalog
    is right."""
    stop, failed = threading.Event(), []

    def storm():
        try:
            with closing(weir.connect(user="postgres")) as db, db.cursor() as cursor:
                for i in range(40):
                    cursor.execute(f"ALTER TABLE cat.part1 SET {'UNLOGGED' if i % 2 else 'LOGGED'}")
                    cursor.execute(f"CREATE OR REPLACE FUNCTION cat.fine(int) RETURNS int LANGUAGE sql"
                                   f" {'VOLATILE' if i % 2 else 'IMMUTABLE'} AS 'SELECT $1'")
        finally:
            stop.set()

    def read():
        try:
            with closing(weir.connect()) as db, db.cursor() as cursor:
                while not stop.is_set():
                    cursor.execute("SELECT * FROM cat.part1; SELECT cat.fine(1)")
        except Exception as e:  # shown by the assertion below
            failed.append(e)

    threads = [threading.Thread(target=f) for f in (storm, read, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    reader = Reader(cluster, weir)
    reader.wait_reason("SELECT * FROM part1", "unlogged_table")
    reader.wait_reason("SELECT fine(1)", "user_function")
    reader.close()


def test_the_primary_restarts(cluster, weir, reader):
    reader.wait_replica("SELECT * FROM t")
    loads = weir.log().count("catalog.loaded")
    cluster.kill("primary")
    cluster.restart("primary")
    wait_until(lambda: weir.log().count("catalog.loaded") > loads, 20, "loaded again")


def test_a_primary_that_goes_away_while_it_is_asked_takes_no_catalog_with_it(cluster, weir, reader):
    """The 57P01 of a shutdown, in the middle of the fingerprint."""
    reader.wait_replica("SELECT * FROM t")
    ours = "FROM pg_stat_activity WHERE application_name = 'pgweir catalog' AND wait_event_type = 'Lock'"
    with closing(cluster.connect()) as db, db.cursor() as locker:
        locker.execute("BEGIN; LOCK TABLE pg_policy IN ACCESS EXCLUSIVE MODE")
        wait_until(lambda: cluster.sql("primary", f"SELECT pg_terminate_backend(pid) {ours}"))
        assert re.search('57P01.*hint="what was loaded before stays in use"', weir.wait_log(r"catalog\.load_failed"))
        assert reader.run("SELECT * FROM t") == ("replica1", "read")
        locker.execute("ROLLBACK")


def test_without_a_login_reads_of_tables_stay_on_the_primary(cluster, schema, pgweir):
    weir = pgweir(log_routes="all", probe_user="nobody_at_all", workers=1)
    assert "does not exist" in weir.wait_log(r"catalog\.load_failed")
    assert weir.sql("SELECT id FROM cat.t") == [(1,)]
    assert "reason=catalog_not_loaded" in weir.wait_log(r"route\.decision")
    assert weir.log().count("catalog.load_failed") == 1


def test_a_database_that_the_catalog_user_may_not_enter(cluster, schema, pgweir):
    cluster.sql("primary", "REVOKE CONNECT ON DATABASE app FROM PUBLIC; GRANT CONNECT ON DATABASE app TO app_scram")
    try:
        weir = pgweir(log_routes="all", workers=1, probe_dbname="postgres")
        weir.wait_log(r"catalog\.load_failed.*permission denied")
        reader = Reader(cluster, weir)
        reader.wait_replica("SELECT 1")
        assert reader.run("SELECT * FROM t") == ("primary", "catalog_not_loaded")
        cluster.sql("primary", "GRANT CONNECT ON DATABASE app TO PUBLIC")
        weir.wait_log(r"catalog\.loaded", 20)
        reader.wait_replica("SELECT * FROM t")
        reader.close()
    finally:
        cluster.sql("primary", "GRANT CONNECT ON DATABASE app TO PUBLIC")


def test_a_template_loads_with_its_first_client(cluster, schema, pgweir):
    entry = cluster.entry().replace(" dbname=app", "")
    weir = pgweir(databases={"*": entry}, log_routes="all", workers=1, catalog_poll_interval="100ms")
    weir.wait_log("cluster.primary_changed")
    assert "catalog.loaded" not in weir.log()
    reader = Reader(cluster, weir)
    reader.wait_replica("SELECT * FROM t")
    assert "database=app" in weir.wait_log(r"catalog\.loaded")
    reader.close()


def test_one_node_waits_for_no_catalog(cluster, pgweir):
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, workers=1)
    assert weir.sql("SELECT 1") == [(1,)]
    weir.wait_log(r"catalog\.loaded .*hiding=0")
    assert weir.sql("SELECT 1") == [(1,)]
