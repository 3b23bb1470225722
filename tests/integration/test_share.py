"""Sample applications through pgweir: which share of their reads do replicas serve? `make test-share` prints the table.

Counted is what PostgreSQL says it ran (log_statement = all on both nodes), not what pgweir believes. The applications
have their drivers' default settings (tests/clients/README.md) and check that they see their own writes.
"""
import json
import os
import re
import subprocess
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from conftest import RELEASE, ROOT, Cluster, wait_until

CLIENTS = ROOT / "tests/clients"
NODE_MODULES = ROOT / "build/clients/node_modules"
PAGES = 60
ORDERS = 3
READ = re.compile(r"app_scram@app .*(?:statement|execute [^:]*): +SELECT ")
SETUP = re.compile(r"SELECT +(set_config|pg_catalog|current_schema|CAST\('test)|FOR UPDATE")
HAS_OPTIMISTIC = "tx_reads" in subprocess.run([RELEASE, "--print-sample"], capture_output=True, text=True).stdout
SCHEMA = """
CREATE TABLE shop_item (id serial PRIMARY KEY, name text, stock int);
CREATE TABLE shop_order (id serial PRIMARY KEY, item_id int REFERENCES shop_item);
GRANT ALL ON shop_item, shop_order, shop_item_id_seq, shop_order_id_seq TO PUBLIC;
"""


class App(NamedTuple):
    name: str
    command: list
    one_connection: bool  # its pages share a connection, so that consistency = session covers them
    before: dict          # at least this share on replicas before the write; tx_reads -> percent
    settings: str = ""    # of the database


MOST = {"primary": 90, "optimistic": 90}  # all of them, but for a busy machine whose samples come late
PYTHON = "/usr/bin/python3"
APPS = [
    App("django", [PYTHON, "shop_django.py"], False, {}),
    App("django, server in UTC", [PYTHON, "shop_django.py"], False, MOST, settings="timezone = 'UTC'"),
    App("django, one connection", [PYTHON, "shop_django.py", "", "600"], True, MOST, settings="timezone = 'UTC'"),
    App("sqlalchemy", [PYTHON, "shop_sqlalchemy.py"], True, {"optimistic": 90}),
    App("node-postgres", ["node", "shop_node.js"], True, MOST),
]
TX_READS = ["primary", "optimistic"] if HAS_OPTIMISTIC else ["primary"]


@pytest.fixture(scope="module")
def shop(work_dir):
    cluster = Cluster(work_dir / "cluster-share", "--replicas", 1, "--conf", "log_statement=all")
    yield cluster
    cluster.stop()


@pytest.fixture
def tables(shop):
    shop.sql("primary", "DROP TABLE IF EXISTS shop_order, shop_item")
    shop.sql("primary", SCHEMA)
    shop.sql("primary", "INSERT INTO shop_item (name, stock) SELECT 'item ' || n, 100 FROM generate_series(1, 20) n")
    shop.wait_replayed()


@pytest.fixture(scope="module")
def table():
    """Rows of the report, printed at the end."""
    rows = []
    yield rows
    head = ("application", "tx_reads", "reads", "on replicas before a write", "after", "own writes not seen")
    lines = [head, *rows]
    widths = [max(len(str(row[i])) for row in lines) for i in range(len(head))]
    print("\n\n" + "\n".join("  ".join(str(v).ljust(w) for v, w in zip(row, widths)) for row in lines))


class Reads:
    """The SELECTs of the application that each node has logged since the last question."""

    def __init__(self, cluster):
        self.logs = {node: cluster.dir / f"{node}.log" for node in cluster.nodes}
        self.seen = {node: log.stat().st_size for node, log in self.logs.items()}

    def since(self):
        counts = {}
        for node, log in self.logs.items():
            with open(log, errors="replace") as f:
                f.seek(self.seen[node])
                text = f.read()
                self.seen[node] = f.tell()
            counts[node] = sum(1 for line in text.splitlines() if READ.search(line) and not SETUP.search(line))
        return counts["primary"], counts["replica1"]


@contextmanager
def running(app, port):
    program, *more = app.command[1:]
    env = {**os.environ, "NODE_PATH": str(NODE_MODULES), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen([app.command[0], CLIENTS / program, str(port), *[x for x in more if x]], env=env, text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def tell(command):
        process.stdin.write(command + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, f"{app.name} ended: {process.wait(10)}"
        return json.loads(answer)["wrong"]
    try:
        yield tell
        process.stdin.close()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def percent(replica, primary):
    return 100 * replica / (replica + primary)


@pytest.mark.deadline(90)
@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("tx_reads", TX_READS)
@pytest.mark.parametrize("app", APPS, ids=lambda app: app.name.replace(" ", "_"))
def test_share_of_reads(shop, pgweir, table, app, tx_reads):
    if app.command[0] == "node" and not (NODE_MODULES / "pg").is_dir():
        pytest.skip("make test-share installs node's pg")
    for node in shop.nodes:
        shop.sql(node, f"ALTER SYSTEM SET {app.settings}" if app.settings else "ALTER SYSTEM RESET timezone")
        shop.sql(node, "SELECT pg_reload_conf()")
    options = {"tx_reads": tx_reads} if HAS_OPTIMISTIC else {}
    weir = pgweir(cluster=shop, binary=RELEASE, **options)
    weir.wait_reads_on_replica()
    with running(app, weir.port) as tell:
        tell("pages 5")  # catalog facts of the tables are loaded when they are first seen
        reads = Reads(shop)
        wrong = tell(f"pages {PAGES}")
        before = reads.since()
        own = 0
        after = [0, 0]
        for _ in range(ORDERS):
            own += tell("order")
            reads.since()
            wrong += tell(f"pages {PAGES // ORDERS}")
            after = [a + b for a, b in zip(after, reads.since())]
    share = percent(before[1], before[0]), percent(after[1], after[0])
    table.append((app.name, tx_reads, sum(before) + sum(after), f"{share[0]:.1f} %", f"{share[1]:.1f} %", wrong))
    assert sum(before) >= 2 * PAGES and sum(after) >= 2 * PAGES, "the reads were not counted"
    assert own == 0, "a request does not see what it wrote itself"
    if app.one_connection:
        assert wrong == 0, "a page of the same connection does not show the last write"
    assert share[0] >= app.before.get(tx_reads, 0)


TRIES = 5


def scans(cluster):
    """Index scans of pgbench's table on the primary and on the replica, once all servers of pgweir have ended."""
    def ended():
        return all(cluster.sql(node, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_scram'") == [(0,)]
                   for node in cluster.nodes)
    wait_until(ended, what="the servers' statistics are written")
    return [cluster.sql(node, "SELECT coalesce(sum(idx_scan), 0)::int FROM pg_stat_user_tables "
                              "WHERE relname = 'pgbench_accounts'")[0][0] for node in ("primary", "replica1")]


@pytest.mark.deadline(120)
@pytest.mark.usefixtures("tables")
def test_pgbench_select_only_reads_on_replicas(shop, pgweir):
    """99 % of pgbench -S is read on the replica: counted by PostgreSQL, the first second included. A machine so busy that
    the samples of lag come late makes the replica ineligible, and rightly so; then it is tried again."""
    weir = pgweir(cluster=shop, binary=RELEASE)
    code, out = weir.pgbench(shop, "-i", "-q", "-I", "dtgp")
    assert code == 0, out
    for node in shop.nodes:
        shop.sql(node, "ALTER SYSTEM SET log_statement = 'none'")
        shop.sql(node, "SELECT pg_reload_conf()")
    try:
        for _ in range(TRIES):
            weir.stop()
            shop.wait_replayed()
            before = scans(shop)
            weir = pgweir(cluster=shop, binary=RELEASE)
            weir.wait_reads_on_replica()
            code, out = weir.pgbench(shop, "-S", "-c", 8, "-j", 2, "-T", 2)
            assert code == 0, out
            weir.stop()
            primary, replica = (now - then for now, then in zip(scans(shop), before))
            done = int(re.search(r"transactions actually processed: (\d+)", out)[1])
            print(f"pgbench -S: {done} transactions, {replica} on the replica, {primary} on the primary")
            assert primary + replica >= done
            if "route.node_ineligible" not in weir.log():
                break
    finally:
        for node in shop.nodes:
            shop.sql(node, "ALTER SYSTEM SET log_statement = 'all'")
            shop.sql(node, "SELECT pg_reload_conf()")
    assert percent(replica, primary) >= 99
