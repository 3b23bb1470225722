"""Four workers and the control thread while everything changes at once: nothing fails, and no data race.

`make test-tsan` runs it under ThreadSanitizer; PGWEIR_THREADS_S=300 for that many seconds.
"""
import os
import threading
import time

import pytest
from checker import Checker, prepare
from conftest import Cluster, wait_until
from loads import Pgbench, Trouble

SECONDS = float(os.environ.get("PGWEIR_THREADS_S", 10))
SHOWN = ("VERSION", "NODES", "LAG", "ROUTES", "PRIMARY_READS", "POOLS", "CONFIG")
DDL = """CREATE OR REPLACE FUNCTION known(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE OR REPLACE FUNCTION writes(int) RETURNS int LANGUAGE sql AS 'UPDATE registers SET version = version + 1 WHERE id = $1; SELECT 1';
CREATE OR REPLACE VIEW seen AS SELECT id, version FROM registers;
CREATE OR REPLACE VIEW wrote AS SELECT writes(1) AS n;
CREATE UNLOGGED TABLE IF NOT EXISTS unlogged (n int);
DROP VIEW wrote;
DROP TABLE unlogged"""
MIXED = """\\set id random(0, 49)
SELECT version FROM registers WHERE id = :id;
SELECT known(:id), version FROM seen WHERE id = :id;
BEGIN READ ONLY;
SELECT count(*) FROM seen;
END;
BEGIN;
SELECT version FROM registers WHERE id = :id;
UPDATE registers SET version = version + 1 WHERE id = :id;
END;
/* pgweir: route=primary */ SELECT 1;
SET pgweir.consistency = 'global';
SELECT version FROM registers WHERE id = :id;
RESET pgweir.consistency;
"""


class Again:
    """Calls each of the functions again and again, each in a thread of its own; the first failure ends it."""

    def __init__(self, *functions):
        self.stopping, self.errors, self.rounds = threading.Event(), [], [0] * len(functions)
        self.threads = [threading.Thread(target=self._run, args=one, daemon=True) for one in enumerate(functions)]

    def _run(self, number, function):
        while not self.stopping.wait(0.02):
            try:
                function(self.rounds[number])
            except Exception as e:  # of a thread: told at the end
                self.errors.append(e)
                return
            self.rounds[number] += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(20)
        assert not any(t.is_alive() for t in self.threads), "one of them hangs"


@pytest.mark.deadline(SECONDS + 120)
def test_everything_changes_while_four_workers_run(new_cluster, pgweir):
    three = new_cluster("--replicas", 2, "--max-connections", 300)
    prepare(three)
    three.sql("primary", "GRANT ALL ON SCHEMA public TO PUBLIC")
    three.sql("primary", "CREATE FUNCTION known(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';"
                         "CREATE VIEW seen AS SELECT id, version FROM registers;"
                         "ALTER FUNCTION known OWNER TO app_scram; ALTER VIEW seen OWNER TO app_scram")
    three.wait_replayed()
    weir = pgweir(cluster=three, workers=4, lag_poll_interval="100ms", probe_timeout="500ms", max_lag="20s",
                  default_pool_size=10, catalog_poll_interval="500ms")
    weir.wait_reads_on_replica()
    script = weir.dir / "mixed.sql"
    script.write_text(MIXED)

    def ddl(_):
        for statement in DDL.split(";\n"):
            weir.sql(statement)
        time.sleep(1)  # between DDL and the catalog that knows of it reads stay on the primary

    def reload(n):
        weir.databases = {"app": three.entry(weight=f"1,{1 + n % 3},2", zone="a,b,c"),
                          **({"other": three.entry()} if n % 2 else {})}
        weir.reload(balance=("p2c", "round_robin", "least_connections")[n % 3], queue_timeout=f"{5 + n % 2}s",
                    log_routes=("changes", "all")[n // 2 % 2], tx_reads=("primary", "optimistic")[n % 2])
        time.sleep(0.1)

    def console(n):
        weir.show(SHOWN[n % len(SHOWN)])

    with Again(ddl, reload, console) as changes, Trouble(three, "replica1", "replica2", restarts=False) as trouble, \
            Pgbench(weir, three, "-f", script, "-c", 8, seconds=600) as load, Checker(weir, 40, pause_s=0.02) as checker:
        wait_until(lambda: len(weir.show("NODES")) == 3)
        time.sleep(SECONDS)
    print(checker.report(), f"pgbench {load.progress()} tx/s;", len(trouble.done), "troubles;",
          "ddl, reload, console: %d, %d, %d" % tuple(changes.rounds))
    assert changes.errors == [] and min(changes.rounds) > 1, (changes.errors, changes.rounds)
    assert checker.broken() == [] and checker.errors == [], checker.report()
    assert checker.writes > 50 and checker.replica_share() > 0.02, checker.report()
    assert {Cluster.node_of(n) for n in range(3)} == set(checker.reads), checker.report()
