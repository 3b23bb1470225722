"""What is measured: direct, PgBouncer, the bare relay, pgweir. Each is a process of its own on a port of its own."""
import os
import re
import shutil
import signal
import socket
import subprocess
import time

POOL_SIZE = 16
USERS = '"app" ""\n"app_scram" "secret"\n'

PGBOUNCER_INI = """[databases]
app = host=127.0.0.1 port={primary} dbname=app
{databases}[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
listen_backlog = 1024
auth_type = {auth}
auth_file = {users}
pool_mode = transaction
default_pool_size = {pool_size}
max_prepared_statements = 200
max_client_conn = 12000
log_connections = 0
log_disconnections = 0
{more}"""

PGWEIR_INI = """[databases]
app = host={hosts} port={ports} dbname=app
{databases}[pgweir]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = {auth}
auth_file = {users}
workers = {workers}
default_pool_size = {pool_size}
max_client_conn = 12000
probe_user = probe
probe_dbname = app
server_tls_sslmode = disable
drain_grace = 0
{more}"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Target:
    """One endpoint: its port and, unless it is PostgreSQL itself, the process in between."""

    def __init__(self, name, port, argv=None, log=None):
        self.name, self.port, self.log, self.process = name, port, log, None
        if argv:
            with open(log, "w", encoding="utf-8") as out:
                self.process = subprocess.Popen(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                                                start_new_session=True)
            self.wait_listening()

    @property
    def pid(self):
        return self.process.pid if self.process else None

    def wait_listening(self):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.process.poll() is None:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise SystemExit(f"bench: {self.name} does not listen:\n" + self.log_text()[-2000:])

    def cpu_ns(self):
        """CPU time of all threads, the ended ones too: the process's CPU clock, which is what
        /proc/PID/task/*/schedstat adds up to."""
        return time.clock_gettime_ns((~self.pid << 3) | 2) if self.pid else 0

    def pss_kb(self):
        with open(f"/proc/{self.pid}/smaps_rollup", encoding="ascii") as f:
            return int(re.search(r"^Pss:\s+(\d+)", f.read(), re.M)[1])

    def log_text(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def stop(self):
        if not self.process:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT if self.name == "PgBouncer" else signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Bed:
    """A primary, a replica, and what stands in front of them."""

    CONF = ["shared_buffers=512MB", "autovacuum=off", "max_wal_size=8GB", "checkpoint_timeout=30min"]

    def __init__(self, root, scratch, max_connections=420, programs=("pgweir", "relay"), conf=()):
        self.root, self.dir, self.targets = root, scratch, []
        self.load = os.getloadavg()[0]
        other = os.environ.get("BENCH_PGWEIR")
        self.version = f"binary {other}" if other else subprocess.run(
            ["git", "-C", root, "describe", "--always", "--dirty"], stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
        self.users = f"{scratch}/users.txt"
        with open(self.users, "w", encoding="ascii") as f:
            f.write(USERS)
        peer = dict(line.split("=", 1) for line in self.script("peer").splitlines())
        self.pgbouncer, self.pgbouncer_version = peer["PGBOUNCER"], peer["PGBOUNCER_VERSION"]
        for name in programs:  # a build going on meanwhile must not change what is measured
            shutil.copy(os.environ.get(f"BENCH_{name.upper()}", f"{root}/build/{name}"), f"{scratch}/{name}")
        lines = self.script("cluster", "start", f"{scratch}/cluster", "--max-connections",
                            str(max_connections), *[arg for c in [*self.CONF, *conf] for arg in ("--conf", c)])
        env = dict(line.split("=", 1) for line in lines.splitlines())
        self.primary, self.replica, self.bin = int(env["PRIMARY_PORT"]), int(env["REPLICA1_PORT"]), env["PGBIN"]

    def script(self, name, *args):
        done = subprocess.run([f"{self.root}/scripts/{name}", *args], stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout

    def sql(self, text, node="primary"):
        return self.script("cluster", "psql", f"{self.dir}/cluster", node, "-d", "app", "-c", text).strip()

    def add(self, *args):
        self.targets.append(Target(*args))
        return self.targets[-1]

    def write(self, name, text):
        with open(f"{self.dir}/{name}", "w", encoding="ascii") as f:
            f.write(text)
        return f"{self.dir}/{name}"

    def direct(self):
        return self.add("direct", self.primary)

    def relay(self):
        port = free_port()
        return self.add("relay", port, [f"{self.dir}/relay", str(port), str(self.primary)], f"{self.dir}/relay.log")

    def pgbouncer_target(self, auth="trust", pool_size=POOL_SIZE, more="", databases=""):
        port = free_port()
        ini = self.write(f"pgbouncer-{port}.ini", PGBOUNCER_INI.format(
            port=port, primary=self.primary, auth=auth, users=self.users, pool_size=pool_size,
            more=more, databases=databases.format(hosts="127.0.0.1", ports=self.primary)))
        return self.add("PgBouncer", port, [self.pgbouncer, "-q", ini], f"{self.dir}/pgbouncer-{port}.log")

    def pgweir_target(self, name="pgweir", replica=True, workers=1, auth="trust", pool_size=POOL_SIZE, more="", databases=""):
        port = free_port()
        ports = [self.primary, self.replica] if replica else [self.primary]
        where = {"hosts": ",".join(["127.0.0.1"] * len(ports)), "ports": ",".join(map(str, ports))}
        ini = self.write(f"pgweir-{port}.ini", PGWEIR_INI.format(
            **where, port=port, auth=auth, users=self.users, workers=workers, pool_size=pool_size, more=more,
            databases=databases.format(**where)))
        target = self.add(name, port, [f"{self.dir}/pgweir", ini], f"{self.dir}/pgweir-{port}.log")
        time.sleep(0.5)  # the first samples, without which the replica gets no reads
        return target

    def stop(self):
        for target in self.targets:
            target.stop()
        if os.path.exists(f"{self.dir}/cluster/env"):
            self.script("cluster", "stop", f"{self.dir}/cluster")
        shutil.rmtree(self.dir, ignore_errors=True)
