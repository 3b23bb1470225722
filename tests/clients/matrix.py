"""make test-clients: every driver through every scenario, first straight at PostgreSQL, then through pgweir.

A driver is a program (drive_*.*) that takes a port, reads the names of scenarios from its standard input and answers each
with what its user would have seen. README.md says what a scenario does and how the two talk. The answer must be right
(EXPECTED), and the same through pgweir as without it.

Through pgweir means: transaction pooling, a primary and a replica, two servers each, and other clients of the same
database and user that keep these busy, so that the driver's transactions change servers all the time. These clients look
in every transaction whether anything of the driver's session has stayed behind on their server.
"""
import argparse
import json
import os
import queue
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
import psycopg2  # noqa: E402
from conftest import ROOT, Cluster, Pgweir, wait_until  # noqa: E402

HERE = ROOT / "tests/clients"
BUILD = Path(os.environ.get("PGWEIR_DRIVERS", ROOT / "build/drivers"))
KNOWN = HERE / "known-failures"
ANSWER_S = 40  # a scenario takes a second or two; this is for the one that hangs, on a busy machine
POOL_SIZE = {"transaction": 2, "session": 12}  # in session pooling each connected client needs its own

PYTHON = "/usr/bin/python3"
DRIVERS = {
    "psycopg2": [PYTHON, "drive_psycopg2.py"],
    "psycopg3": [PYTHON, "drive_psycopg3.py"],
    "asyncpg": [PYTHON, "drive_asyncpg.py"],
    "sqlalchemy": [PYTHON, "drive_sqlalchemy.py"],
    "django": [PYTHON, "drive_django.py"],
    "node-postgres": ["node", "drive_pg.js"],
    "postgres.js": ["node", "drive_postgres.js"],
    "prisma": ["node", "drive_prisma.js"],
    "pgjdbc": ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{BUILD}/java:/usr/share/java/postgresql.jar", "Drive"],
    "pgx": [BUILD / "drive_pgx"],
    "tokio-postgres": [BUILD / "drive_tokio"],
    "ruby-pg": ["ruby", "drive_pg.rb"],
    "php-pdo": ["php", "drive_pdo.php"],
    "dbd-pg": ["perl", "drive_dbd.pl"],
    "tools": [PYTHON, "drive_tools.py"],
}
PACKAGES = {  # for --result
    "psycopg2": "python3-psycopg2", "psycopg3": "python3-psycopg", "asyncpg": "python3-asyncpg", "sqlalchemy": "python3-sqlalchemy",
    "django": "python3-django", "node-postgres": "npm pg", "postgres.js": "npm postgres", "prisma": "npm @prisma/adapter-pg",
    "pgjdbc": "libpostgresql-jdbc-java", "pgx": "golang-github-jackc-pgx-v4-dev", "tokio-postgres": "librust-tokio-postgres-dev",
    "ruby-pg": "ruby-pg", "php-pdo": "php-pgsql", "dbd-pg": "libdbd-pg-perl", "tools": "postgresql-client-15",
}
TEXT = "It's \"ü\" \\ 😀"
ANY = object()  # differs from driver to driver; must only be the same through pgweir
EXPECTED = {
    "login": ["app_scram", "app", "28P01"],
    "startup": ["9MB", "9MB", "drive", "42704"],
    "clients": [0, 1, 2, 3],
    "settings": ["5MB", "6MB", "7MB", "8MB"],
    "simple": [2, 1, "42P01", "23505", [[1, "one"], [3, "three"]]],
    "extended": [[7, TEXT, None, True, 1.5, "00ff27", [1, 2, 3]], 5, "22012", 8],
    "named": [20, 210, "22012", 210, "a", "b"],
    "pipeline": ANY,
    "copy": [1000, 500500, 1000, "22P02", 1000],
    "listen": ["one", "two", "four"],
    "cursor": [500500, 12502500, 2],
    "cancel": ["57014", 1, "57014", 1],
    "set": ["7MB", "extra", "7MB", "6MB", "7MB", "09", "app", "app_scram", "22023", "4MB", "42P01", "5MB"],
    "kept": [2, 2, 0, 1, 1, 0, 1, 1, 1, 2, 2, 3, 7, 7, 8],
    "large": [8_000_000, 8_000_000, 2000, 4_000_000],
    "readonly": [0, "25006", 1, 1, 1, 3],
    "ddl": ANY,
    "killed": ["lost", 0, 1],
}
EXPECTED_OF = {("postgres.js", "copy"): [1000, 500500, 1000, 1000]}  # see there
OPTIONS_OF = {"tools": {"consistency": "global"}}  # each run of a tool is a new client, which shall see what the last one did
TOOLS = dict.fromkeys(["pg_dump", "pg_restore", "pg_dumpall", "watch", "gset", "copy", "pgbench"], ANY)
SCHEMA = """
CREATE TABLE t (id int PRIMARY KEY, note text);
CREATE TABLE big AS SELECT n, 'row ' || n AS note FROM generate_series(1, 5000) n;
CREATE TABLE busy AS SELECT 0 AS n;
CREATE SCHEMA extra;
CREATE TABLE extra.only_extra AS SELECT 'extra'::text AS note;
GRANT USAGE ON SCHEMA extra TO PUBLIC;
GRANT ALL ON t, big, busy, extra.only_extra TO PUBLIC;
GRANT app TO app_scram;
GRANT CREATE ON DATABASE app TO app_scram;
ALTER TABLE t OWNER TO app_scram;
"""
# What a client that never set anything must find on its server.
STATE = """SELECT current_user, current_setting('work_mem'), current_setting('search_path'), current_setting('TimeZone'),
    current_setting('DateStyle'), current_setting('statement_timeout'), current_setting('application_name'),
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS advisory_locks,
    (SELECT count(*) FROM pg_listening_channels()) AS channels, 
    (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()) AS temp_objects,
    (SELECT count(*) FROM pg_prepared_statements WHERE from_sql) AS sql_prepared,
    (SELECT count(*) FROM pg_cursors WHERE is_holdable) AS hold_cursors"""
NO_LEAK = ("53300", "57P01", "57014", "08006", "08007", None)  # errors that a busy pool and killed servers bring


def scenarios_of(driver):
    return TOOLS if driver == "tools" else EXPECTED


class Program:
    """One driver's program, talking JSON lines."""

    def __init__(self, driver, port, cluster, stderr):
        self.cluster = cluster
        command = [str(x) for x in DRIVERS[driver]]
        env = {**os.environ, "NODE_PATH": str(BUILD / "node_modules"), "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8",
               "PGBIN": str(cluster.bin), "DRIVERS_BUILD": str(BUILD)}
        self.process = subprocess.Popen([*command, str(port)], cwd=HERE, env=env, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True)
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def _say(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the None in the queue tells

    def play(self, scenario):
        """{"seen": [...]}, {"skip": why} or {"error": text}."""
        self._say(scenario)
        end = time.monotonic() + ANSWER_S
        while True:
            try:
                line = self.lines.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                return {"error": f"hangs: no answer in {ANSWER_S} s"}
            if line is None:
                return {"error": "the program ended"}
            try:
                answer = json.loads(line)
            except ValueError:
                return {"error": f"not an answer: {line!r}"}
            if "await" in answer:
                self._active(answer["await"])
                self._say("go")
            elif "kill" in answer:
                threading.Thread(target=self._kill, args=[answer["kill"]], daemon=True).start()
            else:
                return answer

    def _active(self, marker):
        """The node where a statement with this marker runs; None if there is none in time."""
        def found():
            return next((node for node in self.cluster.nodes if self.cluster.sql(
                node, "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND strpos(query, %s) > 0"
                " AND pid <> pg_backend_pid()", marker)), None)
        try:
            return wait_until(found, 10)
        except AssertionError:
            return None

    def _kill(self, marker):
        node = self._active(marker)
        if node:
            self.cluster.sql(node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'active' AND"
                             " strpos(query, %s) > 0 AND pid <> pg_backend_pid()", marker)

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process.stdout.close()


class Crowd:
    """The other clients of the driver's pool: two that write and look around, and one that reads on the replica.
    short: each transaction is a session of its own, as session pooling needs it."""

    def __init__(self, weir, normal, short):
        self.weir, self.normal, self.short = weir, normal, short
        self.stopping, self.pids, self.found = threading.Event(), set(), []
        self.threads = [threading.Thread(target=self._run, args=[work, seed], daemon=True)
                        for seed, work in enumerate((self._write, self._write, self._read))]
        for thread in self.threads:
            thread.start()

    def _run(self, work, seed):
        dice, db = random.Random(seed), None
        while not self.stopping.is_set():
            try:
                db = db or self.weir.connect(autocommit=False)
                work(db, dice)
                if self.short:
                    db.close()
                    db = None
            except psycopg2.Error as e:
                if e.pgcode not in NO_LEAK:
                    self.found.append(f"a busy client got {e.pgcode} {str(e).strip()}")
                if db:
                    db.close()
                db = None
                self.stopping.wait(0.05)
        if db:
            db.close()

    def _write(self, db, dice):
        with db, db.cursor() as cursor:
            cursor.execute("INSERT INTO busy VALUES (0)")
            cursor.execute("SELECT pg_backend_pid()")
            self.pids.add(cursor.fetchone()[0])
            cursor.execute(STATE)
            self._compare(cursor)
            self.stopping.wait(dice.uniform(0, 0.008))
            cursor.execute("DELETE FROM busy WHERE ctid = (SELECT ctid FROM busy ORDER BY ctid DESC LIMIT 1 FOR UPDATE"
                           " SKIP LOCKED)")
        self.stopping.wait(dice.uniform(0, 0.002))

    def _read(self, db, dice):
        if not db.autocommit:
            db.autocommit = True
        with db.cursor() as cursor:
            cursor.execute("SELECT current_setting('work_mem'), pg_sleep(0.002)")
            if cursor.fetchone()[0] != self.normal["work_mem"]:
                self.found.append("work_mem of someone else on a reader's server")
        self.stopping.wait(dice.uniform(0, 0.004))

    def _compare(self, cursor):
        row = named(cursor)
        wrong = [f"{k}={row[k]!r}" for k in row if row[k] != self.normal[k]]
        if wrong:
            self.found.append("left behind on a server: " + ", ".join(wrong))

    def take_found(self):
        found, self.found = sorted(set(self.found)), []
        return found

    def end(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(10)


def named(cursor):
    """The one row, by column; unnamed settings get the names that STATE asks for."""
    names = ["current_user", "work_mem", "search_path", "TimeZone", "DateStyle", "statement_timeout", "application_name",
             "advisory_locks", "channels", "temp_objects", "sql_prepared", "hold_cursors"]
    return dict(zip(names, cursor.fetchone()))


class Matrix:
    """Runs the drivers; results[driver][scenario] = (cell, text)."""

    def __init__(self, directory, only_scenarios, pool_mode):
        self.dir, self.only, self.pool_mode = Path(directory), only_scenarios, pool_mode
        self.cluster = Cluster(self.dir / "cluster", "--replicas", 1)
        self.cluster.sql("primary", SCHEMA)
        self.cluster.wait_replayed()
        with self.cluster.connect(user="app_scram", password="secret").cursor() as cursor:
            cursor.execute(STATE)
            self.normal = named(cursor)
        self.known = dict(read_known())
        self.results, self.problems = {}, []

    def wanted(self, driver):
        return [s for s in scenarios_of(driver) if not self.only or s in self.only]

    def run(self, driver):
        if not self.wanted(driver):
            return
        direct = self.play_all(driver, self.cluster.ports["primary"], "direct")
        weir = self.start_weir(driver)
        crowd = Crowd(weir, self.normal, self.pool_mode == "session")
        try:
            through = self.play_all(driver, weir.port, "pgweir", crowd, [s for s in direct if "seen" in direct[s]])
        finally:
            crowd.end()
            problem = self.stop_weir(weir)
        if problem:
            self.problems.append(f"{driver}: pgweir {problem}")
        if len(crowd.pids) < 2:
            self.problems.append(f"{driver}: the busy clients have seen {len(crowd.pids)} servers: nothing was shared")
        self.results[driver] = {s: self.judge(driver, s, direct[s], through.get(s)) for s in direct}

    def start_weir(self, driver):
        weir = Pgweir(self.dir / f"weir-{driver}", {"app": self.cluster.entry(), "postgres": self.cluster.entry(dbname="postgres"),
                                                    "template1": self.cluster.entry(dbname="template1")},
                      {"pool_mode": self.pool_mode, "default_pool_size": POOL_SIZE[self.pool_mode], **OPTIONS_OF.get(driver, {})})
        if self.pool_mode == "transaction":
            weir.wait_reads_on_replica(30)
        return weir

    @staticmethod
    def stop_weir(weir):
        try:
            weir.stop()
        except AssertionError as e:
            return str(e)[:2000]
        return None

    def play_all(self, driver, port, how, crowd=None, scenarios=None):
        answers, program = {}, None
        with open(self.dir / f"{driver}-{how}.stderr", "w") as stderr:
            for scenario in scenarios if scenarios is not None else self.wanted(driver):
                self.cluster.sql("primary", "TRUNCATE t; DROP TABLE IF EXISTS ddl_t")
                self.cluster.wait_replayed()
                program = program or Program(driver, port, self.cluster, stderr)
                begun = time.monotonic()
                answer = program.play(scenario)
                took = time.monotonic() - begun
                if crowd and (found := crowd.take_found()):
                    answer = {"error": f"{'; '.join(found)} (the driver itself: {json.dumps(answer, ensure_ascii=False)})"}
                answers[scenario] = answer
                print(f"{driver:15} {how:7} {scenario:10} {took:5.1f} s  "
                      f"{json.dumps(answer, ensure_ascii=False)[:220]}", flush=True)
                if "error" in answer:  # whatever it has left open shall not touch the next one
                    program.end()
                    program = None
            if program:
                program.end()
        return answers

    def judge(self, driver, scenario, direct, through):
        if "skip" in direct:
            return "-", direct["skip"]
        expected = EXPECTED_OF.get((driver, scenario), scenarios_of(driver)[scenario])
        if "error" in direct or (expected is not ANY and direct["seen"] != expected):
            return "BROKEN", f"without pgweir: {direct.get('error') or direct['seen']}"
        same = alike(scenario, direct["seen"], through.get("seen"))
        cause = self.known.get((driver, scenario))
        if same:
            return ("PASSES", f"but {KNOWN.name} says: {cause}") if cause else ("ok", "")
        text = through.get("error") or f"saw {through.get('seen', through)}, without pgweir {direct['seen']}"
        return ("known", f"{cause}: {text}") if cause else ("FAIL", text)

    def report(self):
        """The tables, and whether all is well."""
        said = []
        for group in (EXPECTED, TOOLS):
            rows = {d: r for d, r in self.results.items() if scenarios_of(d) is group}
            columns = [s for s in group if any(s in r for r in rows.values())]
            if rows and columns:
                lines = [["", *columns], *([d, *(r.get(s, ("", ""))[0] for s in columns)] for d, r in rows.items())]
                widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
                said += ["", *("  ".join(v.ljust(w) for v, w in zip(line, widths)).rstrip() for line in lines)]
        cells = [(d, s, *cell) for d, r in self.results.items() for s, cell in r.items()]
        for kind, title in (("-", "not done, as the driver cannot"), ("known", "known failures"), ("FAIL", "failures"),
                            ("PASSES", "on the list of known failures, yet they pass"), ("BROKEN", "wrong without pgweir")):
            lines = [f"  {d} {s}: {' '.join(text.split())}" for d, s, cell, text in cells if cell == kind]
            if lines:
                said += ["", f"{title}:", *lines]
        if self.problems:
            said += ["", "problems:", *(f"  {p}" for p in self.problems)]
        bad = sum(cell in ("FAIL", "PASSES", "BROKEN") for *_, cell, _ in cells) + len(self.problems)
        said += ["", f"{sum(cell == 'ok' for *_, cell, _ in cells)} passed, {bad} failed, "
                 f"{sum(cell in ('known', '-') for *_, cell, _ in cells)} skipped"]
        return said, not bad

    def versions(self):
        """One line of each program that took part."""
        for driver in self.results:
            package = PACKAGES[driver]
            if package.startswith("npm "):
                found = json.loads((BUILD / "node_modules" / package[4:] / "package.json").read_text())["version"]
            else:
                found = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True, check=True).stdout
            yield f"  {driver}: {package} {found}"


def alike(scenario, direct, through):
    """Equal; but where DDL makes a plan of a direct connection fail, the right answer will do as well: a statement that has
    just been prepared on another server has no old plan."""
    if scenario != "ddl" or not through or len(direct) != len(through):
        return direct == through
    right = None
    for d, t in zip(reversed(direct), reversed(through)):
        right = right if d == "0A000" else d
        if t not in (d, right):
            return False
    return True


def read_known():
    """Lines DRIVER SCENARIO CAUSE."""
    for line in KNOWN.read_text().splitlines():
        if line and not line.startswith("#"):
            driver, scenario, cause = line.split(None, 2)
            assert driver in DRIVERS and scenario in scenarios_of(driver), f"{KNOWN.name}: {line}"
            yield (driver, scenario), cause


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--drivers", default="", help="some of: " + " ".join(DRIVERS))
    parser.add_argument("--scenarios", default="", help="some of: " + " ".join(EXPECTED))
    parser.add_argument("--pool-mode", default="transaction", choices=[*POOL_SIZE])
    parser.add_argument("--result", type=Path, help="write the tables to this file too, with date and versions")
    parser.add_argument("--keep", action="store_true", help="keep the logs")
    args = parser.parse_args()
    drivers = args.drivers.split() or list(DRIVERS)
    if unknown := set(drivers) - set(DRIVERS):
        parser.error(f"no such driver: {unknown}")
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    directory = tempfile.mkdtemp(prefix="pgweir-drivers.", dir=base)
    os.chmod(directory, 0o711)  # the user that runs PostgreSQL must get through
    begun, matrix = time.monotonic(), None
    try:
        matrix = Matrix(directory, args.scenarios.split(), args.pool_mode)
        for driver in drivers:
            matrix.run(driver)
        said, well = matrix.report()
        print(*said, sep="\n")
        if args.result:
            heading = f"{time.strftime('%Y-%m-%d')}, pool_mode = {args.pool_mode}, PostgreSQL {matrix.cluster.sql('primary', 'SHOW server_version')[0][0]}"
            args.result.write_text("\n".join([heading, *said, "", "versions:", *matrix.versions()]) + "\n")
        print(f"{time.monotonic() - begun:.0f} s" + (f"; logs in {directory}" if args.keep else ""))
    finally:
        if matrix and not args.keep:
            matrix.cluster.stop()
            subprocess.run(["rm", "-rf", directory], check=False)
        elif matrix:
            for node in matrix.cluster.nodes:
                matrix.cluster._run("signal", node, "INT")
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
