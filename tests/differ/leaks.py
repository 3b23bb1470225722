#!/usr/bin/python3
"""The audit of released servers: `make test-leaks S=60`.

The pool has one server. A client runs a random sequence (generate.py); another client, which can only get the same server,
looks at everything that PostgreSQL keeps for a session, and finds what a fresh login would find. It looks behind each step of
every other sequence, and behind the last of all, while the first client is still there (unless that keeps the server), and
again after it has left: by Terminate, by closing, by RST, by closing one direction; at rest, or with its last messages
unanswered, or in the middle of one. With --replicas the auditor looks at the replica's server and at the primary's in turn.

    tests/differ/leaks.py --seconds 60 [--seed N [--count 1]] [--replicas 1] [--option workers=2]
"""
import argparse
import os
import random
import select
import socket
import struct
import sys
import time
from typing import NamedTuple

from compare import shrink
from differ import known_kinds, name_of
from generate import sequence
from ops import B, D, E, Q, S, X, other
from peer import Peer, fields, read_all
from place import Fixture, Place

OURS = r"\_pgweir\_%"  # statements that pgweir keeps on its servers
LOOKS = {
    "settings": "SELECT string_agg(name || '=' || setting, chr(1) ORDER BY name) FROM pg_settings",
    "custom settings": "SELECT current_setting('my.setting', true)",
    "set by": "SELECT string_agg(name, chr(1) ORDER BY name COLLATE \"C\") FROM pg_settings WHERE source = 'session' AND name !~ '^transaction_'",
    "prepared statements": f"SELECT string_agg(name, chr(1)) FROM pg_prepared_statements WHERE name NOT LIKE '{OURS}'",
    "cursors": "SELECT string_agg(name, chr(1)) FROM pg_cursors WHERE name <> ''",
    "listening": "SELECT string_agg(c, chr(1)) FROM pg_listening_channels() c",
    "advisory locks": "SELECT string_agg(objid || mode, chr(1)) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    "temp objects": "SELECT string_agg(relname, chr(1)) FROM pg_class WHERE relnamespace = pg_my_temp_schema()",
    "users": "SELECT current_user || ' ' || session_user || ' ' || current_setting('role')",
}
PROBES = {  # they must fail with this
    "lastval": ([Q("SELECT lastval()")], "55000"),
    "currval": ([Q("SELECT currval('public.sq')")], "55000"),
    "unnamed statement": ([B(), S()], "26000"),
    "statement s1": ([B("", "s1"), S()], "26000"),
    "statement s2": ([D("S", "s2"), S()], "26000"),
    "statement q1": ([Q("EXECUTE q1")], "26000"),
    "unnamed portal": ([D("P"), S()], "34000"),
    "portal p1": ([E("p1"), S()], "34000"),
    "cursor k": ([Q("FETCH k")], "34000"),
}
ON_REPLICA = {"pgweir.route": "replica"}
AUDITORS = [{}, {"TimeZone": "Asia/Tokyo", "DateStyle": "German", "search_path": "s2", "application_name": "auditor"}]
NOT_OURS = ("transaction_isolation", "transaction_read_only", "transaction_deferrable")  # of the transaction that looks
LEAVES = ("terminate", "close", "reset", "shutdown")
WHENS = ("at rest", "at rest", "unanswered", "within a message")
PATIENCE_S = 0.1  # a server that is not pinned comes within this; later means only that we look after the client has left
ANSWER_S = 20.0


class Leak(NamedTuple):
    what: str
    when: str
    detail: str
    at: int = 1 << 30  # of a sequence it is the whole that counts

    @property
    def signature(self):
        return f"{self.what} ({self.when})"


def first_row(messages):
    return next((body[6:].decode("utf-8", "replace") if body[2:6] != b"\xff\xff\xff\xff" else None for kind, body in messages if kind == "D"), "no row")


def ends_segment(one):
    """Behind this step the client has asked for a ReadyForQuery, and for nothing since."""
    return isinstance(one, other) or one.mark or next((op.asks for op in reversed(one) if op.asks in "PBDECHFSQ"), "S") in "SQ"


class Auditor:
    """A client of pgweir, and what a fresh login with the same parameters finds."""

    def __init__(self, place, start, seeded, node="primary"):
        self.start, self.seeded, self.node, self.asked = start, seeded, node, False
        fresh = Peer(place.cluster.ports[node], {"user": "differ", "database": "differ_p0", **start})
        self.peer = Peer(place.weir.port, {"user": "differ", "database": "differ_p0", **start, **(ON_REPLICA if node != "primary" else {})})
        for peer in (fresh, self.peer):
            assert read_all([peer], ANSWER_S), "no login"
            assert peer.status, f"no login: {peer.seen}"
            peer.seen.clear()
        self.expected = {}
        for name, sql in LOOKS.items():
            fresh.send([Q(self._sql(sql))])
            assert read_all([fresh], ANSWER_S)
            self.expected[name] = first_row(fresh.seen)
            fresh.seen.clear()
        set_by = "\1".join(sorted(start)) or None  # by pgweir, for this client
        self.expected["set by"] = set_by if node == "primary" else f"true|{set_by or ''}"
        fresh.send([X()])
        fresh.close()

    def _sql(self, sql):
        """A replica's auditor has to know which server tells it."""
        return sql if self.node == "primary" else f"SELECT pg_is_in_recovery() || '|' || coalesce(({sql}), '')"

    def ask(self):
        """Asks for a server, unless it waits for one; what comes is the first answer."""
        if not self.asked:
            self.peer.seen.clear()
            self.peer.send([Q("SELECT pg_backend_pid()")])
        self.asked = True

    def has_server(self, seconds):
        return read_all([self.peer], seconds)

    def look(self, when):
        """(pid of the server, the first Leak or None). has_server() was true."""
        self.asked = False
        pid = first_row(self.peer.seen)
        wrong = self._errors(self.peer.seen)
        if wrong:
            return pid, Leak("the audit fails", when, wrong)
        try:
            if self.node != "primary":  # what a replica takes leaves nothing else
                return pid, self._look_at(when + ", on the replica")
            return pid, self._look_at(when) or self._random(when) or self._probe(when)
        finally:
            self._ask([Q("DISCARD ALL")])  # the probes may have pinned the server to the auditor

    @staticmethod
    def _errors(messages):
        return "; ".join(f"{f.get('C')} {f.get('M')}" for f in (fields(b) for k, b in messages if k == "E"))

    def _ask(self, ops):
        self.peer.seen.clear()
        self.peer.send(ops)
        if not read_all([self.peer], ANSWER_S):
            return [("E", b"Mno answer\0")]
        return self.peer.seen

    def _look_at(self, when):
        for name, sql in LOOKS.items():
            seen = self._ask([Q(self._sql(sql))])
            got = first_row(seen)
            if self.node != "primary" and got.startswith("false|"):
                continue  # no replica was fresh enough for it
            if self.node != "primary" and self._errors(seen).startswith("53300"):
                return None  # ... and the other client keeps the primary's server
            if got == "no row":
                return Leak(f"{name}: no answer", when, repr(seen))
            if got != self.expected[name]:
                if name == "settings":
                    before, after = (dict(x.split("=", 1) for x in text.split("\1")) for text in (self.expected[name], got))
                    differ = {k: (before.get(k), after.get(k)) for k in before if before[k] != after.get(k) and k not in NOT_OURS}
                    if differ:
                        return Leak("setting " + " ".join(sorted(differ)), when, f"fresh, here: {differ}")
                else:
                    return Leak(name, when, f"fresh {self.expected[name]!r}, here {got!r}")
        return None

    def _probe(self, when):
        for name, (ops, sqlstate) in PROBES.items():
            seen = self._ask(ops)
            errors = [fields(b).get("C") for k, b in seen if k == "E"]
            if errors != [sqlstate]:
                return Leak(name, when, f"not {sqlstate} but {errors or [k for k, _ in seen]}")
        return None

    def _random(self, when):
        got = first_row(self._ask([Q("SELECT random()")]))
        return Leak("random numbers of another's seed", when, got) if got in self.seeded else None


class Audit:
    def __init__(self, place):
        self.place, self.fixture = place, Fixture(place, 0)
        with self.fixture.dbs[0].cursor() as cursor:  # what random() says after SET SEED TO 0.5
            cursor.execute("SELECT setseed(0.5); SELECT random()::text FROM generate_series(1, 100)")
            self.seeded = {row[0] for row in cursor.fetchall()}
        self.auditors, self.turn, self.nodes = [], 0, place.cluster.nodes
        self.counts = {"sequences": 0, "looks beside the client": 0, "kept the server": 0, "left in a transaction": 0, "which cost the server": 0}
        self._fresh()

    def _fresh(self):
        for a in self.auditors:
            a.peer.close()
        self.fixture.end_servers()
        for left in (3, 2, 1, 0):
            try:
                self.auditors = [Auditor(self.place, start, self.seeded, node) for start in AUDITORS for node in self.nodes]
                return
            except AssertionError:
                if not left:
                    raise

    def run(self, what):
        """The first Leak after this sequence, or None."""
        turn = self.turn
        self.turn += 1
        auditor, leave = self.auditors[turn % len(self.auditors)], LEAVES[turn // 2 % len(LEAVES)]
        found = self._run(what, auditor, leave, WHENS[turn // 3 % len(WHENS)], turn // 4 % 2 == 0)
        text = " ".join(what.texts())
        left = self.fixture.reset(what.texts(), "advisory" in text or "locks(" in text)
        found = found or (Leak("a lock", "after it left", left) if left else None)
        if found or auditor.peer.dead:
            self._fresh()
        return found

    def all_ways(self, what):
        """The first Leak by any auditor and way to leave: for making a finding small."""
        for _ in range(2 * len(self.auditors) * len(LEAVES) * len(WHENS)):
            found = self.run(what)
            if found:
                return found
        return None

    def _run(self, what, auditor, leave, rest, each):
        client = Peer(self.place.weir.port, {"user": "differ", "database": "differ_p0", **what.start})
        if not read_all([client], ANSWER_S) or client.dead:
            client.close()
            return None if client.dead else Leak("no login", "at first", "no answer")
        found = self._play(client, what, rest == "at rest", auditor if each else None)
        self.counts["sequences"] += 1
        if rest == "within a message" and not client.dead:
            client.sock.sendall(b"Q\0\0\1\0SELECT")
        else:
            found = found or self._look_beside(client, what.steps[-1], auditor)
        self._leave(client, leave)
        if found:
            return found
        auditor.ask()
        if not auditor.has_server(ANSWER_S):
            return Leak("the server does not come back", f"after {leave}, {rest}", "")
        pid, found = auditor.look(f"after {leave}" if leave == "terminate" else "after it left")
        self._count(client, auditor, pid)
        return found

    def _look_beside(self, client, behind, auditor):
        """The first Leak, or None: also of a client that keeps its server, as one whose segment is open may."""
        if client.status != "I" or client.queue or client.copy_in or client.dead or not ends_segment(behind):
            return None
        auditor.ask()
        if not auditor.has_server(PATIENCE_S):
            self.counts["kept the server"] += 1
            return None
        self.counts["looks beside the client"] += 1
        return auditor.look("the other is still there")[1]

    def _play(self, client, what, waits, auditor):
        """The first Leak behind a step but the last, if there is an auditor."""
        for one in what.steps:
            last = one is what.steps[-1] and not waits
            if isinstance(one, other):
                self.fixture.run(1, one)
                continue
            client.send(one, one.mark)
            if last or not read_all([client], 2.0) or client.dead:  # differ.py tells what hangs; here it is a client that leaves in the middle
                return None
            found = self._look_beside(client, one, auditor) if auditor and one is not what.steps[-1] else None
            if found:
                return found
        return None

    @staticmethod
    def _leave(client, how):
        if how == "terminate" and not client.dead:
            client.send([X()])
        if how == "shutdown" and not client.dead:
            client.sock.shutdown(socket.SHUT_WR)
            end = time.monotonic() + ANSWER_S
            while not client.dead and time.monotonic() < end:
                select.select([client.sock], [], [], 1)
                client.receive()
        if how == "reset":
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()

    def _count(self, client, auditor, pid):
        if client.status in ("T", "E") and not client.dead:
            self.counts["left in a transaction"] += 1
            self.counts["which cost the server"] += pid != getattr(auditor, "last_pid", pid)
        for a in self.auditors:
            a.last_pid = pid


def report(audit, leaks, options, took):
    known = known_kinds()
    counts = dict(audit.counts)  # making findings small counts too
    for signature, found in sorted(leaks.items(), key=lambda x: -len(x[1])):
        name = name_of(signature, "", known, ("leak",))
        if name:
            print(f"known      {len(found):6} {name}: {signature}")
            continue
        _, seed, leak = min(found, key=lambda x: x[0])
        print(f"\nLEAK       {len(found):6} {signature}\n    seeds {' '.join(str(x[1]) for x in found[:6])}\n    {leak.detail:.600}")
        again = audit.all_ways(sequence(seed, hidden=True))
        if not again or again.what != leak.what:
            print(f"    not again: {again and again.signature}")
            continue
        small, last = shrink(audit.all_ways, sequence(seed, hidden=True), again, options.shrink)
        print(f"    {last.signature}: {last.detail:.600}\n    {small!r}", flush=True)
    unknown = [s for s in leaks if not name_of(s, "", known, ("leak",))]
    several = sum(len(leaks[s]) for s in unknown)
    print(f"\n{counts} in {took:.0f} s from seed {options.seed}: {len(unknown)} kinds of leaks that known.def does not name")
    print(f"{options.done - several} passed, {several} failed")
    return 1 if several or not options.done else 0


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--seconds", type=float, default=60)
    p.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    p.add_argument("--count", type=int, default=1 << 60)
    p.add_argument("--shrink", type=float, default=10)
    p.add_argument("--replicas", type=int, default=0)
    p.add_argument("--option", action="append", default=[], metavar="K=V", help="of pgweir")
    options = p.parse_args()
    more = dict(o.split("=", 1) for o in options.option)
    with Place(default_pool_size=1, replicas=options.replicas, **more) as place:
        audit, leaks, began = Audit(place), {}, time.monotonic()
        print(f"seed {options.seed}, {options.seconds:.0f} s, {os.environ.get('PGWEIR_BIN', 'build/pgweir-asan')}", flush=True)
        options.done = 0
        while options.done < options.count and time.monotonic() < began + options.seconds:
            seed = options.seed + options.done
            found = audit.run(sequence(seed, hidden=True))
            options.done += 1
            if found:
                leaks.setdefault(found.signature, []).append((sequence(seed, hidden=True).size(), seed, found))
        return report(audit, leaks, options, time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
