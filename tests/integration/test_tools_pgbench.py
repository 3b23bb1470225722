"""pgbench through pgweir: no error, and the tables agree. PGWEIR_FULL=1 runs the whole matrix."""
import itertools
import os
import re
import subprocess

import pytest
from conftest import PASSWORDS, RELEASE, Cluster, wait_until
from loads import Pgbench

SECONDS = 3 if os.environ.get("PGWEIR_FULL") else 1
SUMS = """SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(bbalance) FROM pgbench_branches),
                 (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)"""
SCRIPTS = {"select": ["-S"], "tpcb": []}


@pytest.fixture(scope="module")
def wide(work_dir):
    """A cluster with room for 500 clients that come one by one, and pgbench's tables in it."""
    cluster = Cluster(work_dir / "cluster-wide", "--replicas", 1, "--tls", "--max-connections", 300)
    yield cluster
    cluster.stop()


@pytest.fixture
def bench(wide, pgweir):
    """bench(workers=2, sslmode=...): a pgweir, and a function that runs pgbench through it."""
    def start(workers, sslmode="disable", **options):
        tls = {} if sslmode == "disable" else {
            "client_tls_sslmode": "allow", "client_tls_cert_file": wide.tls_dir / "server.crt",
            "client_tls_key_file": wide.tls_dir / "server.key", "server_tls_sslmode": "require"}
        weir = pgweir(cluster=wide, workers=workers, log_connections=0, log_disconnections=0, **tls, **options)

        def run(*args, clients=0):
            # A thread for each: it blocks while it prepares, and would hold the transactions of its other clients, and all servers with them, for ever.
            spread = ["-c", clients, "-j", clients] if clients else []
            done = subprocess.run([wide.bin / "pgbench", "-n", "-h", "127.0.0.1", "-p", str(weir.port), "-U", "app_scram",
                                   *map(str, [*args, *spread]), "app"], stdin=subprocess.DEVNULL, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  env={**os.environ, "PGPASSWORD": PASSWORDS["app_scram"], "PGSSLMODE": sslmode})
            assert done.returncode == 0, f"{done.stdout}\n{weir.log()[-2000:]}"
            assert not re.search(r"ERROR|FATAL|error:|number of failed transactions: [1-9]", done.stdout), done.stdout
            return done.stdout
        weir.bench = run
        return weir
    return start


@pytest.fixture
def tables(wide, bench):
    """pgbench -i through pgweir, once; the sums are even at the start of each test."""
    if not wide.sql("primary", "SELECT 1 FROM pg_class WHERE relname = 'pgbench_history'"):
        bench(1).bench("-i", "-q", "-s", 10)
    wide.wait_replayed()


def check_sums(cluster, transactions_before, output):
    sums = cluster.sql("primary", SUMS)[0]
    assert len(set(sums)) == 1, f"accounts, branches, tellers, history: {sums}"
    done = int(re.search(r"number of transactions actually processed: (\d+)", output)[1])
    history = cluster.sql("primary", "SELECT count(*) FROM pgbench_history")[0][0]
    assert history - transactions_before >= done > 0, "an acknowledged transaction is missing"


def one_run(cluster, weir, script, mode, clients, connect=False, seconds=SECONDS):
    before = cluster.sql("primary", "SELECT count(*) FROM pgbench_history")[0][0]
    length = ["-t", 5] if clients >= 64 else ["-T", seconds]
    output = weir.bench(*SCRIPTS[script], "-M", mode, *length, *(["-C"] if connect else []), clients=clients)
    assert re.search(r"number of transactions actually processed: [1-9]", output), output
    if script == "tpcb":
        check_sums(cluster, before, output)


def test_pgbench_initialises_through_pgweir_and_the_replica_gets_it(wide, bench):
    bench(2).bench("-i", "-q", "-s", 10)
    wide.wait_replayed()
    assert wide.sql("replica1", "SELECT count(*) FROM pgbench_accounts") == [(1000000,)]


REDUCED = [  # workers, sslmode, script, mode, clients
    (1, "disable", "select", "simple", 1), (2, "disable", "select", "prepared", 64), (4, "require", "select", "extended", 16),
    (2, "disable", "tpcb", "simple", 16), (1, "require", "tpcb", "prepared", 64), (4, "disable", "tpcb", "extended", 16),
]


@pytest.mark.parametrize("workers,sslmode,script,mode,clients", REDUCED)
@pytest.mark.usefixtures("tables")
def test_pgbench(wide, bench, workers, sslmode, script, mode, clients):
    one_run(wide, bench(workers, sslmode), script, mode, clients)


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("sslmode,script,mode", [("disable", "select", "simple"), ("require", "select", "simple"), ("disable", "tpcb", "extended"),
                                                ("disable", "tpcb", "prepared")])
def test_pgbench_connects_for_each_transaction(wide, bench, sslmode, script, mode):
    one_run(wide, bench(2, sslmode), script, mode, 8, connect=True)


PIPELINES = {
    "transaction": r"""
        \startpipeline
        BEGIN;
        {work}
        END;
        \endpipeline""",
    "implicit": r"""
        \startpipeline
        {work}
        \endpipeline""",
    "begin outside": r"""
        BEGIN;
        \startpipeline
        {work}
        \endpipeline
        END;""",
}
WORK = """UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
        SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
        UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
        UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
        INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);"""
DRAW = r"""\set aid random(1, 1000000)
        \set bid random(1, 10)
        \set tid random(1, 100)
        \set delta random(-5000, 5000)
        """


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("mode", ["extended", "prepared"])
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_pgbench_with_pipelines(wide, bench, tmp_path, mode, pipeline):
    script = tmp_path / "script.sql"
    script.write_text(DRAW + PIPELINES[pipeline].format(work=WORK))
    before = wide.sql("primary", "SELECT count(*) FROM pgbench_history")[0][0]
    weir = bench(2, default_pool_size=3)
    output = weir.bench("-M", mode, "-f", script, "-t", 20, "--max-tries", 20, clients=12)
    assert "number of transactions actually processed: 240/240" in output
    check_sums(wide, before, output)


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("script", ["select", "tpcb"])
def test_pgbench_with_500_clients(wide, bench, script):
    one_run(wide, bench(2, binary=RELEASE, queue_timeout="60s"), script, "prepared", 500)


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("script", ["select", "tpcb"])
def test_no_client_waits_beside_an_idle_server(wide, bench, script):
    """4 workers share 2 servers per node among 32 clients: all are served, none for much longer than its turn."""
    weir = bench(4, default_pool_size=2, queue_timeout="2s")
    one_run(wide, weir, script, "simple", 32, seconds=3)
    assert "53300" not in weir.log()
    pools = next(row for row in weir.show("POOLS") if row["database"] == "app")
    assert int(pools["sv_idle"]) + int(pools["sv_used"]) <= 4 and int(pools["cl_waiting"]) == 0


@pytest.mark.usefixtures("tables")
def test_reload_under_load_disturbs_nobody(wide, bench):
    weir = bench(2)
    with Pgbench(weir, wide, "-c", 8, "-j", 2) as writes, Pgbench(weir, wide, "-S", "-c", 8, "-j", 2) as reads:
        for n in range(3):
            since = len(weir.log())
            weir.reload(max_lag=f"{n + 1}s", default_pool_size=20 - n)
            weir.wait_log(r"config\.reload", since=since)
            for load in (reads, writes):
                seconds = len(load.progress())
                wait_until(lambda: len(load.progress()) > seconds, what="pgbench goes on")
    values = {row["key"]: row["value"] for row in weir.show("CONFIG")}
    assert (values["max_lag"], values["default_pool_size"]) == ("3", "18")


FULL = itertools.product((1, 2, 4), ("disable", "require"), ("select", "tpcb"), ("simple", "extended", "prepared"),
                         (1, 16, 64, 256, 500))


@pytest.mark.skipif(not os.environ.get("PGWEIR_FULL"), reason="PGWEIR_FULL=1 runs it")
@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("workers,sslmode,script,mode,clients", FULL)
def test_pgbench_full(wide, bench, workers, sslmode, script, mode, clients):
    one_run(wide, bench(workers, sslmode, binary=RELEASE, queue_timeout="60s"), script, mode, clients)


@pytest.mark.skipif(not os.environ.get("PGWEIR_FULL"), reason="PGWEIR_FULL=1 runs it")
@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("workers,sslmode,script,mode", itertools.product(
    (1, 2, 4), ("disable", "require"), ("select", "tpcb"), ("simple", "extended", "prepared")))
def test_pgbench_full_connecting_each_time(wide, bench, workers, sslmode, script, mode):
    one_run(wide, bench(workers, sslmode, binary=RELEASE, queue_timeout="60s"), script, mode, 32, connect=True)
