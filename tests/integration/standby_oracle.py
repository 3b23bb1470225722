"""Oracle 2: a statement that pgweir routes to a replica must give on a standby what it gives on the primary.

    pair = Pair(cluster, "oracle")                     # a connection to each node, at the same LSN
    for statement in routed(statements): pair.compare(statement)
    pair.check_nothing_left()                          # locks, channels, cursors, settings ... of both sessions
    assert pair.differences == []

Compared: SQLSTATE, columns, rows, command tag. The rows of statements that name a clock or a random number are only
counted. What pgweir sends to the primary is never run.
"""
import itertools
import json
import os
import re
import shutil
import subprocess

import psycopg2
from conftest import BINARY, ROOT, free_port, wait_until
from rawpg import RawPg, query

SESSION = "-c statement_timeout=1000 -c extra_float_digits=1 -c TimeZone=UTC"
CLOCKS = re.compile(r"\b(explain .*analy[sz]e|now|\w+_timestamp|localtime(stamp)?|current_time|timeofday|today|random\w*|gen_random_uuid|"
                    r"uuidv4|uuidv7|array_shuffle|array_sample)\b", re.I)
# A session that a read must leave as it was. pg_settings has no row for a seed, which is why setseed() is a class of
# its own.
LEFT = """SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),
    (SELECT count(*) FROM pg_listening_channels()), (SELECT count(*) FROM pg_prepared_statements),
    (SELECT count(*) FROM pg_cursors), (SELECT count(*) FROM pg_prepared_xacts), pg_my_temp_schema(), current_user,
    (SELECT md5(string_agg(name || coalesce(setting, ''), ' ' ORDER BY name)) FROM pg_settings
        WHERE name NOT LIKE 'plpgsql.%'), /* they come when the first body in that language runs */
    pg_snapshot_xmax(pg_current_snapshot()), (SELECT count(*) FROM pg_largeobject_metadata)"""
PACKAGED = sorted((ROOT / "build/postgres").glob("*/native/bin"))  # other versions, if scripts/gen-functions fetched them
END = "ROLLBACK"
SESSION_MODE = re.compile(r"default_transaction|characteristics|\bset\b.*transaction|reset all|discard all", re.I)
MARK = "SELECT 'behind statement {}'"
BATCH = 200


def route(texts, *options, binary=BINARY):
    """For each text what `pgweir route` says of its statements: lists of dicts. Empty: it has no statement, or no end."""
    result = []
    while len(result) < len(texts):
        rest = texts[len(result):]
        first = next((i for i, text in enumerate(rest) if SESSION_MODE.search(text)), len(rest))
        result += route_up_to_unended(rest[:first] or rest[:1], options, binary)  # a session's default would go on
    return result


def route_up_to_unended(texts, options, binary):
    """The same up to the first text that swallows those behind it, as an unterminated literal does. Each begins outside
    of a transaction."""
    feed = "".join(f"{text}\n;{END};{MARK.format(i)};\n" for i, text in enumerate(texts))
    done = subprocess.run([binary, "route", "--json", *options], input=feed, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    ends = {answer["sql"]: n for n, answer in enumerate(answers)}
    result, at = [], 0
    for i in range(len(texts)):
        end = ends.get(MARK.format(i))
        if end is None:
            return result + [[]]
        assert answers[end - 1]["sql"] == END
        result.append(answers[at:end - 1])
        at = end + 1
    return result


def on_replica(texts, *options, **more):
    """Those that pgweir would send to a replica, all of their statements together."""
    answers = route(texts, *options, **more)
    return [t for t, parts in zip(texts, answers) if parts and all(p["route"] == "replica" for p in parts)]


def in_read_only_transaction(texts, *options, **more):
    """Those that stay on the replica on which a READ ONLY transaction began, each with: must the rows be the same? Who asks
    for a node's identity or state there gets that node's."""
    answers = route([f"BEGIN READ ONLY; {text}\n; COMMIT" for text in texts], *options, **more)
    stay = [(t, parts[1:-1]) for t, parts in zip(texts, answers) if parts and all(p["route"] == "replica" for p in parts)]
    return [(t, all(p["class"] in ("read", "copy_out") for p in parts)) for t, parts in stay]


def answer_of(connection, text):
    """(SQLSTATE or None, [what came, in order]) of one Query message."""
    connection.send(query(text))
    came, state = [], None
    for message in connection.read_until("Z", deadline_s=30):
        if message.type == "E":
            state = message.fields()["C"]
        elif message.type in "TDCId":
            came.append((message.type, message.body))
    return state, came + [("Z", connection.status)]


def masked(came):
    """Without values: how many rows there are stays."""
    return [(kind, "" if kind in "Dd" else body) for kind, body in came]


class Pair:
    def __init__(self, cluster, dbname, replica="replica1"):
        self.cluster, self.dbname, self.differences, self.ran = cluster, dbname, [], 0
        self.nodes = ("primary", replica)
        self.connections = [self._connect(node) for node in self.nodes]
        self.wait_same_lsn()
        self.clean = [answer_of(c, LEFT) for c in self.connections]
        self.since_check = []

    def _connect(self, node):
        connection = RawPg(self.cluster.ports[node], deadline_s=30)
        return connection.login("postgres", self.dbname, None, options=SESSION)

    def wait_same_lsn(self):
        def same():
            flushed = self.cluster.sql("primary", "SELECT pg_current_wal_flush_lsn()")
            return flushed == self.cluster.sql(self.nodes[1], "SELECT pg_last_wal_replay_lsn()")
        wait_until(same, 20, "the standby has replayed all that the primary flushed")

    def compare(self, text, before="", after="", rows=True):
        """Runs it on both, between what comes before and after. True: both gave an answer, and the same."""
        answers = []
        for connection in self.connections:
            if before:
                answer_of(connection, before)
            answers.append(answer_of(connection, text))
            if after:
                answer_of(connection, after)
        self.ran += 1
        self.since_check.append((text, before, after))
        same = self.same(text, *answers) if rows else answers[0][0] == answers[1][0]
        if not same:
            self.differences.append(f"{before}{text}: {self.nodes[0]} {show(answers[0])}, {self.nodes[1]} {show(answers[1])}")
        if len(self.since_check) >= BATCH:
            self.check_nothing_left()
        return same and answers[0][0] is None

    @staticmethod
    def same(text, ours, theirs):
        if ours[0] != theirs[0]:
            return False
        if ours[0] is not None:  # how many rows came before an error is not promised
            return True
        return masked(ours[1]) == masked(theirs[1]) if CLOCKS.search(text) else ours[1] == theirs[1]

    def left(self):
        return [node for node, connection, clean in zip(self.nodes, self.connections, self.clean)
                if answer_of(connection, LEFT) != clean]

    def check_nothing_left(self):
        """Both sessions, and the primary's transaction ids, are as they were. If not, who did it?"""
        batch, self.since_check = self.since_check, []
        nodes = self.left()
        if not nodes:
            return
        found = len(self.differences)
        for text, before, after in batch:
            self.reconnect()
            for connection in self.connections:
                answer_of(connection, before + text)
                answer_of(connection, after)
            if self.left():
                self.differences.append(f"{before}{text} leaves something behind on {self.left()}")
        if len(self.differences) == found:
            self.differences.append(f"one of these leaves something behind on {nodes}: {[b[0] for b in batch]}")
        self.reconnect()

    def reconnect(self):
        for connection in self.connections:
            connection.close()
        self.connections = [self._connect(node) for node in self.nodes]
        self.wait_same_lsn()
        self.clean = [answer_of(c, LEFT) for c in self.connections]

    def close(self):
        for connection in self.connections:
            connection.close()


def show(answer):
    state, came = answer
    rows = [body for kind, body in came if kind in "Dd"]
    return state or f"{len(rows)} rows {rows[:2]!r}"[:200]


class BarePair:
    """A primary and a standby of binaries that have nothing but initdb, pg_ctl and postgres. Quacks like a Cluster."""

    def __init__(self, directory, bin_dir, options):
        self.dir, self.bin, self.ports = directory, bin_dir, {}
        self.dir.mkdir()
        self.as_owner = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self.as_owner:
            shutil.chown(self.dir, "postgres")
        self._run(self.bin / "initdb", "-D", self.dir / "primary", "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8",
                  "--locale=C")
        options = ["fsync=off", "wal_level=replica", "hot_standby=on", "unix_socket_directories=", *options]
        self.options = " ".join("-c " + option for option in options)
        self._start("primary")
        self._run(self.bin / "pg_ctl", "-D", self.dir / "primary", "-w", "stop")  # so that a plain copy is a base backup
        self._run("cp", "-a", self.dir / "primary", self.dir / "replica1")
        self._run("touch", self.dir / "replica1/standby.signal")
        self._start("primary")
        self._start("replica1", f" -c primary_conninfo='host=127.0.0.1 port={self.ports['primary']} user=postgres'")

    def _run(self, *command):
        subprocess.run([*self.as_owner, *map(str, command)], check=True, stdout=subprocess.DEVNULL, cwd="/")

    def _start(self, node, more=""):
        self.ports[node] = free_port()
        self._run(self.bin / "pg_ctl", "-D", self.dir / node, "-w", "-s", "-l", self.dir / f"{node}.log", "-o",
                  f"-c listen_addresses=127.0.0.1 -c port={self.ports[node]} {self.options}{more}", "start")

    def connect(self, node="primary", dbname="postgres"):
        db = psycopg2.connect(host="127.0.0.1", port=self.ports[node], user="postgres", dbname=dbname)
        db.autocommit = True
        return db

    def sql(self, node, statement):
        db = self.connect(node)
        try:
            with db.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            db.close()

    def stop(self):
        for node in self.ports:
            self._run(self.bin / "pg_ctl", "-D", self.dir / node, "-w", "-m", "immediate", "stop")


def corpus(name):
    """One text per line; lines that begin with -- or # are comments."""
    with open(ROOT / "tests/oracle" / name) as f:
        return [line.strip() for line in f if line.strip() and not line.startswith(("--", "#"))]


def unit_test_statements():
    """The statements of the classifier's unit test; strings of C, each in one line."""
    with open(ROOT / "tests/unit/test_router_statements.def") as f:
        found = re.findall(r'^\{SQL_\w+, "((?:[^"\\]|\\.)*)"\}', f.read(), re.M)
    return [json.loads(f'"{text}"') for text in found if not re.search(r"\\[^\"\\nt]", text)]


# ---- every built-in function, operator and cast of the live catalog, with typed arguments ----

VALUES = {
    "bool": ["true", "false"], "int2": ["1", "0", "-3"], "int4": ["1", "0", "2", "-1"], "int8": ["1", "0", "-7", "300"],
    "oid": ["1259", "2249", "1", "{table}"], "xid": ["3", "730"], "xid8": ["3", "730"], "cid": ["0"], "tid": ["(0,1)"],
    "float4": ["1.5", "0", "-2.25"], "float8": ["0.5", "1", "0", "-2.25"], "numeric": ["1.5", "0", "-12.345", "100"],
    "money": ["1.5", "-3"], "text": ["abc", "", "a=1,b", "UTF8", "12", "public", "items", "[0-9]+"], "varchar": ["abc", "x"],
    "bpchar": ["abc", "x"], "name": ["abc", "items", "postgres", "UTF8"], "char": ["a", "r"],
    "bytea": ["\\x616263", "\\x"], "bit": ["101", "011"], "varbit": ["101", "0"],
    "date": ["2020-02-29", "infinity"], "time": ["10:11:12", "23:59"], "timetz": ["10:11:12+02"],
    "timestamp": ["2020-02-29 10:11:12", "2001-01-01"], "timestamptz": ["2020-02-29 10:11:12+02", "2001-01-01+00"],
    "interval": ["1 day", "-2 hours", "0.01 seconds"], "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    "json": ['{"a": [1, 2]}', "[1]", '"x"'], "jsonb": ['{"a": [1, 2]}', "[1]", '"x"'], "jsonpath": ["$.a", "$[*]"],
    "inet": ["10.0.0.1/8", "::1"], "cidr": ["10.0.0.0/8"], "macaddr": ["08:00:2b:01:02:03"],
    "macaddr8": ["08:00:2b:01:02:03:04:05"], "point": ["(1,2)", "(0,0)"], "lseg": ["[(0,0),(1,1)]", "[(0,1),(1,0)]"],
    "line": ["{1,-1,0}", "{0,1,2}"], "box": ["((0,0),(2,2))", "((1,1),(3,3))"], "path": ["[(0,0),(1,1)]", "((0,0),(1,1),(2,0))"],
    "polygon": ["((0,0),(1,1),(2,0))"], "circle": ["<(0,0),1>", "<(1,1),2>"], "xml": ["<a>1</a>", "<b/>"],
    "tsvector": ["'a':1 'b':2"], "tsquery": ["a & b", "b"], "pg_lsn": ["0/16B3748", "1/0"], "aclitem": ["=r/postgres"],
    "int4range": ["[1,5)", "empty"], "int8range": ["[1,5)"], "numrange": ["[1.5,5)"], "tsrange": ["[2020-01-01,2021-01-01)"],
    "tstzrange": ["[2020-01-01,2021-01-01)"], "daterange": ["[2020-01-01,2021-01-01)"], "int4multirange": ["{[1,5)}", "{}"],
    "int8multirange": ["{[1,5)}"], "nummultirange": ["{[1.5,5)}"], "tsmultirange": ["{[2020-01-01,2021-01-01)}"],
    "tstzmultirange": ["{[2020-01-01,2021-01-01)}"], "datemultirange": ["{[2020-01-01,2021-01-01)}"],
    "int2vector": ["1 2"], "oidvector": ["1 2"], "txid_snapshot": ["10:20:10,14"], "pg_snapshot": ["10:20:10,14"],
    "refcursor": ["c"], "regclass": ["items", "pg_class", "items_id_seq"], "regtype": ["integer"], "regproc": ["now"],
    "regprocedure": ["abs(int4)"], "regoper": ["||/"], "regoperator": ["+(int4,int4)"], "regrole": ["postgres"],
    "regnamespace": ["public"], "regconfig": ["english", "simple"], "regdictionary": ["simple"], "regcollation": ['"C"'],
    "_int4": ["{1,2,3}", "{}"], "_text": ["{a,b}", "{}"], "_float8": ["{0.1,0.9}"],
}
STANDS_FOR = {"anyelement": "int4", "anynonarray": "int4", "anycompatible": "int4", "anycompatiblenonarray": "int4",
              "any": "text", "anyarray": "_int4", "anycompatiblearray": "_int4", "anyrange": "int4range",
              "anycompatiblerange": "int4range", "anymultirange": "int4multirange", "anycompatiblemultirange": "int4multirange"}
ONLY_NULL = {"anyenum": "NULL", "record": "ROW(1, 'a')", "pg_ddl_command": None, "internal": None, "cstring": None}
FUNCTIONS = """SELECT proname, prokind, coalesce(aggnumdirectargs, 0), aggkind,
        ARRAY(SELECT typname::text FROM unnest(proargtypes) WITH ORDINALITY a(o, n) JOIN pg_type t ON t.oid = o ORDER BY n)
    FROM pg_proc p LEFT JOIN pg_aggregate ON aggfnoid = p.oid WHERE pronamespace = 'pg_catalog'::regnamespace
    ORDER BY proname, p.oid"""
OPERATORS = """SELECT oprname, l.typname, r.typname FROM pg_operator LEFT JOIN pg_type l ON l.oid = oprleft
    JOIN pg_type r ON r.oid = oprright WHERE oprnamespace = 'pg_catalog'::regnamespace ORDER BY pg_operator.oid"""
CASTS = """SELECT s.typname, t.typname FROM pg_cast JOIN pg_type s ON s.oid = castsource JOIN pg_type t ON t.oid = casttarget
    ORDER BY pg_cast.oid"""


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def type_name(name):
    """As it may stand behind :: - char and bit are other types when they are not quoted."""
    if name.startswith("_"):
        return type_name(name[1:]) + "[]"
    return f'"{name}"' if name in ("char", "bit") else name


def argument(name, n, typed, table):
    """The nth value of a type, with its cast or bare; None: nobody can write one."""
    if name in ONLY_NULL:
        return ONLY_NULL[name]
    name = STANDS_FOR.get(name, name)
    values = VALUES.get(name) or (["{}"] if name.startswith("_") else None)
    if values is None:
        return "NULL"
    literal = quoted(values[n % len(values)].replace("{table}", table))
    bare = not typed or name.startswith("reg") or name == "aclitem"  # those casts are catalog reads
    return literal if bare else f"{literal}::{type_name(name)}"


def arguments(types, table, rounds):
    """Lists of arguments: typed ones, bare literals, and nulls."""
    made = [[argument(t, n + i, True, table) for i, t in enumerate(types)] for n in range(rounds)]
    made.append([argument(t, i, False, table) for i, t in enumerate(types)])
    made.append([f"NULL::{type_name(STANDS_FOR.get(t, t))}" for t in types])
    unique = {tuple(m): m for m in made if None not in m}
    return list(unique.values())


def call(name, kind, direct, aggregate_kind, args):
    function = f'"{name}"' if re.search(r"[^a-z0-9_]", name) else name
    text = ", ".join(args)
    if kind == "a" and aggregate_kind != "n":
        over = ", ".join(args[direct:]) or "1"
        return f"SELECT {function}({', '.join(args[:direct])}) WITHIN GROUP (ORDER BY {over})"
    if kind == "a":
        return f"SELECT {function}({text or '*'}) FROM generate_series(1, 3)"
    if kind == "w":
        return f"SELECT {function}({text}) OVER () FROM generate_series(1, 3)"
    return f"SELECT * FROM {function}({text})" if "pg_sleep" not in name else f"SELECT {function}({text})"


def generated(rows_of, rounds):
    """rows_of(sql): rows of the catalog. All functions, operators and casts, each with some arguments."""
    table = str(rows_of("SELECT 'items'::regclass::oid")[0][0])
    for name, kind, direct, aggregate_kind, types in rows_of(FUNCTIONS):
        for args in arguments(types, table, rounds):
            yield call(name, kind, direct, aggregate_kind, args)
            if kind == "f" and args:
                yield f"SELECT {name}({', '.join(args)})"
    for name, left, right in rows_of(OPERATORS):
        for args in arguments([t for t in (left, right) if t], table, rounds):
            yield f"SELECT {f' {name} '.join(args)}" if left else f"SELECT {name} {args[0]}"
    for source, target in rows_of(CASTS):
        for args in arguments([source], table, rounds):
            yield f"SELECT ({args[0]})::{type_name(target)}"
    for name, values in VALUES.items():
        for value, other in itertools.product(values, ("text", "json", "int4")):
            yield f"SELECT {quoted(value.replace('{table}', table))}::{type_name(name)}::{other}"
