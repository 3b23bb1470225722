"""PostgreSQL's own tools through pgweir: psql, pg_dump, pg_restore."""
import os
import re
import signal
import subprocess
import time

import psycopg2
import psycopg2.extras
import pytest
from conftest import PASSWORDS, RELEASE, wait_until

ROWS = 1_000_000


def tool(cluster, weir, name, *args, user="app_scram", password=None, stdin=None, deadline_s=60, **env):
    """Runs one of PostgreSQL's programs against pgweir, or a node if weir is a port."""
    port = getattr(weir, "port", weir)
    command = [cluster.bin / name, "-h", "127.0.0.1", "-p", str(port), "-U", user, *map(str, args)]
    return subprocess.run(command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=deadline_s,
                          env={**os.environ, "PGPASSWORD": PASSWORDS[user] if password is None else password, **env})


def psql(cluster, weir, *args, dbname="app", **more):
    done = tool(cluster, weir, "psql", "-X", "-v", "ON_ERROR_STOP=1", "-d", dbname, *args, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def shop(cluster):
    """A schema with one of most things, as dumps see it."""
    cluster.sql("primary", """
        DROP SCHEMA IF EXISTS shop CASCADE;
        CREATE SCHEMA shop AUTHORIZATION app_scram;
        SET ROLE app_scram; SET search_path = shop;
        CREATE TYPE state AS ENUM ('new', 'paid');
        CREATE TABLE customer (id serial PRIMARY KEY, name text NOT NULL UNIQUE, "odd name" numeric(8, 2) DEFAULT 1.5);
        CREATE TABLE orders (id bigserial, customer int REFERENCES customer, state state DEFAULT 'new', note bytea,
                             at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
        CREATE TABLE orders_2025 PARTITION OF orders FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
        CREATE TABLE orders_rest PARTITION OF orders DEFAULT;
        CREATE INDEX ON orders (customer, at DESC) WHERE state = 'new';
        CREATE VIEW open_orders AS SELECT * FROM orders WHERE state = 'new';
        CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n * 2';
        INSERT INTO customer (name) SELECT 'customer ' || n FROM generate_series(1, 2000) n;
        INSERT INTO orders (customer, note, at) SELECT 1 + n % 2000, decode(md5(n::text), 'hex'),
            timestamptz '2024-06-01' + n * interval '1 hour' FROM generate_series(1, 20000) n;
        COMMENT ON TABLE customer IS 'who buys; -- with "quotes" and $$dollars$$';""")
    cluster.wait_replayed()
    yield "shop"
    cluster.sql("primary", "DROP SCHEMA shop CASCADE")


# psql

def test_psql_describes_tables_as_without_pgweir(cluster, pgweir, shop):
    weir = pgweir()
    for command in (r"\d shop.customer", r"\d+ shop.orders", r"\dt shop.*", r"\df shop.*", r"\dv+ shop.*", r"\du", r"\l"):
        assert psql(cluster, weir, "-c", command) == psql(cluster, cluster.ports["primary"], "-c", command), command


@pytest.mark.parametrize("sslmode", ["disable", "require"])
def test_psql_copies_a_million_rows_in_and_out(cluster, pgweir, tmp_path, sslmode):
    tls = {} if sslmode == "disable" else {"client_tls_sslmode": "require",
                                           "client_tls_cert_file": cluster.tls_dir / "server.crt",
                                           "client_tls_key_file": cluster.tls_dir / "server.key"}
    weir = pgweir(**tls)
    rows_in, rows_out = tmp_path / "in.tsv", tmp_path / "out.tsv"
    rows_in.write_text("".join(f"{n}\trow {n}\n" for n in range(ROWS)))
    begun = time.monotonic()
    psql(cluster, weir, "-c", "DROP TABLE IF EXISTS million", "-c", "CREATE TABLE million (n int, t text)",
         "-c", rf"\copy million FROM {rows_in}", PGSSLMODE=sslmode)
    cluster.wait_replayed()
    psql(cluster, weir, "-c", rf"\copy (SELECT * FROM million ORDER BY n) TO {rows_out}", PGSSLMODE=sslmode)
    assert time.monotonic() - begun < 30
    assert rows_out.read_bytes() == rows_in.read_bytes()
    cluster.sql("primary", "DROP TABLE million")


def test_a_failing_copy_in_leaves_the_session_usable(cluster, pgweir, tmp_path):
    weir = pgweir()
    bad = tmp_path / "bad.tsv"
    bad.write_text("".join(f"{n}\n" for n in range(100_000)) + "not a number\n" + "1\n" * 100_000)
    cluster.sql("primary", "DROP TABLE IF EXISTS numbers; CREATE TABLE numbers (n int); GRANT ALL ON numbers TO PUBLIC")
    done = tool(cluster, weir, "psql", "-X", "-d", "app", "-At", "-c", rf"\copy numbers FROM {bad}",
                "-c", "SELECT count(*) FROM numbers")
    assert 'invalid input syntax for type integer: "not a number"' in done.stderr
    assert done.stdout == "0\n"


def test_a_large_result_leaves_memory_alone(cluster, pgweir):
    weir = pgweir(binary=RELEASE, workers=1)
    psql(cluster, weir, "-c", "SELECT 1")
    before, most = weir.pss_kb(), 0
    command = [cluster.bin / "psql", "-XAt", "-h", "127.0.0.1", "-p", str(weir.port), "-U", "app_scram", "-d", "app",
               "-v", "FETCH_COUNT=0", "-c", "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 300000)) TO STDOUT"]
    with open(os.devnull, "w") as null, subprocess.Popen(command, stdout=null, env={**os.environ, "PGPASSWORD": "secret"}) as p:
        while p.poll() is None:
            most = max(most, weir.pss_kb())
    assert p.returncode == 0
    assert most < 50 * 1024, f"{before} kB before, {most} kB at most"


@pytest.mark.parametrize("where", ["primary", "replica"])
def test_ctrl_c_in_psql_cancels_the_query(cluster, pgweir, where):
    weir = pgweir(workers=2)
    weir.wait_reads_on_replica()
    node = "replica1" if where == "replica" else "primary"
    sleep = "SELECT pg_sleep(50)" if where == "replica" else "SELECT pg_sleep(50), txid_current()"
    command = [cluster.bin / "psql", "-X", "-h", "127.0.0.1", "-p", str(weir.port), "-U", "app_scram", "-d", "app",
               "-c", sleep, "-c", "SELECT 'afterwards'"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PGPASSWORD": "secret"})
    running = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    wait_until(lambda: cluster.sql(node, running) == [(1,)], what="the query runs on " + node)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert "canceling statement due to user request" in err
    wait_until(lambda: cluster.sql(node, running) == [(0,)], what="it is cancelled")


def test_psql_says_that_the_password_is_wrong(cluster, pgweir):
    done = tool(cluster, pgweir(), "psql", "-X", "-d", "app", "-c", "SELECT 1", password="wrong")
    assert done.returncode == 2
    assert 'FATAL:  password authentication failed for user "app_scram"' in done.stderr


def test_psql_reads_the_console(cluster, pgweir):
    weir = pgweir()
    weir.wait_reads_on_replica()
    for dbname in ("pgweir", "pgbouncer"):
        nodes = psql(cluster, weir, "-At", "-c", "SHOW NODES", dbname=dbname).splitlines()
        assert len(nodes) == 2 and any("|primary|" in x for x in nodes) and any("|replica|" in x for x in nodes)
        assert re.match(r"pgweir \d", psql(cluster, weir, "-At", "-c", "SHOW VERSION;", dbname=dbname))
        assert psql(cluster, weir, "-c", "SHOW POOLS", dbname=dbname).splitlines()[0].split("|")[0].strip() == "database"


# pg_dump and pg_restore

def dump(cluster, weir, *args):
    done = tool(cluster, weir, "pg_dump", *args, "app")
    assert done.returncode == 0, done.stderr
    return re.sub(r"^\\(un)?restrict .*\n", "", done.stdout, flags=re.M)  # newer versions: a random key


@pytest.mark.parametrize("pool_mode", ["session", "transaction"])
def test_pg_dump_is_the_same_through_pgweir(cluster, pgweir, shop, pool_mode):
    weir = pgweir(pool_mode=pool_mode)
    assert dump(cluster, weir, "-n", shop) == dump(cluster, cluster.ports["primary"], "-n", shop)


def archive(cluster, weir, to, *args):
    """What a dump in another format holds: each of its data files, and all of it as SQL."""
    done = tool(cluster, weir, "pg_dump", "-n", "shop", "-f", to, *args, "app")
    assert done.returncode == 0, done.stderr
    sql = subprocess.run([cluster.bin / "pg_restore", "-f", "-", to], capture_output=True, text=True, check=True).stdout
    files = {f.name: f.read_bytes() for f in to.iterdir() if f.name != "toc.dat"} if to.is_dir() else {}  # that has the time in it
    return files, re.sub(r"^\\(un)?restrict .*\n", "", sql, flags=re.M)


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("form", [["-Fc", "-Z0"], ["-Ft"], ["-Fd", "-Z0"], ["-Fd", "-Z0", "-j", 4]], ids=lambda form: " ".join(map(str, form)))
def test_pg_dump_in_other_formats(cluster, pgweir, tmp_path, form):
    weir = pgweir(default_pool_size=5)
    weir.wait_reads_on_replica()
    through, direct = (archive(cluster, port, tmp_path / str(n), *form) for n, port in enumerate((weir, cluster.ports["primary"])))
    assert through == direct and "CREATE TABLE shop.customer" in through[1]


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("options", [[], ["-g"], ["-s", "--clean"]])
def test_pg_dumpall_is_the_same_through_pgweir(cluster, pgweir, options):
    weir = pgweir(databases={name: cluster.entry(dbname=name) for name in ("app", "postgres", "template1")})
    through, direct = (tool(cluster, port, "pg_dumpall", "-l", "postgres", *options, user="postgres") for port in (weir, cluster.ports["primary"]))
    assert (through.returncode, direct.returncode) == (0, 0), through.stderr
    texts = [re.sub(r"^\\(un)?restrict .*\n", "", done.stdout, flags=re.M) for done in (through, direct)]
    assert texts[0] == texts[1] and "CREATE ROLE app_scram" in texts[0]


@pytest.mark.parametrize("pool_mode", ["session", "transaction"])
@pytest.mark.parametrize("jobs", [1, 4])
def test_pg_restore_through_pgweir_gives_the_same_database(cluster, pgweir, shop, tmp_path, jobs, pool_mode):
    weir = pgweir(pool_mode=pool_mode, default_pool_size=5)
    before = dump(cluster, cluster.ports["primary"], "-n", shop)
    made = tool(cluster, weir, "pg_dump", "-Fd", "-j", jobs, "-n", shop, "-f", tmp_path / "dump", "app")
    assert made.returncode == 0, made.stderr
    cluster.sql("primary", "DROP SCHEMA shop CASCADE; GRANT CREATE ON DATABASE app TO app_scram")
    restored = tool(cluster, weir, "pg_restore", "-j", jobs, "-d", "app", tmp_path / "dump")
    assert restored.returncode == 0, restored.stderr
    assert dump(cluster, cluster.ports["primary"], "-n", shop) == before
    cluster.wait_replayed()
    assert dump(cluster, cluster.ports["replica1"], "-n", shop) == before


# Its other programs

def ok(cluster, weir, name, *args, **more):
    done = tool(cluster, weir, name, *args, **more)
    assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.usefixtures("shop")
def test_maintenance_programs(cluster, pgweir):
    weir = pgweir(databases={name: cluster.entry(dbname=name) for name in ("app", "postgres", "template1")}, default_pool_size=5)
    files = "SELECT array_agg(relfilenode ORDER BY oid) FROM pg_class WHERE relkind = 'i' AND relnamespace = 'shop'::regnamespace"
    before = cluster.sql("primary", files)
    ok(cluster, weir, "reindexdb", "-j", 4, "-S", "shop", "app")
    after = cluster.sql("primary", files)
    assert not {*before[0][0]} & {*after[0][0]}
    ok(cluster, weir, "reindexdb", "--concurrently", "-i", "shop.customer_pkey", "app")
    for args in (["-j", 4], ["-Z", "-t", "shop.customer"], ["--analyze-in-stages"], ["-f", "-t", "shop.customer"], ["-F", "-t", "shop.orders_2025"]):
        ok(cluster, weir, "vacuumdb", *args, "app", user="postgres")
    vacuumed = "SELECT bool_and(last_vacuum IS NOT NULL), bool_and(last_analyze IS NOT NULL) FROM pg_stat_user_tables WHERE schemaname = 'shop'" \
        " AND relname <> 'orders'"
    wait_until(lambda: cluster.sql("primary", vacuumed) == [(True, True)], what="vacuumed and analyzed")
    cluster.sql("primary", "ALTER TABLE shop.customer CLUSTER ON customer_pkey")
    ok(cluster, weir, "clusterdb", "-t", "shop.customer", "app")
    ok(cluster, weir, "pg_amcheck", "--install-missing", "-j", 2, "-s", "shop", "-d", "app", user="postgres")
    cluster.sql("primary", "DROP EXTENSION amcheck")


def test_programs_that_create_and_drop(cluster, pgweir):
    weir = pgweir(databases={"postgres": cluster.entry(dbname="postgres")})
    roles = "SELECT rolcreatedb, rolconnlimit FROM pg_roles WHERE rolname = 'Made Role'"
    try:
        ok(cluster, weir, "createuser", "--createdb", "-c", 7, "-g", "app", "Made Role", user="postgres")
        assert cluster.sql("primary", roles) == [(True, 7)]
        ok(cluster, weir, "createdb", "-O", "Made Role", "-T", "template0", "Made DB", "a comment", "--maintenance-db", "postgres", user="postgres")
        assert cluster.sql("primary", "SELECT pg_get_userbyid(datdba), shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'Made DB'") \
            == [("Made Role", "a comment")]
    finally:
        ok(cluster, weir, "dropdb", "--if-exists", "-f", "Made DB", "--maintenance-db", "postgres", user="postgres")
        ok(cluster, weir, "dropuser", "--if-exists", "Made Role", user="postgres")
    assert cluster.sql("primary", roles) == []


def test_pg_isready(cluster, pgweir):
    weir = pgweir()
    assert "accepting connections" in ok(cluster, weir, "pg_isready", "-d", "app")
    weir.stop()
    assert tool(cluster, weir, "pg_isready", "-d", "app").returncode == 2


def test_psql_binds_and_pipelines(cluster, pgweir):
    """What newer versions of psql have: left out by older ones."""
    version = int(re.search(r"\d+", subprocess.run([cluster.bin / "psql", "--version"], capture_output=True, text=True, check=True).stdout)[0])
    scripts = {16: (r"SELECT $1::int + $2::int \bind 3 4 \g", "7"),
               18: ("SELECT $1::int * 2 \\parse twice\n\\bind_named twice 21 \\g\n\\close_prepared twice\n\\startpipeline\n"
                    "SELECT $1 \\bind a \\sendpipeline\nSELECT $1 \\bind b \\sendpipeline\n\\endpipeline", "42\na\nb")}
    weir = pgweir(default_pool_size=1)
    for since, (script, shown) in scripts.items():
        if version >= since:
            assert psql(cluster, weir, "-At", stdin=script).strip() == shown


# pgweir's own

def test_health_tells_whether_pgweir_answers(pgweir):
    weir = pgweir()
    env = {k: v for k, v in os.environ.items() if not k.startswith("PGWEIR_")}

    def health():
        return subprocess.run([weir.binary, "health", weir.ini], capture_output=True, text=True, timeout=10, env=env)
    assert health().returncode == 0
    weir.stop()
    gone = health()
    assert gone.returncode == 1 and "no pgweir answers" in gone.stdout, gone


# Replication: a WAL sender for each such client

def streams(cluster, name):
    return int(cluster.sql("primary", "SELECT count(*) FROM pg_stat_replication WHERE application_name = %s", name)[0][0])


def test_pg_basebackup_and_its_wal_stream(cluster, pgweir, work_dir):
    weir = pgweir()
    backup = work_dir / f"backup-{os.urandom(4).hex()}"
    done = tool(cluster, weir, "pg_basebackup", "-D", backup, "-X", "stream", "-c", "fast", "--no-sync", user="postgres")
    assert done.returncode == 0, done.stderr
    assert not (backup / "standby.signal").exists()  # it is the primary's
    checked = subprocess.run([cluster.bin / "pg_verifybackup", backup], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stderr


def test_pg_receivewal_streams_until_it_is_told_to_stop(cluster, pgweir, work_dir):
    weir = pgweir(default_pool_size=1)
    to = work_dir / f"wal-{os.urandom(4).hex()}"
    to.mkdir()
    receiver = subprocess.Popen([cluster.bin / "pg_receivewal", "-D", to, "--no-loop", "-h", "127.0.0.1", "-p", str(weir.port),
                                 "-U", "postgres"], stderr=subprocess.PIPE, text=True, env={**os.environ, "PGPASSWORD": PASSWORDS["postgres"]})
    try:
        wait_until(lambda: streams(cluster, "pg_receivewal") == 1, what="it streams")
        cluster.sql("primary", "CREATE TABLE walled AS SELECT repeat('wal', 100) FROM generate_series(1, 1000)")
        at = cluster.sql("primary", "SELECT pg_walfile_name(pg_current_wal_lsn())")[0][0]
        wait_until(lambda: any(f.name.startswith(at) for f in to.iterdir()), what="WAL came")
        assert weir.sql("SELECT 1") == [(1,)]  # the pool of one is another's
        receiver.send_signal(signal.SIGINT)
        assert receiver.wait(30) == 0, receiver.stderr.read()
    finally:
        receiver.kill()
        receiver.wait()
        cluster.sql("primary", "DROP TABLE IF EXISTS walled")
    wait_until(lambda: streams(cluster, "pg_receivewal") == 0, what="its server ended with it")


def test_pg_recvlogical(new_cluster, pgweir):
    cluster = new_cluster("--replicas", 0, "--conf", "wal_level=logical")
    weir = pgweir(cluster)
    slot = ["-d", "app", "-S", "weir"]
    done = tool(cluster, weir, "pg_recvlogical", *slot, "--create-slot", "-P", "test_decoding", user="postgres")
    assert done.returncode == 0, done.stderr
    cluster.sql("primary", "CREATE TABLE public.logged (n int)")
    cluster.sql("primary", "INSERT INTO public.logged VALUES (42)")
    end = cluster.sql("primary", "SELECT pg_current_wal_lsn()")[0][0]
    done = tool(cluster, weir, "pg_recvlogical", *slot, "--start", "-f", "-", "-E", end, user="postgres")
    assert done.returncode == 0, done.stderr
    assert "table public.logged: INSERT: n[integer]:42" in done.stdout
    done = tool(cluster, weir, "pg_recvlogical", *slot, "--drop-slot", user="postgres")
    assert done.returncode == 0, done.stderr


def walsender(weir, user="postgres", **more):
    more.setdefault("password", PASSWORDS[user])
    return psycopg2.connect(host="127.0.0.1", port=weir.port, user=user, dbname="app", connect_timeout=10, sslmode="disable",
                            connection_factory=psycopg2.extras.LogicalReplicationConnection, **more)


def ask(db, command):
    with db.cursor() as cursor:
        cursor.execute(command)
        return cursor.fetchall()


def test_a_replication_connection_has_its_own_server_with_its_settings(cluster, pgweir):
    weir = pgweir()
    db = walsender(weir, options="-c work_mem=5MB", application_name="sender")
    assert ask(db, "SHOW work_mem") == [("5MB",)]
    assert ask(db, "SELECT pg_is_in_recovery()") == [(False,)]
    assert ask(db, "IDENTIFY_SYSTEM")[0][3] == "app"
    assert streams(cluster, "sender") == 1
    db.close()
    wait_until(lambda: streams(cluster, "sender") == 0, what="its server ended with it")
    with pytest.raises(psycopg2.OperationalError, match='unrecognized configuration parameter "nope"'):
        walsender(weir, options="-c nope=1")


def test_replication_connections_log_in_and_are_limited(cluster, pgweir):
    weir = pgweir(default_pool_size=1, max_client_conn=3)
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        walsender(weir, password="wrong")
    with pytest.raises(psycopg2.OperationalError, match="must be superuser or replication role"):
        walsender(weir, user="app_scram")
    one = walsender(weir)
    with pytest.raises(psycopg2.OperationalError, match="too many replication connections"):
        walsender(weir)
    clients = [weir.connect(), weir.connect()]
    with pytest.raises(psycopg2.OperationalError, match="too many clients"):
        walsender(weir)
    for db in [one, *clients]:
        db.close()

    def again():
        try:
            walsender(weir).close()
            return True
        except psycopg2.OperationalError:
            return False
    wait_until(again, what="its place is free again")


def test_the_end_of_a_wal_sender_is_told(cluster, pgweir):
    client = pgweir().raw()
    client.login("postgres", "app", PASSWORDS["postgres"], replication="database", application_name="sender")
    cluster.sql("primary", "SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name = 'sender'")
    assert client.read().fields()["M"] == "terminating connection due to administrator command"


def test_a_shutdown_ends_replication(cluster, pgweir):
    weir = pgweir()
    db = walsender(weir, application_name="sender")
    weir.stop()
    with pytest.raises(psycopg2.Error):
        ask(db, "IDENTIFY_SYSTEM")
    wait_until(lambda: streams(cluster, "sender") == 0, what="its server ended too")
