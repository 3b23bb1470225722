"""Where the programs of this folder run: a PostgreSQL cluster of their own with pairs of equal databases (differ_d0 for
the direct world, differ_p0 for the one behind pgweir), and one pgweir. All of it is gone with the program."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))
sys.dont_write_bytecode = True
from conftest import Cluster, Pgweir, wait_until  # noqa: E402  pylint: disable=wrong-import-position

FIXTURE = (HERE / "fixture.sql").read_text()
LOCKS_GONE_S = 10.0  # after the client has left
CHANGES_ROWS = ("INSERT", "UPDATE", "DELETE", "COPY", "NEXTVAL", "SETVAL", "SQ")
CHANGES_SCHEMA = ("CREATE", "ALTER", "DROP", "TRUNCATE", "INTO", "CALL", "GRANT", "REVOKE")
REFILL = """TRUNCATE t, c, u; INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, NULL); INSERT INTO u VALUES (1, 'x');
SELECT setval('sq', 1, false)"""


class Place:
    """with Place(...) as place: place.pair(0)"""

    def __init__(self, pairs=1, replicas=0, **options):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.dir = Path(tempfile.mkdtemp(prefix="pgweir-differ.", dir=base))
        os.chmod(self.dir, 0o711)
        self.pairs, self.replicas, self.options = pairs, replicas, options
        self.cluster = self.weir = None

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _start(self):
        self.cluster = Cluster(self.dir / "cluster", "--replicas", self.replicas, "--conf", "log_min_messages=fatal",
                               "--conf", "log_min_error_statement=panic", "--conf", "autovacuum=off")
        self.cluster.sql("primary", "CREATE ROLE differ LOGIN")
        self.cluster.sql("primary", "CREATE ROLE differ_role")
        self.cluster.sql("primary", "GRANT differ_role TO differ")
        for node in self.cluster.nodes[1:]:
            self._unmark(node)
        entries = {}
        for n in range(self.pairs):
            for world in "dp":
                name = f"differ_{world}{n}"
                self.cluster.sql("primary", f"CREATE DATABASE {name} OWNER differ")
                db = self.admin(name)
                with db.cursor() as cursor:
                    cursor.execute("DROP SCHEMA public")
                    cursor.execute(FIXTURE)
                db.close()
            entries[f"differ_p{n}"] = self.cluster.entry(dbname=f"differ_p{n}")
        options = {"auth_type": "trust", "default_pool_size": 2, "queue_timeout": "20s", "workers": 1, "log_connections": 0,
                   "log_disconnections": 0, "log_routes": "none", "catalog_poll_interval": "1h", **self.options}
        self.weir = Pgweir(self.dir / "pgweir", entries, options, users={"differ": "", "postgres": ""})

    def rewrites_names(self):
        """pgweir keeps prepared statements apart from servers; else each pins its client."""
        return int(self.options.get("max_prepared_statements", 1)) > 0

    def _unmark(self, replica):
        """conftest's replicas write floats in their own way, so that tests can tell them; here nobody may."""
        self.cluster.sql(replica, "ALTER SYSTEM RESET extra_float_digits")
        self.cluster.sql(replica, "SELECT pg_reload_conf()")
        wait_until(lambda: self.cluster.sql(replica, "SHOW extra_float_digits") == [("1",)])

    def admin(self, database, user="differ"):
        """A connection straight to PostgreSQL that waits for no lock for long."""
        return self.cluster.connect(user=user, dbname=database, options="-c lock_timeout=5s -c client_min_messages=error")

    def __exit__(self, kind, *_):
        wrong = None
        try:
            if self.weir and self.weir.process:
                self.weir.stop()
        except AssertionError as e:
            wrong = e
        finally:
            if self.cluster:
                self.cluster.stop()
            else:
                subprocess.run([HERE.parents[1] / "scripts/cluster", "stop", self.dir / "cluster"], check=False)
            shutil.rmtree(self.dir, ignore_errors=True)
        if wrong and kind is None:
            raise wrong


class Fixture:
    """Makes a pair of databases equal again after a sequence, with as little work as its texts ask for."""

    def __init__(self, place, n):
        self.place, self.name = place, f"differ_p{n}"
        self.dbs = [place.admin(f"differ_d{n}"), place.admin(f"differ_p{n}")]
        self.replicas = [place.cluster.connect(node) for node in place.cluster.nodes[1:]]

    def run(self, world, sql):
        """Whether it succeeded, or its SQLSTATE."""
        with self.dbs[world].cursor() as cursor:
            try:
                cursor.execute(sql)
            except Exception as e:  # pylint: disable=broad-except
                return getattr(e, "pgcode", None) or repr(e)
        self._replayed()
        return "ok"

    def _replayed(self):
        """Replicas show it too: pgweir cannot know what was not done through it."""
        if not self.replicas:
            return
        with self.dbs[0].cursor() as cursor:
            cursor.execute("SELECT pg_current_wal_insert_lsn()")
            lsn = cursor.fetchone()[0]

        def reached(db):
            with db.cursor() as cursor:
                cursor.execute("SELECT pg_last_wal_replay_lsn() >= %s", (lsn,))
                return cursor.fetchone()[0]
        for db in self.replicas:
            wait_until(lambda: reached(db), 20, "a replica follows")  # pylint: disable=cell-var-from-loop

    def reset(self, texts, locks):
        """What the sequence left behind that must not be there any more, or None."""
        text = " ".join(texts).upper()
        words = FIXTURE if any(w in text for w in CHANGES_SCHEMA) else REFILL if any(w in text for w in CHANGES_ROWS) else None
        left = None
        for world, db in enumerate(self.dbs):
            if locks and not self._unlocked(db):
                left = "an advisory lock"
            if words:
                result = self.run(world, words)
                if result != "ok":
                    left = f"the fixture fails with {result}"
            assert not left or world, f"in the direct world: {left}"
        return left

    @staticmethod
    def _unlocked(db):
        def free():
            with db.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database"
                               " WHERE locktype = 'advisory' AND datname = current_database()")
                return cursor.fetchone()[0] == 0
        try:
            return wait_until(free, LOCKS_GONE_S)
        except AssertionError:
            return False

    def end_servers(self):
        """Ends all of pgweir's servers on this database, whatever they hold; afterwards the fixture stands again."""
        db = self.place.admin(self.name, "postgres")
        try:
            with db.cursor() as cursor:
                cursor.execute("SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND usename = 'differ'"
                               " AND pid <> %s", (self.name, self.dbs[1].info.backend_pid))
                pids = [row[0] for row in cursor.fetchall()]

                def gone():
                    cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY (%s)", (pids,))
                    return cursor.fetchone()[0] == 0
                wait_until(gone, 10, "the servers end")
        finally:
            db.close()
        for world in (0, 1):
            assert self.run(world, FIXTURE) == "ok"
