"""Sequences from seeds. A sequence has a few themes (prepared statements, settings, COPY ...), so that findings stay
readable, and mixes what a driver would send with what it would not. Nothing in it depends on time, process or node."""
import random
import re
import struct

from ops import B, C, D, E, F, H, P, Q, S, Sequence, data, done, fail, other, raw, step

STATEMENTS = ["", "", "", "s1", "s1", "s2", "a b", "n" * 70]
PORTALS = ["", "", "", "", "p1", "p1", "p2"]

# SQL with the types of its parameters: i int, t text.
READS = [("SELECT 1", ""), ("SELECT $1::int", "i"), ("SELECT $1::text || 'x'", "t"), ("SELECT $1::int + $2::int", "ii"),
         ("SELECT id, v, m FROM t ORDER BY id", ""), ("SELECT v FROM t WHERE id = $1", "i"), ("SELECT * FROM u ORDER BY a", ""),
         ("SELECT n FROM generate_series(1, $1) n", "i"), ("SELECT 12 / (n - 3) FROM generate_series(1, 4) n", ""),
         ("VALUES (1, 'a'), (2, NULL), (3, 'c')", ""), ("SELECT NULL::int, ''::text, 'ok'::mood, 1.5::float8", ""),
         ("SELECT repeat('x', 9000)", ""), ("SELECT repeat('y', 40000), n FROM generate_series(1, 3) n", ""),
         ("SELECT timestamptz '2020-07-02 03:04:05+00', date '2020-07-02'", ""), ("SELECT interval '1 day 2 hours'", ""),
         ("SELECT '\\x41'::bytea, 0.1::float8 / 3", ""), ("SELECT 'äö'", ""), ("SELECT says('hello')", ""), ("SELECT 1 AS \"?\" -- ?", ""),
         ("SELECT $1", "t"), ("SELECT count(*) FROM t", ""), ("SELECT", ""), ("SELECT /* c */ 2", ""), ("TABLE t", "")]
WRITES = [("INSERT INTO t VALUES (4, 'four')", ""), ("INSERT INTO t VALUES ($1, $2)", "it"), ("INSERT INTO t (id) VALUES ($1) RETURNING *", "i"),
          ("UPDATE t SET v = 'new' WHERE id = 1", ""), ("UPDATE t SET v = $1", "t"), ("DELETE FROM t WHERE id = 2 RETURNING v", ""),
          ("INSERT INTO c VALUES (99)", ""), ("INSERT INTO c VALUES (1)", ""), ("SELECT nextval('sq')", ""), ("SELECT setval('sq', 40)", ""),
          ("INSERT INTO u SELECT n, 'r' FROM generate_series(1, 3) n", ""), ("CALL proc()", ""), ("SELECT id FROM t WHERE id = 1 FOR UPDATE", "")]
WRONG = [("SELEC", ""), ("SELECT nope", ""), ("SELECT nope()", ""), ("SELECT * FROM nowhere", ""), ("", ""), (";", ""), ("-- nothing", ""),
         ("SELECT 1; SELECT 2", ""), ("SELECT $2::int", "ii"), ("SELECT 1/0", ""), ("SELECT fails()", ""), ("SELECT 'abc'::int", ""),
         ("SELECT 'x", ""), ("INSERT INTO t VALUES (1, 'twice')", ""), ("SELECT $1::nope", "i")]
TX = ["BEGIN", "BEGIN", "BEGIN", "COMMIT", "COMMIT", "ROLLBACK", "ROLLBACK", "SAVEPOINT p", "ROLLBACK TO p", "RELEASE p", "END", "ABORT",
      "START TRANSACTION ISOLATION LEVEL REPEATABLE READ", "BEGIN READ ONLY", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN",
      "SET TRANSACTION READ ONLY", "SET CONSTRAINTS ALL IMMEDIATE", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
      "begin work", "/* c */ BEGIN", "BEGIN; SELECT 1", "SELECT 1; COMMIT", "BEGIN; COMMIT"]
VALUES_OF = {"work_mem": ["'5MB'", "'7MB'", "64"], "TimeZone": ["'Asia/Tokyo'", "'America/New_York'", "'nowhere'", "INTERVAL '+02:00' HOUR TO MINUTE"],
             "DateStyle": ["'SQL, DMY'", "'German'", "'ISO, MDY'"], "IntervalStyle": ["'iso_8601'", "'postgres_verbose'"],
             "application_name": ["'app'", "'app two'", "''"], "client_encoding": ["'LATIN1'", "'UTF8'", "'nope'"],
             "search_path": ["s1", "s2, public", "\"$user\", public", "''"], "extra_float_digits": ["0", "3", "99"],
             "statement_timeout": ["'30s'", "0"], "standard_conforming_strings": ["on", "off"], "my.setting": ["'mine'", "'theirs'"],
             "bytea_output": ["'escape'", "'hex'"], "default_transaction_read_only": ["on", "off"], "nope": ["1"], "lock_timeout": ["'3s'"],
             "default_transaction_isolation": ["'repeatable read'", "'read committed'"], "row_security": ["off"], "jit": ["off"],
             "client_min_messages": ["'warning'", "'notice'"], "shared_buffers": ["'1MB'"], "max_connections": ["3"]}
STATE_SQL = ["RESET ALL", "SET ROLE differ_role", "SET ROLE NONE", "RESET ROLE", "SET ROLE nobody", "SET SESSION AUTHORIZATION differ",
             "SET SESSION AUTHORIZATION DEFAULT", "SET SESSION AUTHORIZATION postgres", "RESET SESSION AUTHORIZATION", "SET NAMES 'LATIN1'",
             "SET SCHEMA 's1'", "SET TIME ZONE LOCAL", "SET TIME ZONE 'UTC'", "SET TIME ZONE -7", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
             "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", "SET XML OPTION DOCUMENT", "SET SEED TO 0.5",
             "DO $$ BEGIN PERFORM set_config('work_mem', '9MB', false); END $$", "DO $$ BEGIN SET TimeZone = 'Asia/Tokyo'; END $$",
             "SELECT sets('work_mem', '11MB')", "SELECT sets('TimeZone', 'Asia/Tokyo')", "DISCARD ALL"]
SHOWS = ["work_mem", "TimeZone", "DateStyle", "IntervalStyle", "application_name", "client_encoding", "search_path", "extra_float_digits",
         "statement_timeout", "standard_conforming_strings", "bytea_output", "default_transaction_read_only", "role",
         "session_authorization", "transaction_read_only", "transaction_isolation", "default_transaction_isolation", "nope", "lock_timeout"]
HIDDEN = ("locks(", "temps(", "tmp_f", "DO $$", "sets(", "lastval()", "currval(", "pg_prepared_statements", "my.setting")  # what pgweir cannot see or that shows pgweir: cases.py has it
LOOKS = ["SELECT current_user, session_user, current_schemas(false)", "SELECT timestamptz '2020-07-02 03:04:05+00', interval '1 day 2 hours'",
         "SELECT 'a\\b', '\\x41'::bytea", "SELECT name, setting FROM pg_settings WHERE name ~ '^default_tra|^work|e$' AND name !~ '^data|file' ORDER BY 1", "SELECT * FROM t ORDER BY 1"]
SQL_PREPARED = ["PREPARE q1 AS SELECT 7", "PREPARE q1 AS SELECT 8", "PREPARE q2 (int) AS SELECT $1 + 1", "PREPARE s1 AS SELECT 'sql s1'",
                "PREPARE q3 AS SELEC", "PREPARE q3 AS SELECT * FROM nowhere", "EXECUTE q1", "EXECUTE q1", "EXECUTE q2(4)", "EXECUTE q2", "EXECUTE s1",
                "EXECUTE nothing", "DEALLOCATE q1", "DEALLOCATE q2", "DEALLOCATE ALL", "DEALLOCATE PREPARE s1", "DEALLOCATE s1", "deallocate/**/S1",
                "DEALLOCATE \"a b\"", "DEALLOCATE PREPARE ALL", "DEALLOCATE nothing", "DISCARD PLANS", "EXPLAIN (COSTS OFF) EXECUTE q1",
                "CREATE TABLE made_t AS EXECUTE q1", "SELECT name, statement, from_sql FROM pg_prepared_statements ORDER BY name"]
CURSORS = ["DECLARE k CURSOR FOR SELECT n FROM generate_series(1, 5) n", "DECLARE k CURSOR WITH HOLD FOR SELECT n FROM generate_series(1, 5) n",
           "DECLARE k SCROLL CURSOR WITH HOLD FOR SELECT id FROM t ORDER BY id", "DECLARE j BINARY CURSOR FOR SELECT 5", "FETCH k", "FETCH 2 FROM k",
           "FETCH ALL k", "FETCH BACKWARD 1 FROM k", "MOVE 1 FROM k", "CLOSE k", "CLOSE ALL", "SELECT name, is_holdable FROM pg_cursors ORDER BY 1",
           "FETCH j", "DECLARE bad CURSOR WITH HOLD FOR SELECT 1/0"]
TEMPS = ["CREATE TEMP TABLE tmp (n int)", "CREATE TEMP TABLE tmp (n int) ON COMMIT DROP", "INSERT INTO tmp VALUES (1)", "SELECT * FROM tmp", "DROP TABLE tmp",
         "CREATE TEMP TABLE t AS SELECT 'temp' AS v", "SELECT 3 AS n INTO TEMP tmp", "CREATE TABLE pg_temp.tmp (n int)", "CREATE TEMP SEQUENCE tsq",
         "SELECT nextval('tsq')", "CREATE TEMP VIEW tv AS SELECT 1 AS one", "SELECT * FROM tv", "SELECT temps()", "SELECT * FROM tmp_f",
         "DISCARD TEMP", "SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema() ORDER BY 1", "SELECT * FROM t"]
LOCKS = ["SELECT pg_advisory_lock(1)", "SELECT pg_advisory_lock(1)", "SELECT pg_try_advisory_lock(1, 2)", "SELECT pg_advisory_lock_shared(3)",
         "SELECT pg_advisory_unlock(1)", "SELECT pg_advisory_unlock(1, 2)", "SELECT pg_advisory_unlock_shared(3)", "SELECT pg_advisory_unlock_all()",
         "SELECT pg_advisory_xact_lock(4)", "SELECT locks(5)", "SELECT pg_catalog.pg_advisory_lock(hashtext('x'))", "SELECT pg_advisory_unlock(hashtext('x'))",
         "SELECT classid, objid, mode FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() ORDER BY 1, 2, 3"]
LISTENS = ["LISTEN n", "LISTEN m", "UNLISTEN n", "UNLISTEN *", "NOTIFY n", "NOTIFY n, 'load'", "SELECT pg_notify('m', 'it''s')",
           "SELECT pg_listening_channels()", "NOTIFY n, 'load'; NOTIFY n, 'load'"]
SEQUENCES = ["SELECT nextval('sq')", "SELECT currval('sq')", "SELECT lastval()", "SELECT setval('sq', 9)", "DISCARD SEQUENCES"]
DDL = ["ALTER TABLE u ADD COLUMN d int DEFAULT 7", "ALTER TABLE u DROP COLUMN b", "ALTER TABLE u ALTER COLUMN a TYPE text", "DROP TABLE u",
       "CREATE TABLE u (z date)", "ALTER TABLE t RENAME COLUMN v TO w", "CREATE TABLE made_t (n int)", "SELECT * FROM made_t", "DROP TABLE made_t",
       "CREATE OR REPLACE FUNCTION says(what text) RETURNS text LANGUAGE sql AS 'SELECT ''again ''::text || what'", "CREATE INDEX ON t (v)",
       "CREATE TABLE t (n int)", "CREATE VIEW made_v AS SELECT 1 AS one", "TRUNCATE u", "ALTER TYPE mood ADD VALUE 'angry'", "CREATE SCHEMA made", "VACUUM t",
       "ANALYZE t"]
UNDER_DDL = ["SELECT * FROM u", "SELECT * FROM t ORDER BY id", "SELECT a FROM u", "SELECT says('x')", "INSERT INTO u VALUES (9)"]
COPY_IN = ["COPY u FROM STDIN", "COPY u (a) FROM STDIN", "COPY t FROM STDIN (FORMAT csv)", "COPY nowhere FROM STDIN", "COPY c FROM STDIN"]
COPY_OUT = ["COPY t TO STDOUT", "COPY (SELECT n FROM generate_series(1, 4) n) TO STDOUT", "COPY (SELECT 1/(n-2) FROM generate_series(1, 3) n) TO STDOUT",
            "COPY t TO STDOUT (FORMAT binary)", "COPY (SELECT repeat('z', 3000) FROM generate_series(1, 30)) TO STDOUT"]
COPY_ROWS = ["5\tfive\n", "6\n", "7\tx\ty\n", "bad\n", "\\.\n", "8,csv\n", "1\tone\n", "9\t\\N\n", "10\tpart", "\n"]
STARTS = [{"TimeZone": "Asia/Tokyo"}, {"DateStyle": "German"}, {"application_name": "mine"}, {"client_encoding": "LATIN1"}, {"search_path": "s1"},
          {"extra_float_digits": "2"}, {"options": "-c work_mem=5MB"}, {"statement_timeout": "60000"}, {"options": "-c my.setting=start"},
          {"IntervalStyle": "iso_8601"}, {"options": "-c search_path=s2 -c TimeZone=UTC"}, {"nope": "1"}, {"role": "differ_role"},
          {"work_mem": "5MB", "application_name": "two"}, {"default_transaction_read_only": "on"}, {"bytea_output": "escape"}, {"TimeZone": "nowhere"}]


def set_sql(r):
    name = r.choice([*VALUES_OF])
    value = r.choice(VALUES_OF[name])
    text = value.strip("'") if value.startswith("'") else value
    return r.choice([f"SET {name} = {value}", f"SET {name} TO {value}", f"SET SESSION {name} = {value}", f"SET LOCAL {name} = {value}",
                     f"SET {name} TO DEFAULT", f"RESET {name}", f"SELECT set_config('{name}', '{text}', false)",
                     f"SELECT set_config('{name}', '{text}', true)", f"SET {name} FROM CURRENT", f"set/**/{name.upper()} to {value}"])


def values_for(r, kinds):
    """Values, formats and how the results are wanted: mostly right."""
    values, formats = [], []
    for kind in kinds:
        x = r.random()
        if x < .1:
            values.append(None)
            formats.append(r.choice([0, 1]))
        elif kind == "i" and x < .35:
            values.append(struct.pack("!i", r.randrange(9)))
            formats.append(1)
        else:
            values.append(str(r.randrange(9)) if kind == "i" and x < .93 else r.choice(["abc", "", "ä", "it's"]))
            formats.append(0)
    if not any(formats) and r.random() < .5:
        formats = []
    if r.random() < .04:
        values.append("1")
    if r.random() < .02:
        formats.append(0)
    return values, formats, r.choice([(), (), (), (0,), (1,), (1, 0), (2,)]) if r.random() < .3 else ()


def bound(r, portal, name, kinds):
    values, formats, results = values_for(r, kinds)
    return B(portal, name, values, formats, results)


def without_freed_portals(steps):
    """A Query that fails while it runs in a transaction leaves its portal, the unnamed one, whose statements are freed; Execute of
    it reads them all the same (PostgreSQL 15.20: "BEGIN", a failing "MOVE 1 FROM k" or "ROLLBACK TO p", Execute), and may end all of PostgreSQL."""
    out, begun, ran, bound = [], False, False, False  # ran: such a Query; bound: the portal is another one, in this segment
    for s in steps:
        kept = []
        for op in [] if isinstance(s, other) else s:
            unnamed = op.args[:1] in ((), ("",))
            if op.kind == "E" and unnamed and begun and ran and not bound:
                continue
            begun = begun or re.search("begin|start|chain", op.sql(), re.I) is not None
            ran = ran or (op.kind == "Q" and op.sql() != "BEGIN")
            bound = op.kind not in "QS" and (bound or (op.kind == "B" and unnamed))
            kept.append(op)
        out.append(s if isinstance(s, other) else s.with_ops(kept))
    return out


class Generator:
    def __init__(self, seed, hidden):
        self.r, self.known, self.hidden = random.Random(seed), {}, hidden
        themes = {"prepared": self.prepared, "tx": self.transaction, "portals": self.portals, "settings": self.settings, "sql prepared": self.of(SQL_PREPARED),
                  "cursors": self.of(CURSORS), "temps": self.of(TEMPS), "locks": self.of(LOCKS), "listens": self.listens, "sequences": self.of(SEQUENCES),
                  "ddl": self.ddl, "copy": self.copy, "calls": self.calls, "noise": self.noise}
        weights = {"prepared": 6, "tx": 4, "portals": 3, "settings": 4, "noise": 3, "copy": 2, "ddl": 2}
        names = [*themes]
        count = self.r.choice([1, 1, 2, 2, 3])
        self.themes = [themes[t] for t in self.r.choices(names, [weights.get(n, 1) for n in names], k=count)]
        if self.r.random() < .5:
            self.themes.append(self.any_sql)

    # SQL
    def of(self, texts):
        texts = [t for t in texts if self.hidden or not any(h in t for h in HIDDEN)]
        return lambda: self.one(self.r.choice(texts))

    def any_sql(self):
        return self.one(*self.r.choice(self.r.choice([READS, READS, WRITES, WRONG])))

    def any_text(self):
        """Any SQL without parameters that bring values."""
        r = self.r
        return r.choice([lambda: r.choice(READS)[0], lambda: r.choice(WRITES)[0], lambda: r.choice(WRONG)[0], lambda: r.choice(TX), lambda: set_sql(r)])()

    # Steps of one kind of SQL, by either protocol
    def one(self, sql, kinds=""):
        r = self.r
        if r.random() < .45 and not kinds:
            if r.random() < .2:
                sql = "; ".join([self.any_text(), sql][::r.choice([1, -1])])
            return [step(Q(sql))]
        return [step(*self.unit(sql, kinds), S())]

    def unit(self, sql, kinds):
        """Parse to Execute, as most drivers do."""
        r, name, portal = self.r, self.r.choice(STATEMENTS), self.r.choice(PORTALS)
        self.known[name] = kinds
        what = [P(name, sql, r.choice([(), (), (), (23,) * len(kinds), (25,) * len(kinds), (0,)]) if kinds else ())]
        if name and r.random() < .3:
            what.insert(0, C("S", name))
        if r.random() < .2:
            what.append(D("S", name))
        what.append(bound(r, portal, name, kinds))
        if r.random() < .5:
            what.append(D("P", portal))
        what.append(E(portal, r.choice([0, 0, 0, 1, 2])))
        return what

    # Themes: each returns steps
    def prepared(self):
        r = self.r
        x = r.random()
        name = r.choice(STATEMENTS)
        if x < .35 or name not in self.known:
            sql, kinds = r.choice(r.choice([READS, READS, READS, WRITES, WRONG, [(t, "") for t in TX], [(t, "") for t in SQL_PREPARED[-9:-1]]]))
            ops = [C("S", name)] * (r.random() < .4) + [P(name, sql)] + [D("S", name)] * (r.random() < .5)
            self.known[name] = kinds
            return [step(*ops, r.choice([S(), S(), H()]))]
        if x < .85:
            portal = r.choice(PORTALS)
            ops = [D("S", name)] * (r.random() < .15)
            for _ in range(r.choice([1, 1, 1, 2, 4])):
                ops += [bound(r, portal, name, self.known[name])] + [D("P", portal)] * (r.random() < .4) + [E(portal, r.choice([0, 0, 0, 1]))]
            return [step(*ops, S())]
        if x < .93:
            return [step(C("S", name), *([] if r.random() < .5 else [P(name, self.any_text())]), S())]
        return [step(D("S", name), S())] if x < .97 else [step(Q(r.choice(["DEALLOCATE ALL", "DISCARD ALL", "DEALLOCATE s1", 'DEALLOCATE "a b"'])))]

    def transaction(self):
        r = self.r
        sql = r.choice(TX)
        if r.random() < .6:
            return [step(Q(sql))]
        if r.random() < .5:
            return [step(*self.unit(sql, ""), S())]
        ops = []
        for sql, kinds in [(r.choice(TX), ""), r.choice(READS + WRITES), r.choice(WRITES + WRONG), (r.choice(TX), "")][:r.randrange(2, 5)]:
            ops += self.unit(sql, kinds)
        return [step(*ops, S())]

    def portals(self):
        """Execute with limits over Flushes; portals by name; all of it may end in a Query."""
        r = self.r
        portal, name = r.choice(PORTALS), r.choice(["", "", "s1"])
        steps = [step(Q("BEGIN"))] * (r.random() < .5)
        sql, kinds = r.choice(READS)
        steps.append(step(P(name, sql), bound(r, portal, name, kinds), *[D("P", portal)] * r.choice([0, 1]), *[E(portal, 1)] * r.choice([0, 1]), H()))
        for _ in range(r.randrange(1, 4)):
            steps.append(step(E(portal, r.choice([0, 1, 1, 2])), r.choice([H(), H(), S()])))
        steps.append(step(*[C("P", portal)] * r.choice([0, 1]), r.choice([S(), S(), Q("SELECT 'q'"), Q("COMMIT")])))
        if r.random() < .4:
            steps.append(step(D("P", portal), E(portal), S()))
        self.known.setdefault(name, kinds)
        return steps

    def settings(self):
        r = self.r
        x = r.random()
        if x < .35:
            return self.one(set_sql(r))
        if x < .45:
            return self.of(STATE_SQL)()
        if x < .7:
            return self.one(f"SHOW {r.choice(SHOWS)}" if r.random() < .6 else r.choice(LOOKS))
        if x < .8:
            return [step(Q("; ".join([set_sql(r), set_sql(r), r.choice(["SELECT 1/0", "SHOW work_mem", "COMMIT"])])))]
        steps = [step(Q("BEGIN")), *self.one(set_sql(r))]
        if r.random() < .5:
            steps += [step(Q("SAVEPOINT p")), *self.one(set_sql(r)), step(Q(r.choice(["ROLLBACK TO p", "RELEASE p", "SELECT 1/0", "ROLLBACK TO p"])))]
        return steps + [step(Q(r.choice(["COMMIT", "ROLLBACK", "ROLLBACK"]))), step(Q(f"SHOW {r.choice(SHOWS[:13])}"))]

    def listens(self):
        return [other(f"NOTIFY {self.r.choice('nm')}, 'from another'")] if self.r.random() < .2 else self.one(self.r.choice(LISTENS))

    def ddl(self):
        r = self.r
        x = r.random()
        if x < .2:
            return [other(r.choice(DDL[:11]))]
        if x < .45:
            return self.one(r.choice(DDL))
        name = r.choice(["s1", "s1", "s2", ""])
        if name not in self.known or r.random() < .2:
            self.known[name] = ""
            return [step(*[C("S", name)] * r.choice([0, 1]), P(name, r.choice(UNDER_DDL)), *[D("S", name)] * r.choice([0, 1]), S())]
        return [step(B("", name), *[D("P")] * r.choice([0, 1]), E(), S())]

    def copy(self):
        r = self.r
        if r.random() < .35:
            return self.one(r.choice(COPY_OUT))
        sql, rows = r.choice(COPY_IN), [data(r.choice(COPY_ROWS)) for _ in range(r.randrange(4))]
        end = r.choice([[done()], [done()], [done()], [fail("no more")], []])
        extended = r.random() < .4
        start = [P("", sql), B(), E()] if extended else [Q(sql)]
        sync = [S()] * r.choice([1, 1, 1, 2, 0]) if extended else []
        x = r.random()
        if x < .3 and end:  # as drivers do: wait for CopyInResponse first
            return [step(*start, *[H()] * extended), step(*rows, *end, *[S()] * extended, mark=True)]
        late = [r.choice([data("late\n"), done(), fail("late"), S(), H(), Q("SELECT 'late'"), P("", "SELECT 1")]) for _ in range(r.choice([0, 0, 1, 2]))]
        ops = [*start, *sync[:len(sync) // 2], *rows, *end, *sync[len(sync) // 2:], *late]
        return [step(*ops, mark=True)]

    def calls(self):
        r = self.r
        two = lambda a, b: ([str(a), str(b)], ())  # noqa: E731
        oid, (values, formats) = r.choice([(177, two(1, 2)), (154, two(6, 3)), (154, two(1, 0)), (177, ([struct.pack("!i", 5)] * 2, (1,))), (999999, two(1, 2)),
                                           (177, ([None, "1"], ())), (177, (["x", "1"], ())), (177, (["1"], ())), (1317, (["abc"], ())), (870, (["ABC"], (0,)))])
        call = F(oid, values, formats, r.choice([0, 1]))
        return [step(*r.choice([[], [], [P("", "SELECT 1")], [P("", "SELECT 1/0"), B(), E()]]), call, *r.choice([[], [], [S()]]))]

    def noise(self):
        """Any messages in any order; seldom such that no client may send them."""
        r, ops = self.r, []
        for _ in range(r.randrange(1, 9)):
            name, portal = r.choice(STATEMENTS), r.choice(PORTALS)
            kind = r.choice("PPPBBBBEEEEDDCQHHS")
            if kind == "P":
                sql, kinds = r.choice(r.choice([READS, WRITES, WRONG, [(t, "") for t in TX]]))
                self.known[name] = kinds
                ops.append(P(name, sql, r.choice([(), (), (23,)])))
            elif kind == "B":
                ops.append(bound(r, portal, name, self.known.get(name, "")))
            elif kind == "E":
                ops.append(E(portal, r.choice([0, 0, 1])))
            elif kind in "DC":
                ops.append({"D": D, "C": C}[kind](*r.choice([("S", name), ("P", portal)])))
            elif kind == "Q":
                ops.append(Q("; ".join(self.any_text() for _ in range(r.choice([1, 1, 2, 3])))))
            else:
                ops.append({"H": H, "S": S}[kind]())
        if r.random() < .06:
            ops.insert(r.randrange(len(ops) + 1), self.illegal())
        return [step(*ops, r.choice([S(), S(), S(), H()]))]

    def illegal(self):
        return self.r.choice([raw("z", b""), raw("D", b"Xs1\0"), raw("C", b"X\0"), raw("P", b"s1\0SELECT 1"), raw("B", b"\0\0"), raw("E", b"\0"),
                              raw("E", b"\0\0\0\0\0extra"), raw("Q", b"SELECT 1"), raw("Q", b"SELECT 1\0\0"), raw("P", b"s1\0SELECT 1\0\xff\xff"), raw("S", b"x"),
                              raw("B", b"\0\0\0\0\0\1\xff\xff\xff\xfe\0\0"), raw("d", b"stray"), raw("c", b""), raw("f", b"x\0"), raw("p", b"secret\0"),
                              raw("F", b"\0"), raw("B", b"\0\0\0\0\0\0\0\0x"), raw("P", b"s\xff1\0SELECT 1\0\0\0"), raw("Q", b"SELECT '\xff'\0")])

    def sequence(self):
        r, steps = self.r, []
        for _ in range(r.randrange(2, 9)):
            steps += r.choice(self.themes)()
        joined = []
        for s in steps:  # pipelines over several steps
            if joined and r.random() < .12 and not isinstance(s, other) and not isinstance(joined[-1], other) and not joined[-1].mark:
                s = step(*joined.pop(), *s, mark=s.mark)
            joined.append(s)
        if r.random() < .5:
            joined += [step(S()), step(Q("ROLLBACK"))] + [step(Q(x)) for x in r.sample(LOOKS + [f"SHOW {n}" for n in SHOWS[:13]], 3)]
        joined = without_freed_portals(joined)
        starts = [s for s in STARTS if self.hidden or "work_mem" not in str(s)]  # RESET loses it, which shows as any wrong row
        return Sequence(joined, r.choice(starts) if r.random() < .08 else {})


def sequence(seed, hidden=False):
    """hidden: with state that functions change, and what is known to show pgweir."""
    return Generator(seed, hidden).sequence()
