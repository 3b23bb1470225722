"""The soak's clients: each logs in, does steps of STEPS at random, and leaves in one of the ways of LEAVES, again and again.

What a client asks for, sets, prepares and listens to carries tokens that nobody else has, so whatever it is shown of others is
noticed. Rows are written under numbers that are written once only; the Ledger notes what became of each. Faults may end a
connection at any time; what a client may be told then stands in EXPECTED.
"""
import collections
import itertools
import random
import struct
import threading
import time
from contextlib import contextmanager, suppress

from protocol import ready_count
from rawpg import (CANCEL_REQUEST, Closed, PgError, RawPg, bind, close, copy_data, copy_done, describe, execute, message,
                   parse, query, sync)

ANSWER_S = 40  # no fault holds an answer up for that long
SETTINGS = {  # name: (what a new session has, a value of our own)
    "work_mem": ("4MB", lambda c: f"{c.dice.randrange(64, 1000)}kB"),
    "lock_timeout": ("0", lambda c: f"9{c.dice.randrange(1000)}1ms"),
    "search_path": ('"$user", public', lambda c: f'"{c.token()}", public'),
    "application_name": (None, lambda c: c.token()),
}
TABLE = """
CREATE TABLE soak (id bigint NOT NULL, token text NOT NULL);
CREATE INDEX ON soak (id);
GRANT ALL ON soak TO PUBLIC;
"""
EXPECTED = {  # what clients may be told while there are faults, and when
    "53300": "no server in time, or the queue is full",
    "57P01": "the backend was terminated, or KILL",
    "57P03": "no node may serve it, or its server starts up or shuts down",
    "55000": "a login while the database is disabled",
    "08006": "the server was lost, outside of a commit",
    "08007": "the server was lost, and a commit was under way",
    "08P01 terminating connection because protocol synchronization was lost": "PostgreSQL's words when its input ends in a COPY",
}


class Wrong(Exception):
    """What must not be, whatever happens."""


class Ledger:
    """What clients were told of their rows: written, refused, or nothing (their connection was lost with the commit under way)."""

    def __init__(self):
        self.lock, self.numbers = threading.Lock(), itertools.count(1)
        self.written, self.unknown, self.refused = set(), set(), {}  # refused: by what

    def new(self, count):
        with self.lock:
            return [next(self.numbers) for _ in range(count)]

    @contextmanager
    def outcome(self, ids):
        """The block writes these rows, and calls sent() of what it gets before it sends the commit."""
        commit, verdict = Commit(), "unknown"
        try:
            yield commit
            verdict = "rolled back" if commit.taken_back else "written"
        except PgError as e:
            verdict = "unknown" if e.sqlstate == "08007" else f"{e} {e.fields.get('D', '')}"
            raise
        except (Closed, OSError):
            verdict = "unknown" if commit.under_way else "no commit was sent"
            raise
        finally:
            with self.lock:
                if verdict in ("unknown", "written"):
                    getattr(self, verdict).update(ids)
                else:
                    self.refused.update(dict.fromkeys(ids, verdict))

    def problems(self, found):
        """Of the rows that are there, in a list of their numbers."""
        times = collections.Counter(found)
        told = {"acknowledged and not there": self.written - times.keys(), "refused and there": self.refused.keys() & times.keys(),
                "written twice": {n for n, count in times.items() if count > 1},
                "never asked for": times.keys() - self.written - self.refused.keys() - self.unknown}
        return [f"{len(ids)} rows {what}: {[(n, self.refused.get(n, '')) for n in sorted(ids)[:5]]}" for what, ids in told.items() if ids]


class Commit:
    def __init__(self):
        self.under_way = self.taken_back = False

    def sent(self):
        self.under_way = True


class Answer:
    def __init__(self):
        self.rows, self.tags, self.errors, self.heard = [], [], [], []


class Client(threading.Thread):
    """One at a time: `tally` counts steps and what it was told, `problems` says what must not be."""

    def __init__(self, number, port, ledger, seed, pause_s=0.1, strict=None):
        super().__init__(daemon=True)
        self.number, self.port, self.ledger, self.pause_s = number, port, ledger, pause_s
        self.dice = random.Random(f"{seed} client {number}")
        self.strict = strict or threading.Event()  # set: in sessions from now on no error is expected any more
        self.stopping, self.tally, self.problems = threading.Event(), collections.Counter(), []
        self.c, self.doing, self.me, self.calm, self.tls = None, "", "", False, False
        self.forget()

    def run(self):
        while not self.stopping.is_set():
            self.calm = self.strict.is_set()
            try:
                self.session()
            except PgError as e:
                self.told(e)
            except (Closed, OSError) as e:
                self.lost(e)
            except Exception as e:  # whatever it is: the soak goes on, and has failed
                self.problem(e)
            self.rest()

    def forget(self):
        """What a new session has."""
        self.names, self.prepared, self.temp = {}, None, None
        self.mine = {**{name: new for name, (new, _) in SETTINGS.items()}, "application_name": self.me}

    def session(self):
        self.me, self.doing = f"{self.number}x{self.dice.getrandbits(48):x}", "login"
        self.forget()
        with RawPg(self.port, deadline_s=ANSWER_S) as self.c:
            self.tls = self.dice.random() < 0.1
            if self.tls:
                self.c.start_tls()
            database = self.dice.choices(["app", "other"], [4, 1])[0]
            self.c.login("app_scram", database, "secret", application_name=self.me)
            self.tally["login"] += 1
            for _ in range(self.dice.randrange(1, 40)):
                if self.stopping.is_set() or self.strict.is_set() != self.calm:
                    break
                self.step(self.draw(STEPS))
                self.rest()
            self.step(self.draw(LEAVES))

    def draw(self, table):
        return self.dice.choices(list(table), [weight for weight, _ in table.values()])[0]

    def step(self, name):
        """Faults that leave the connection are survived here."""
        self.doing = name
        try:
            (STEPS.get(name) or LEAVES[name])[1](self)
            self.tally[name] += 1
        except PgError as e:
            if e.fields["S"] != "ERROR":
                raise
            self.told(e)
            if self.c.status != "I":
                self.ask(query("ROLLBACK"))

    def rest(self):
        self.stopping.wait(self.dice.random() * 2 * self.pause_s)

    # What came of it
    def told(self, error):
        what = error.sqlstate if error.sqlstate != "08P01" else f"08P01 {error.fields.get('M')}"
        self.tally[f"told {what}"] += 1
        if self.calm or what not in EXPECTED:
            self.problem(f"{error} ({error.fields.get('D', '')})")

    def lost(self, why):
        self.tally["told nothing"] += 1
        if self.calm:
            self.problem(f"{type(why).__name__}: {why}")

    def problem(self, what):
        self.problems.append(f"{time.strftime('%T')} client {self.me}, {self.doing}: {what!r}")
        print(self.problems[-1], flush=True)

    def must_be(self, got, wanted):
        if got != wanted:
            raise Wrong(f"{str(got)[:300]} instead of {str(wanted)[:300]}")

    # Talking
    def token(self):
        return f"{self.me}-{self.dice.getrandbits(32):x}"

    def talk(self, *data):
        """Sends, and reads to the ReadyForQuery of each Query and Sync; errors are part of the answer, unless they are fatal."""
        data = b"".join(data)
        self.c.send(data)
        answer = Answer()
        for _ in range(ready_count(data)):
            self.read_until("Z", answer)
        return answer

    def read_until(self, last, answer):
        while True:
            m = self.c.read()
            if m.type == "D":
                answer.rows.append([None if v is None else v.decode() for v in m.row()])
            elif m.type == "C":
                answer.tags.append(m.text)
            elif m.type == "A":
                answer.heard.append(m.body[4:].decode().split("\0")[:2])
                self.must_be(answer.heard[-1][0], self.me)
            elif m.type == "E":
                answer.errors.append(PgError(m))
                if answer.errors[-1].fields["S"] != "ERROR":
                    raise answer.errors[-1]
            if m.type in last:
                return

    def ask(self, *data):
        """The same where no error belongs to it."""
        answer = self.talk(*data)
        if answer.errors:
            raise answer.errors[0]
        return answer

    def gives(self, data, rows):
        self.must_be(self.ask(data).rows, rows)


# ---- Steps ----

def simple(c):
    token = c.token()
    c.gives(query(f"SELECT '{token}'"), [[token]])


def extended(c):
    token = c.token()
    c.gives(parse("", "SELECT $1::text") + bind("", "", [token]) + describe("P") + execute() + sync(), [[token]])


def named(c):
    """The names are the same for all clients, their texts are not."""
    name, token = f"s{c.dice.randrange(6)}", c.token()
    if name not in c.names:
        text = c.token()
        c.ask(parse(name, f"SELECT $1::text, '{text}'") + sync())
        c.names[name] = text
    c.gives(bind("", name, [token]) + execute() + sync(), [[token, c.names[name]]])
    if c.dice.random() < 0.2:
        c.ask(close("S", name) + sync())
        del c.names[name]


def sql_prepare(c):
    if c.prepared is None:
        token = c.token()
        c.ask(query(f"PREPARE soak_mine AS SELECT '{token}'"))
        c.prepared = token
    c.gives(query("EXECUTE soak_mine"), [[c.prepared]])
    if c.dice.random() < 0.7:
        c.ask(query("DEALLOCATE soak_mine"))
        c.prepared = None


def pipeline(c):
    """The second one of three fails by itself; refusals by pgweir may come anywhere."""
    tokens = [c.token() for _ in range(3)]
    texts = [f"SELECT '{tokens[0]}'", "SELECT 1/0", f"SELECT '{tokens[2]}'"]
    if c.dice.random() < 0.5:
        answer = c.talk(*[query(text) for text in texts])
    else:
        answer = c.talk(*[parse("", text) + bind("", "") + execute() + sync() for text in texts])
    others = [e for e in answer.errors if e.sqlstate != "22012"]
    if others:
        raise others[0]
    c.must_be((answer.rows, len(answer.errors)), ([[tokens[0]], [tokens[2]]], 1))


def large(c):
    token, rows = c.token(), c.dice.randrange(1, 100)
    c.gives(query(f"SELECT '{token}', repeat('x', 1000) FROM generate_series(1, {rows})"), [[token, "x" * 1000]] * rows)


def reads(c):
    """A transaction on one replica."""
    token = c.token()
    c.ask(query("BEGIN READ ONLY"))
    for _ in range(3):
        c.gives(query(f"SELECT '{token}'"), [[token]])
    c.ask(query("COMMIT"))


def insert(ids, token):
    return query("INSERT INTO soak VALUES " + ", ".join(f"({n}, '{token}')" for n in ids))


def own_rows(c, ids, token):
    """Wherever that runs, what was acknowledged is there."""
    c.gives(query(f"SELECT id, token FROM soak WHERE id IN ({', '.join(map(str, ids))}) ORDER BY id"),
            [[str(n), token] for n in ids])


def autocommit(c):
    ids, token = c.ledger.new(1), c.token()
    with c.ledger.outcome(ids) as commit:
        commit.sent()
        c.ask(insert(ids, token))
    own_rows(c, ids, token)


def transaction(c):
    ids, token = c.ledger.new(c.dice.randrange(1, 4)), c.token()
    with c.ledger.outcome(ids) as commit:
        c.ask(query("BEGIN"))
        for n in ids:
            c.ask(insert([n], token))
            c.rest()
        commit.sent()
        commit.taken_back = c.ask(query("COMMIT")).tags != ["COMMIT"]
    own_rows(c, ids, token)


def at_once(c):
    """A transaction that is sent without waiting for an answer."""
    ids, token = c.ledger.new(2), c.token()
    with c.ledger.outcome(ids) as commit:
        commit.sent()
        answer = c.talk(query("BEGIN"), *[insert([n], token) for n in ids], query("COMMIT"))
        if answer.errors:
            raise answer.errors[0]
    own_rows(c, ids, token)


def rollback(c):
    ids = c.ledger.new(1)
    with c.ledger.outcome(ids) as commit:
        commit.taken_back = True
        c.ask(query("BEGIN"))
        c.ask(insert(ids, c.token()))
        c.ask(query("ROLLBACK"))


def copy(c):
    """In, and out again."""
    ids, token = c.ledger.new(c.dice.randrange(1, 50)), c.token()
    with c.ledger.outcome(ids) as commit:
        c.c.send(query("COPY soak FROM STDIN"))
        began = Answer()
        c.read_until("GZ", began)
        if began.errors:
            raise began.errors[0]
        for n in ids:
            c.c.send(copy_data(f"{n}\t{token}\n".encode()))
        commit.sent()
        c.c.send(copy_done())
        done = Answer()
        c.read_until("Z", done)
        if done.errors:
            raise done.errors[0]
    c.ask(query(f"COPY (SELECT id FROM soak WHERE id = {ids[0]}) TO STDOUT"))
    own_rows(c, ids, token)


def cancel(c):
    """It ends by the cancel, or by itself if that was lost; nothing else of ours is cancelled, or the next step tells."""
    token = c.token()
    c.c.send(query(f"SELECT '{token}', pg_sleep(1)"))
    c.rest()
    with suppress(Closed, OSError), RawPg(c.port, deadline_s=ANSWER_S) as other:
        other.send(struct.pack("!II", 8 + len(c.c.key), CANCEL_REQUEST) + c.c.key)
        c.must_be(other.expect_closed(), [])
    answer = Answer()
    c.read_until("Z", answer)
    if answer.errors and answer.errors[0].sqlstate != "57014":
        raise answer.errors[0]
    c.must_be((answer.rows, len(answer.errors)) in (([[token, ""]], 0), ([], 1)), True)


def settings(c):
    """They are ours on whatever server the next statement gets, and stay as they are if their transaction is not committed."""
    name, kind = c.dice.choice(list(SETTINGS)), c.dice.randrange(3)
    value = SETTINGS[name][1](c)
    change = query(f"SET {name} = {value}" if name == "search_path" else f"SET {name} = '{value}'")
    if kind == 0:
        c.ask(change)
    else:
        c.ask(query("BEGIN"))
        c.ask(change)
        c.ask(query("SELECT 1"))
        c.ask(query("COMMIT" if kind == 1 else "ROLLBACK"))
    if kind < 2:
        c.mine[name] = value
    check_settings(c)


def check_settings(c):
    c.gives(query(f"SELECT {', '.join(f'current_setting({name!r})' for name in c.mine)}"), [list(c.mine.values())])


def discard(c):
    c.ask(query("DISCARD ALL"))
    c.forget()
    check_settings(c)


def temporary(c):
    """The table has the same name for all clients. It is kept for a while, or until the client leaves."""
    if c.temp is None:
        token = c.token()
        c.ask(query(f"CREATE TEMP TABLE soak_mine AS SELECT '{token}'::text AS t"))
        c.temp = token
    c.gives(query("SELECT t FROM soak_mine"), [[c.temp]])
    if c.dice.random() < 0.7:
        c.ask(query("DROP TABLE soak_mine"))
        c.temp = None


def listen(c):
    token = c.token()
    c.ask(query(f'LISTEN "{c.me}"'))
    answer = c.ask(query(f"NOTIFY \"{c.me}\", '{token}'"))
    c.must_be(answer.heard, [[c.me, token]])
    c.ask(query("UNLISTEN *"))


def lock(c):
    c.ask(query(f"SELECT pg_advisory_lock({c.number})"))
    c.rest()
    c.gives(query(f"SELECT pg_advisory_unlock({c.number})"), [["t"]])


STEPS = {
    # name: (how often, step)
    "simple query": (10, simple),
    "extended query": (8, extended),
    "named statement": (10, named),
    "SQL PREPARE": (1, sql_prepare),
    "pipeline with an error": (4, pipeline),
    "large result": (3, large),
    "read only transaction": (4, reads),
    "write alone": (6, autocommit),
    "transaction": (6, transaction),
    "transaction at once": (4, at_once),
    "rollback": (3, rollback),
    "COPY": (2, copy),
    "cancel": (2, cancel),
    "settings": (5, settings),
    "check settings": (4, check_settings),
    "DISCARD ALL": (1, discard),
    "temporary table": (2, temporary),
    "LISTEN": (2, listen),
    "advisory lock": (1, lock),
}


# ---- Ways to leave ----

def in_a_transaction(c):
    ids = c.ledger.new(1)
    with c.ledger.outcome(ids) as commit:
        commit.taken_back = True
        c.ask(query("BEGIN"))
        c.ask(insert(ids, c.token()))
        c.c.close()


def in_a_copy(c):
    ids = c.ledger.new(1)
    with c.ledger.outcome(ids) as commit:
        commit.taken_back = True
        c.c.send(query("COPY soak FROM STDIN"), copy_data(f"{ids[0]}\tx\n".encode()))
        c.c.reset()


def in_a_result(c):
    c.c.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 20000)"))
    c.c.read()
    c.c.reset()


def after_all_answers(c):
    """All that was asked before our end of file is answered."""
    if c.tls:
        return  # Python's sockets end both directions
    token, answer = c.token(), Answer()
    c.c.send(query(f"SELECT '{token}', pg_sleep(0.05)"))
    c.c.sock.shutdown(1)
    c.read_until("Z", answer)
    if answer.errors:
        raise answer.errors[0]
    c.must_be(answer.rows, [[token, ""]])
    c.c.close()


LEAVES = {
    "Terminate": (6, lambda c: c.c.terminate()),
    "close": (3, lambda c: c.c.close()),
    "reset": (3, lambda c: c.c.reset()),
    "close in a query": (1, lambda c: (c.c.send(query("SELECT pg_sleep(0.5)")), c.c.close())),
    "reset in a query": (1, lambda c: (c.c.send(query("SELECT pg_sleep(0.5)")), c.c.reset())),
    "close in a transaction": (2, in_a_transaction),
    "reset in a COPY": (1, in_a_copy),
    "reset in a result": (1, in_a_result),
    "close in a message": (1, lambda c: (c.c.send(message("Q", b"SELECT 1\0")[:9]), c.c.close())),
    "end of file first": (1, after_all_answers),
}
