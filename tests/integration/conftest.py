"""Fixtures: a PostgreSQL primary with a replica, and pgweir in front of it.

    def test_something(cluster, pgweir):
        weir = pgweir(default_pool_size=2)            # options of [pgweir]
        with weir.connect() as db: ...                # psycopg2
        c = weir.raw().login("app_scram", "app", "secret")   # the bytes, see rawpg.py
        cluster.pause("replica1"); weir.wait_log("route.node_ineligible")

At the end of a test each pgweir gets SIGTERM, must exit 0 in time, and must not have lost or leaked anything.
Nothing here sleeps and hopes: wait_until() polls a condition up to a deadline.
"""
import contextlib
import ctypes
import faulthandler
import gc
import os
import random
import re
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg2
import pytest

from rawpg import RawPg

ROOT = Path(__file__).resolve().parents[2]
RELEASE = Path(os.environ.get("PGWEIR_RELEASE_BIN", ROOT / "build/pgweir"))  # where sanitizers only cost time
BINARY = Path(os.environ.get("PGWEIR_BIN", ROOT / "build/pgweir-asan"))
PASSWORDS = {"app_scram": "secret", "app_md5": "secret", "app_plain": "secret", "app": "app", "postgres": "postgres"}
STOP_S = 15.0  # from SIGTERM to the exit, with sanitizers
DEADLINE_S = 60.0  # of a test without @pytest.mark.deadline(seconds)


def wait_until(condition, deadline_s=10.0, what=None):
    """Calls condition() until it returns something true, and returns that. Fails at the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s: {what or getattr(condition, '__name__', condition)}")
        time.sleep(0.02)


def replace(path, text):
    """At once: whoever reads the file meanwhile, after a SIGHUP, finds the old one or the new one."""
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.replace(path)


def free_port():
    """A port below the ephemeral range on which nobody listens. Whoever binds it must be ready to lose it."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)):
                return port


class Cluster:
    """A primary and its replicas, by scripts/cluster. Nodes are called primary, replica1, replica2 ..."""

    WHO = "SELECT (17 - length(pi()::text)) / 2"  # a plain read that tells its node: see _mark() and node_of()

    def __init__(self, directory, *args):
        self.dir, self.changed = Path(directory), set()
        self._read_env(self._run("start", *args))
        for node in self.nodes[1:]:
            self._mark(node)

    def _mark(self, replica):
        """A replica writes floats with fewer digits than the primary, so that a read can tell where it ran."""
        self.sql(replica, f"ALTER SYSTEM SET extra_float_digits = {1 - int(replica[7:]) * 2}")
        self.sql(replica, "SELECT pg_reload_conf()")
        wait_until(lambda: self.node_of(self.sql(replica, self.WHO)[0][0]) == replica, what="digits of " + replica)

    @staticmethod
    def node_of(answer):
        """The node that gave this answer to WHO."""
        return f"replica{answer}" if int(answer) else "primary"

    def _run(self, command, *args):
        done = subprocess.run([ROOT / "scripts/cluster", command, self.dir, *map(str, args)],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0, f"scripts/cluster {command} {args}: {done.stderr}"
        return done.stdout

    def _read_env(self, text):
        env = dict(line.split("=", 1) for line in text.split())
        self.bin = Path(env["PGBIN"])
        self.ports = {k[:-5].lower(): int(v) for k, v in env.items() if k.endswith("_PORT")}

    @property
    def nodes(self):
        return sorted(self.ports)  # primary, replica1, replica2: the primary first

    @property
    def tls_dir(self):
        return self.dir / "tls"

    def entry(self, nodes=None, **more):
        """The right side of a line of [databases] for these nodes (default: all)."""
        ports = [str(self.ports[n]) for n in nodes or self.nodes]
        more = {"dbname": "app", **more}
        return " ".join([f"host={','.join(['127.0.0.1'] * len(ports))} port={','.join(ports)}",
                         *(f"{k}={v}" for k, v in more.items())])

    def connect(self, node="primary", user="postgres", dbname="app", **more):
        """Straight to a node, autocommit."""
        db = psycopg2.connect(host="127.0.0.1", port=self.ports[node], user=user, dbname=dbname,
                              connect_timeout=10, **more)
        db.autocommit = True
        return db

    def sql(self, node, statement, *values):
        """Runs a statement straight on a node; the rows if there are any."""
        db = self.connect(node)
        try:
            with db.cursor() as cursor:
                cursor.execute(statement, values or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            db.close()

    def wait_replayed(self, *replicas, deadline_s=10.0):
        """Until the replicas have replayed all that the primary has written by now."""
        # Where a page is about to begin, the insert position is behind its header, which replay is not before more comes.
        ((lsn,),) = self.sql("primary", "SELECT lsn - CASE WHEN (lsn - '0/0') % 16777216 = 40 THEN 40"
                             " WHEN (lsn - '0/0') % 8192 = 24 THEN 24 ELSE 0 END FROM pg_current_wal_insert_lsn() AS lsn")
        for node in replicas or [n for n in self.nodes if n != "primary"]:
            wait_until(lambda: self.sql(node, "SELECT pg_last_wal_replay_lsn() >= %s", lsn)[0][0],
                       deadline_s, f"{node} replays {lsn}")

    def active(self, text):
        """How many queries with this text run now, on all nodes together."""
        return sum(self.sql(node, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND strpos(query, %s) > 0"
                            " AND pid <> pg_backend_pid()", text)[0][0] for node in self.nodes)

    def wait_active(self, text, count=1, deadline_s=10.0):
        wait_until(lambda: self.active(text) == count, deadline_s, f"{count} run {text!r}")

    def pause(self, node):
        self.changed.add(("resume", node))
        self._run("pause", node)

    def resume(self, node):
        self._run("resume", node)
        self.changed.discard(("resume", node))

    def freeze(self, node):
        """SIGSTOP for the whole node."""
        self.changed.add(("thaw", node))
        self._run("signal", node, "STOP")

    def thaw(self, node):
        self._run("signal", node, "CONT")
        self.changed.discard(("thaw", node))

    def kill(self, node):
        self._run("kill", node)
        self.changed.add(("restart", node))

    def restart(self, node):
        self._run("restart", node)
        self.changed.discard(("restart", node))
        self._read_env(self._run("env"))

    def promote(self, node):
        self._run("promote", node)

    def follow(self, node, upstream):
        self._run("follow", node, upstream)

    def rejoin(self, node, upstream):
        """A node that is down becomes a new replica of another one."""
        self._run("rejoin", node, upstream)
        self.changed.discard(("restart", node))
        self._read_env(self._run("env"))

    def skew(self, node, offset):
        """Restarts it with its clock off by "+1h" or the like."""
        self.changed.add(("unskew", node))
        self._run("skew", node, offset)
        self._read_env(self._run("env"))

    def unskew(self, node):
        self._run("skew", node, 0)
        self.changed.discard(("unskew", node))
        self._read_env(self._run("env"))

    def synchronous(self, *replicas):
        """From now on the primary tells of a commit when all of these have it."""
        self.sql("primary", f"ALTER SYSTEM SET synchronous_standby_names = '{len(replicas)} ({', '.join(replicas)})'")
        self.sql("primary", "SELECT pg_reload_conf()")
        wait_until(lambda: self.sql("primary", "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'")
                   == [(len(replicas),)], what="synchronous standbys")

    def settle(self):
        """Undo what a test did to the nodes, so that the next test finds them well."""
        for undo, node in sorted(self.changed, reverse=True):  # thaw before resume
            getattr(self, undo)(node)

    def stop(self):
        self._run("stop")


class Pgweir:
    """One running pgweir."""

    def __init__(self, directory, databases, options, users=None, sections="", binary=BINARY, env=None):
        self.dir, self.binary, self.extra_env = Path(directory), binary, env or {}
        self.dir.mkdir(parents=True)
        self.log_path = self.dir / "pgweir.log"
        self.ini = self.dir / "pgweir.ini"
        self.databases, self.sections = databases, sections
        self.options = {"listen_addr": "127.0.0.1", "auth_file": self.dir / "userlist.txt", "workers": 2,
                        "server_tls_sslmode": "disable", "probe_user": "probe", "drain_grace": 0, "drain_timeout": "5s",
                        "admin_users": "app_scram", "log_connections": 1, "log_disconnections": 1, **options}
        self.write_users(users or PASSWORDS)
        self.process = None
        self._start()

    def write_users(self, users):
        replace(self.dir / "userlist.txt", "".join(f'"{u}" "{p}"\n' for u, p in users.items()))

    def write_ini(self):
        lines = ["[databases]", *(f"{k} = {v}" for k, v in self.databases.items()),
                 "[pgweir]", *(f"{k} = {v}" for k, v in self.options.items() if v is not None), self.sections]
        replace(self.ini, "\n".join(lines) + "\n")

    def _start(self):
        for _ in range(5):  # the free port may be lost to someone else before we bind it
            self.port = self.options["listen_port"] = free_port()
            self.write_ini()
            env = {k: v for k, v in os.environ.items() if not k.startswith("PGWEIR_")}  # those configure pgweir
            env.update({"ASAN_OPTIONS": "exitcode=99:detect_leaks=1", "LSAN_OPTIONS": "exitcode=99",
                   "UBSAN_OPTIONS": "print_stacktrace=1", "TSAN_OPTIONS": "exitcode=99", **self.extra_env})
            with open(self.log_path, "wb") as log:
                self.process = subprocess.Popen([self.binary, self.ini], stdin=subprocess.DEVNULL, stdout=log,
                                                stderr=log, cwd=self.dir, env=env, preexec_fn=die_with_parent)
            if wait_until(lambda: self._accepts() or self.process.poll() is not None, 15, "accepts") is True \
                    and self.process.poll() is None:
                return
            if "in use" not in self.log():
                break
        raise AssertionError(f"pgweir did not start, exit {self.process.poll()}:\n{self.log()}")

    def _accepts(self):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def pid(self):
        return self.process.pid

    # Clients
    def connect(self, user="app_scram", dbname="app", autocommit=True, **more):
        more.setdefault("password", PASSWORDS.get(user))
        db = psycopg2.connect(**{"host": "127.0.0.1", "port": self.port, "user": user, "dbname": dbname,
                                 "connect_timeout": 10, "sslmode": "disable", **more})
        db.autocommit = autocommit
        return db

    def raw(self, **more):
        return RawPg(self.port, **more)

    def takes_clients(self):
        """False while it refuses them: for wait_until(), as a place is free some time after its client has gone."""
        try:
            return self.sql("SELECT 1") == [(1,)]
        except psycopg2.OperationalError:
            return False

    def sql(self, statement, *values, **connect):
        """One statement over a connection of its own; the rows if there are any."""
        db = self.connect(**connect)
        try:
            with db.cursor() as cursor:
                cursor.execute(statement, values or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            db.close()

    def show(self, what, **more):
        """Rows of a SHOW command of the console, as dicts."""
        db = self.connect(**{"dbname": "pgweir", **more})
        try:
            with db.cursor() as cursor:
                cursor.execute(f"SHOW {what}")
                names = [column.name for column in cursor.description]
                return [dict(zip(names, row)) for row in cursor.fetchall()]
        finally:
            db.close()

    def pgbench(self, cluster, *args, user="app_scram", dbname="app"):
        """Runs pgbench through pgweir; (exit code, what it printed)."""
        done = subprocess.run([cluster.bin / "pgbench", "-n", "-h", "127.0.0.1", "-p", str(self.port), "-U", user,
                               *map(str, args), dbname], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, env={**os.environ, "PGPASSWORD": PASSWORDS[user]})
        return done.returncode, done.stdout

    def wait_reads_on_replica(self, deadline_s=10.0):
        """Until the nodes' roles and lag are known, the catalog is loaded, and reads go to a replica."""
        db = self.connect()  # which makes a template's database known
        self.wait_log(r"catalog\.(loaded|load_failed)", deadline_s)

        def on_replica():
            with db.cursor() as cursor:
                cursor.execute(Cluster.WHO)
                return Cluster.node_of(cursor.fetchone()[0]) != "primary"
        try:
            wait_until(on_replica, deadline_s, "reads go to a replica")
        finally:
            db.close()

    # The process
    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_log(self, pattern, deadline_s=10.0, since=0):
        """The first log line that matches the regular expression, after `since` characters of the log."""
        def line():
            return next((x for x in self.log()[since:].splitlines() if re.search(pattern, x)), None)
        return wait_until(line, deadline_s, f"log line {pattern}")

    def reload(self, **options):
        self.options.update(options)
        self.write_ini()
        self.process.send_signal(signal.SIGHUP)

    def pss_kb(self):
        text = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1))

    def fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def stop(self, sig=signal.SIGTERM, deadline_s=STOP_S):
        """Ends it and checks what must hold at every exit."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            code = self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(10)
            raise AssertionError(f"pgweir did not exit within {deadline_s} s of signal {sig}") from None
        self.check_end(code)

    def check_end(self, code):
        log = self.log()
        for bad in ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "WARNING: ThreadSanitizer", "runtime error:",
                    "CHECK failed"):
            assert bad not in log, log[log.index(bad) - 200:][:4000]
        assert code == 0, f"exit code {code}:\n{log[-3000:]}"
        counters = re.findall(r"^.*\bprocess\.stopped\b.*$", log, re.M)
        assert counters, "no process.stopped line with the counters"
        left = re.findall(r"\b(clients|servers|conns|buffers|heap_blocks|budget|log_dropped)=([1-9]\d*)", counters[-1])
        assert not left, f"left at exit: {left}"


def die_with_parent():
    """In the child: no pgweir outlives a test run, however that ends."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


@pytest.fixture(scope="session")
def work_dir():
    """scripts/integration made it, and removes what a killed run leaves in it."""
    given = os.environ.get("PGWEIR_TEST_DIR")
    if given:
        own = Path(given) / os.environ.get("PYTEST_XDIST_WORKER", "all")
        own.mkdir()
        os.chmod(own, 0o711)
        yield own
        return
    with tempfile.TemporaryDirectory(prefix="pgweir-tests.") as made:
        os.chmod(made, 0o711)
        yield Path(made)


@pytest.fixture(scope="session")
def session_cluster(request, work_dir):
    cluster = Cluster(work_dir / "cluster", "--replicas", 1, "--tls")
    request.config.shared_cluster = cluster
    yield cluster
    request.config.shared_cluster = None
    cluster.stop()


@pytest.fixture(scope="module", autouse=True)
def nobody_left(request):
    """A session that a module leaves on the primary is counted by another one's tests."""
    yield
    shared = getattr(request.config, "shared_cluster", None)
    if not shared:
        return
    who = "SELECT usename, application_name, state, left(query, 80) FROM pg_stat_activity WHERE usename LIKE 'app%'"
    left = []
    gc.collect()  # connections that nobody refers to any more

    def gone():
        left[:] = shared.sql("primary", who)
        return not left
    wait_until(gone, 10, left)


@pytest.fixture
def cluster(session_cluster):
    """The primary and the replica that all tests share. For promotions and the like: new_cluster."""
    yield session_cluster
    session_cluster.settle()


@pytest.fixture
def new_cluster(work_dir):
    """new_cluster('--replicas', 2, ...): a cluster of this test alone."""
    made = []

    def make(*args):
        made.append(Cluster(work_dir / f"cluster-{random.randrange(1 << 40):x}", *args))
        return made[-1]
    yield make
    for one in made:
        one.stop()


@contextlib.contextmanager
def running_pgweirs(request, work_dir):
    running = []
    assert BINARY.exists(), f"no {BINARY}: run make asan"

    def start(cluster=None, databases=None, **more):
        known = {k: more.pop(k) for k in ("users", "sections", "env", "binary") if k in more}
        if databases is None:
            databases = {"app": (cluster or request.getfixturevalue("cluster")).entry()}
        name = re.sub(r"\W+", "-", request.node.name)[:60]
        weir = Pgweir(work_dir / f"{name}-{random.randrange(1 << 40):x}", databases, more, **known)
        running.append(weir)
        return weir
    yield start
    for client in [*RawPg.alive]:  # so that the end does not wait for them
        client.close()
    failures = []
    for weir in running:
        try:
            weir.stop()
        except AssertionError as e:
            failures.append(str(e))
    if failures or getattr(request.node, "failed", False):
        for weir in running:
            print(f"-- {weir.ini}\n{weir.ini.read_text()}-- the end of its log\n{weir.log()[-6000:]}")
    assert not failures, "\n".join(failures)


@pytest.fixture
def pgweir(request, work_dir):
    """pgweir(cluster=..., databases={...}, users={...}, sections='[users]...', env={...}, **options)."""
    with running_pgweirs(request, work_dir) as start:
        yield start


@pytest.fixture(scope="module")
def shared_pgweir(request, work_dir, nobody_left):  # pylint: disable=unused-argument
    """The same for one that all tests of a module share; it needs its databases."""
    with running_pgweirs(request, work_dir) as start:
        yield start


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    item.failed = getattr(item, "failed", False) or report.failed


def pytest_configure(config):
    config.addinivalue_line("markers", f"deadline(seconds): longest time of the test, instead of {DEADLINE_S:.0f} s")


@pytest.fixture(autouse=True)
def deadline(request):
    """A hanging test fails. If C code does not come back either, the whole run ends with a stack trace."""
    mark = request.node.get_closest_marker("deadline")
    seconds = mark.args[0] if mark else DEADLINE_S

    def expired(*_):
        raise AssertionError(f"the test took more than {seconds} s")
    before = signal.signal(signal.SIGALRM, expired)
    faulthandler.dump_traceback_later(seconds + 30, exit=True)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    faulthandler.cancel_dump_traceback_later()
    signal.signal(signal.SIGALRM, before)
