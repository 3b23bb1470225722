"""Clients that ask for a WAL sender (replication=true|database): a server of their own on the primary, whatever happens.

test_tools_postgres.py has pg_basebackup, pg_receivewal and pg_recvlogical as their users run them."""
import os
import re
import socket
import subprocess
from pathlib import Path

import psycopg2
import pytest
from conftest import PASSWORDS, RELEASE, free_port, wait_until
from rawpg import PROTOCOL_3_0, PROTOCOL_3_2, PgError, RawPg, bind, copy_data, copy_done, execute, parse, query, sync

WHO = "weir_sender"
SENDER = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND backend_type = 'walsender'"


def senders(cluster, node="primary"):
    return int(cluster.sql(node, SENDER, WHO)[0][0])


def walsender(port, replication="database", protocol=PROTOCOL_3_0, **more):
    return RawPg(port).login("postgres", "app", PASSWORDS["postgres"], protocol, replication=replication, application_name=WHO, **more)


def start_stream(client, cluster, node="primary"):
    """Up to CopyBothResponse."""
    ((lsn,),) = cluster.sql(node, "SELECT pg_current_wal_flush_lsn()")
    client.send(query(f"START_REPLICATION PHYSICAL {lsn}"))
    assert client.read_until("W")
    return lsn


def hears_wal(client, cluster, node="primary"):
    """What is written comes down the stream."""
    cluster.sql(node, "SELECT pg_logical_emit_message(true, 'test', repeat('hello', 100)), pg_switch_wal()")
    while client.read_until("d", 20)[-1].body[:1] != b"w":
        pass


def others(weir):
    """Somebody else's server, for the pool of the database."""
    return weir.sql("SELECT pg_backend_pid()", user="postgres")[0][0]


# What they may say

@pytest.mark.parametrize("protocol", [PROTOCOL_3_0, PROTOCOL_3_2])
@pytest.mark.parametrize("replication", ["true", "on", "database", "1"])
def test_protocols_and_words(cluster, pgweir, protocol, replication):
    client = walsender(pgweir().port, replication, protocol)
    assert len(client.key) == (4 + 4 if protocol == PROTOCOL_3_0 else 4 + 32)
    assert client.rows("IDENTIFY_SYSTEM")[0][0] == cluster.sql("primary", "SELECT system_identifier::text FROM pg_control_system()")[0][0]
    start_stream(client, cluster)
    hears_wal(client, cluster)
    client.terminate()
    wait_until(lambda: senders(cluster) == 0, what="its server ended with it")


@pytest.mark.parametrize("replication", ["false", "off", "0", "no"])
def test_words_that_ask_for_none(cluster, pgweir, replication):
    client = walsender(pgweir().port, replication)
    assert client.rows("SELECT 1") == [["1"]] and senders(cluster) == 0


def test_sql_on_a_replication_connection(cluster, pgweir):
    client = walsender(pgweir(default_pool_size=1).port, options="-c work_mem=6MB")
    cluster.sql("primary", "DROP TABLE IF EXISTS repl_t")
    assert client.rows("SHOW work_mem") == [["6MB"]]
    client.query("CREATE TABLE repl_t (n int); CREATE TEMP TABLE mine (n int); SET work_mem = '7MB'")
    client.query("BEGIN; INSERT INTO repl_t VALUES (1)")
    assert client.rows("SELECT n, pg_is_in_recovery() FROM repl_t") == [["1", "f"]]
    client.query("ROLLBACK")
    assert client.rows("SELECT count(*) FROM repl_t") == [["0"]] and client.rows("TABLE mine") == []
    client.send(query("COPY repl_t FROM STDIN"))
    client.read_until("G")
    client.send(copy_data(b"5\n6\n"), copy_done())
    assert client.read_until("Z")[0].body == b"COPY 2\0"
    assert client.rows("SELECT sum(n) FROM repl_t; SHOW work_mem") == [["11"], ["7MB"]]
    assert client.query("SELECT 1/0")[0].fields()["C"] == "22012"
    client.send(parse("", "SELECT 1"), bind("", ""), execute(), sync())
    answer = client.read_until("E")[-1].fields()  # PostgreSQL's own
    assert (answer["C"], answer["M"]) == ("08P01", "extended query protocol not supported in a replication connection")
    client.close()
    cluster.sql("primary", "DROP TABLE repl_t")


@pytest.mark.parametrize("protocol", [PROTOCOL_3_0, PROTOCOL_3_2])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_cancel_finds_its_wal_sender(cluster, pgweir, protocol, workers):
    client = walsender(pgweir(workers=workers).port, protocol=protocol)
    client.send(query("SELECT pg_sleep(60) /* of a wal sender */"))
    cluster.wait_active("of a wal sender")
    client.cancel()
    assert [m.fields()["C"] for m in client.read_until("Z") if m.type == "E"] == ["57014"]
    assert client.rows("SELECT 1") == [["1"]]


def test_which_cluster_a_physical_client_gets(cluster, pgweir):
    """libpq calls the database "replication" when it wants none."""
    def login_as_libpq(weir):
        return RawPg(weir.port).login("postgres", "replication", PASSWORDS["postgres"], replication="true", application_name=WHO)
    several = {"app": cluster.entry(["primary"]), "other": cluster.entry(["replica1"])}
    with pytest.raises(PgError, match='database "replication" does not exist'):
        login_as_libpq(pgweir(databases=several))
    client = login_as_libpq(pgweir(databases={"other": several["other"], "replication": several["app"]}))
    assert senders(cluster) == 1 and client.rows("SHOW wal_level")


# What ends them, and what does not

def test_no_timeout_of_ours_ends_a_stream(cluster, pgweir):
    """Those of clients in transactions, of servers that are old or idle, of queues and logins."""
    weir = pgweir(server_lifetime="1s", server_idle_timeout="1s", idle_transaction_timeout="1s", queue_timeout="1s", client_login_timeout="1s",
                  server_connect_timeout="2s", max_lag="1s", databases={"app": cluster.entry(["primary"])})
    client, quiet = walsender(weir.port), walsender(weir.port, replication="true")
    quiet.query("IDENTIFY_SYSTEM")
    start_stream(client, cluster)
    for _ in range(3):  # each is a time over all of them
        first = others(weir)
        wait_until(lambda: others(weir) != first, 30, "another's server is replaced")  # pylint: disable=cell-var-from-loop
    assert senders(cluster) == 2
    hears_wal(client, cluster)
    assert quiet.rows("IDENTIFY_SYSTEM")


def test_a_reload_leaves_them_alone(cluster, pgweir):
    weir = pgweir()
    client = walsender(weir.port)
    start_stream(client, cluster)
    since = len(weir.log())
    weir.reload(default_pool_size=3, server_lifetime="2s", pool_mode="session")
    weir.wait_log(r"config\.reload", since=since)
    hears_wal(client, cluster)


@pytest.mark.parametrize("end", ["terminate", "close", "reset", "half-close"])
@pytest.mark.parametrize("state", ["idle", "streaming", "query", "unread"])
def test_its_server_ends_with_the_client(cluster, pgweir, end, state):
    weir = pgweir()
    client = walsender(weir.port)
    if state == "streaming":
        start_stream(client, cluster)
    elif state == "query":
        client.send(query("SELECT pg_sleep(600) /* left behind */"))
        cluster.wait_active("left behind")
    elif state == "unread":
        client.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 1000000)"))
        client.read_until("T")
    assert senders(cluster) == 1
    if end == "half-close":
        client.sock.shutdown(socket.SHUT_WR)
    else:
        getattr(client, end)()
    wait_until(lambda: senders(cluster) == 0, 20, "its server ended")
    assert others(weir)


def test_a_killed_program(cluster, pgweir, work_dir):
    weir = pgweir()
    to = work_dir / f"wal-{os.urandom(4).hex()}"
    to.mkdir()
    receiver = subprocess.Popen([cluster.bin / "pg_receivewal", "-D", to, "-d", f"host=127.0.0.1 port={weir.port} user=postgres application_name={WHO}"],
                                stderr=subprocess.DEVNULL, env={**os.environ, "PGPASSWORD": PASSWORDS["postgres"]})
    wait_until(lambda: senders(cluster) == 1)
    receiver.kill()
    receiver.wait()
    wait_until(lambda: senders(cluster) == 0, what="its server ended")


def test_the_server_is_killed(cluster, pgweir):
    weir = pgweir()
    client = walsender(weir.port)
    start_stream(client, cluster)
    cluster.sql("primary", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s", WHO)
    told = client.read_until("E")[-1].fields()
    assert told["C"] == "57P01"
    client.expect_closed()
    start_stream(walsender(weir.port), cluster)  # there is room for another


@pytest.mark.deadline(120)
def test_a_primary_that_stops_sends_all_it_has(new_cluster, pgweir, work_dir):
    """At a fast stop a WAL sender waits for its client to have everything: both ways must stay open meanwhile."""
    cluster = new_cluster("--replicas", 0)
    weir = pgweir(cluster)
    to = work_dir / f"wal-{os.urandom(4).hex()}"
    to.mkdir()
    receiver = subprocess.Popen([cluster.bin / "pg_receivewal", "-D", to, "--no-loop", "--synchronous", "-d",
                                 f"host=127.0.0.1 port={weir.port} user=postgres application_name={WHO}"], stderr=subprocess.PIPE, text=True,
                                env={**os.environ, "PGPASSWORD": PASSWORDS["postgres"]})
    try:
        wait_until(lambda: senders(cluster) == 1)
        cluster._run("signal", "primary", "INT")
        cluster.changed.add(("restart", "primary"))
        assert receiver.wait(60) == 1
    finally:
        receiver.kill()
        receiver.wait()
    written = {f.name: f.stat().st_size for f in Path(cluster.dir, "primary/pg_wal").iterdir() if re.fullmatch(r"[0-9A-F]{24}", f.name)}
    received = {f.name.removesuffix(".partial") for f in to.iterdir()}
    assert received and received <= {*written}
    shutdown = subprocess.run([cluster.bin / "pg_waldump", "-p", to_full(to), "-n", "100000", sorted(received)[0]], capture_output=True, text=True, check=False)
    assert "CHECKPOINT_SHUTDOWN" in shutdown.stdout


def to_full(to):
    """pg_waldump knows no .partial."""
    for f in to.iterdir():
        f.rename(f.with_name(f.name.removesuffix(".partial")))
    return to


@pytest.mark.deadline(120)
def test_a_primary_that_dies(new_cluster, pgweir):
    cluster = new_cluster("--replicas", 0)
    weir = pgweir(cluster)
    client = walsender(weir.port)
    start_stream(client, cluster)
    cluster.kill("primary")
    while True:  # whatever had come before, then the end
        try:
            client.read(30)
        except AssertionError as e:
            assert type(e).__name__ == "Closed"
            break
    cluster.restart("primary")
    wait_until(lambda: others(weir), 30)
    start_stream(walsender(weir.port), cluster)


# Much data, slow readers

@pytest.mark.deadline(180)
def test_a_base_backup_by_a_slow_reader(cluster, pgweir):
    """It waits for its reader, costs no memory, and disturbs nobody."""
    cluster.sql("primary", "DROP TABLE IF EXISTS bulky; CREATE TABLE bulky AS SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, 100000) n")
    weir = pgweir(binary=RELEASE, workers=1)
    others(weir)
    before = weir.pss_kb()
    client = walsender(weir.port, "true")
    client.send(query("BASE_BACKUP (CHECKPOINT 'fast', WAIT false, LABEL 'slow')"))
    client.read_until("H", 60)
    waits = "SELECT wait_event FROM pg_stat_activity WHERE application_name = %s"
    wait_until(lambda: cluster.sql("primary", waits, WHO) == [("ClientWrite",)], 60, "it waits for its reader")
    assert all(others(weir) for _ in range(50))
    held = weir.pss_kb()
    assert held < before + 16 * 1024, f"{before} kB before, {held} kB while it waits"
    most, size, kind = held, 0, ""
    while kind != "Z":
        m = client.read(30)
        kind, size = m.type, size + len(m.body)
        if size // (16 << 20) > (size - len(m.body)) // (16 << 20):
            most = max(most, weir.pss_kb())
    assert size > 100 << 20
    assert most < before + 16 * 1024, f"{before} kB before, {most} kB at most"
    assert client.rows("IDENTIFY_SYSTEM")
    cluster.sql("primary", "DROP TABLE bulky")


def test_a_client_that_sends_much(cluster, pgweir):
    """COPY IN through a WAL sender whose server is slow to take it."""
    weir = pgweir(binary=RELEASE, workers=1)
    cluster.sql("primary", "DROP TABLE IF EXISTS slow_t; CREATE TABLE slow_t (t text)")
    client = walsender(weir.port)
    client.send(query("COPY slow_t FROM STDIN"))
    client.read_until("G")
    row = copy_data(b"x" * 8000 + b"\n")
    for _ in range(40):
        client.send(row * 100)
    assert weir.pss_kb() < 60 * 1024
    client.send(copy_done())
    assert client.read_until("Z", 60)[0].body == b"COPY 4000\0"
    cluster.sql("primary", "DROP TABLE slow_t")


# TLS

@pytest.mark.parametrize("method", ["stream", "fetch"])
def test_pg_basebackup_by_tls_on_both_legs(cluster, pgweir, work_dir, method):
    weir = pgweir(client_tls_sslmode="require", client_tls_cert_file=cluster.tls_dir / "server.crt", client_tls_key_file=cluster.tls_dir / "server.key",
                  server_tls_sslmode="verify-full", server_tls_ca_file=cluster.tls_dir / "ca.crt",
                  databases={"app": cluster.entry().replace("127.0.0.1", "localhost")})
    backup = work_dir / f"backup-{os.urandom(4).hex()}"
    done = subprocess.run([cluster.bin / "pg_basebackup", "-D", backup, "-X", method, "-c", "fast", "--no-sync", "-d",
                           f"host=localhost port={weir.port} user=postgres sslmode=verify-full sslrootcert={cluster.tls_dir / 'ca.crt'}"],
                          capture_output=True, text=True, timeout=60, env={**os.environ, "PGPASSWORD": PASSWORDS["postgres"]})
    assert done.returncode == 0, done.stderr
    checked = subprocess.run([cluster.bin / "pg_verifybackup", backup], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stderr


def test_a_stream_by_tls(cluster, pgweir):
    weir = pgweir(client_tls_sslmode="require", client_tls_cert_file=cluster.tls_dir / "server.crt", client_tls_key_file=cluster.tls_dir / "server.key",
                  server_tls_sslmode="require")
    client = RawPg(weir.port)
    client.start_tls()
    client.login("postgres", "app", PASSWORDS["postgres"], replication="database", application_name=WHO)
    assert cluster.sql("primary", "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = %s", WHO) == [(True,)]
    start_stream(client, cluster)
    hears_wal(client, cluster)


# A standby

@pytest.mark.deadline(120)
def test_a_standby_streams_through_pgweir(new_cluster, pgweir):
    """Made by pg_basebackup -R; commits wait for its answer; it comes back when its WAL sender was ended."""
    cluster = new_cluster("--replicas", 0)
    weir = pgweir(cluster)
    home, port = Path(cluster.dir, "standby"), free_port()
    conninfo = f"host=127.0.0.1 port={weir.port} user=postgres password={PASSWORDS['postgres']} application_name={WHO}"

    def run(program, *args):
        owner = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []  # PostgreSQL refuses root
        subprocess.run([*owner, cluster.bin / program, "-D", home, *args], check=True, timeout=60, stdout=subprocess.DEVNULL)
    run("pg_basebackup", "-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", conninfo)
    run("pg_ctl", "start", "-w", "-s", "-l", home / "log", "-o", f"-p {port}")
    try:
        wait_until(lambda: senders(cluster) == 1, what="it streams")
        cluster.sql("primary", f"ALTER SYSTEM SET synchronous_standby_names = '{WHO}'")
        cluster.sql("primary", "ALTER SYSTEM SET synchronous_commit = remote_apply")
        cluster.sql("primary", "SELECT pg_reload_conf()")
        wait_until(lambda: cluster.sql("primary", "SELECT sync_state FROM pg_stat_replication WHERE application_name = %s", WHO) == [("sync",)])
        cluster.sql("primary", "CREATE TABLE public.followed AS SELECT 42 AS n")  # which waits for its answer
        standby = psycopg2.connect(host="127.0.0.1", port=port, user="postgres", dbname="app")
        standby.autocommit = True
        with standby.cursor() as cursor:
            cursor.execute("SELECT n, pg_is_in_recovery() FROM followed")
            assert cursor.fetchone() == (42, True)
        cluster.sql("primary", "SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name = %s", WHO)
        cluster.sql("primary", "UPDATE public.followed SET n = 43")
        with standby.cursor() as cursor:
            cursor.execute("SELECT n FROM followed")
            assert cursor.fetchone() == (43,)
        standby.close()
    finally:
        run("pg_ctl", "stop", "-m", "immediate", "-s")
