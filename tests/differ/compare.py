"""Runs a sequence in both worlds and tells the first difference."""
import re
import select
import time
from typing import NamedTuple

from ops import S, X, other
from peer import Peer, fields, read_all

LATE_S = 10.0  # a notification may come through pgweir so much later
DIRECT_S = 20.0  # longest wait for PostgreSQL itself: it waits for nothing here


class Unusable(Exception):
    """The sequence tells nothing: PostgreSQL itself does not answer it."""


class Difference(NamedTuple):
    at: int  # step; -1 is the login
    left: tuple  # what PostgreSQL said: (type, body), or a text
    right: tuple  # what came through pgweir

    @property
    def signature(self):
        left, right = sign(self.left), sign(self.right)
        if left == right and self.left[0] in "EN":
            one, two = fields(self.left[1]), fields(self.right[1])
            return f"{left}: other {' '.join(sorted(k for k in {*one, *two} if one.get(k) != two.get(k)))}"
        if left == right:
            return f"{left}: other content"
        return f"{left} <> {right}"

    def __str__(self):
        return f"step {self.at}\n    direct  {show(self.left)}\n    pgweir  {show(self.right)}"


def general(text):
    """Without what names and numbers make different."""
    text = re.sub(r'"[^"]*"', "N", text)
    return re.sub(r"'[^']*'", "'V'", re.sub(r"\d+", "#", text))


def sign(m):
    if isinstance(m, str):
        return m
    kind, body = m
    if kind in "EN":
        f = fields(body)
        return f"{f.get('S')} {f.get('C')} {general(f.get('M', ''))}"
    if kind == "C":
        return "CommandComplete " + re.sub(r"\d+", "#", body[:-1].decode())
    if kind == "Z":
        return "ReadyForQuery " + body.decode()
    if kind == "S":
        return "ParameterStatus " + body.split(b"\0")[0].decode()
    return {"1": "ParseComplete", "2": "BindComplete", "3": "CloseComplete", "D": "DataRow", "T": "RowDescription", "n": "NoData", "t": "ParameterDescription",
            "G": "CopyInResponse", "H": "CopyOutResponse", "d": "CopyData", "c": "CopyDone", "I": "EmptyQueryResponse", "s": "PortalSuspended",
            "V": "FunctionCallResponse", "R": "Authentication", "A": "Notification"}.get(kind, kind)


def show(m):
    if isinstance(m, str):
        return m
    kind, body = m
    if kind in "EN":
        return f"{kind} " + " ".join(f"{k}={v!r}" for k, v in fields(body).items())
    return f"{kind} {body[:120]!r}"


def settled(messages):
    """ParameterStatus messages in a row in one order: PostgreSQL's own is that of its hash table."""
    out = []
    for m in messages:
        if m[0] == "S":
            at = len(out)
            while at and out[at - 1][0] == "S" and out[at - 1] > m:
                at -= 1
            out.insert(at, m)
        else:
            out.append(m)
    return out


def around(one, two, i):
    """Where one side has a ParameterStatus that the other has not, that is the difference."""
    if one[i][0] == "S" and two[i][0] != "S":
        return one[i], "no ParameterStatus here"
    if two[i][0] == "S" and one[i][0] != "S":
        return "no ParameterStatus here", two[i]
    return one[i], two[i]


class Runner:
    """Runs sequences on one pair of databases. equal(signature, sequence, step): the name under which known.def lets it pass, or None."""

    def __init__(self, place, pair, fixture, switcher, equal=lambda signature, sequence, step: None):
        self.place, self.pair, self.fixture, self.switcher, self.equal = place, pair, fixture, switcher, equal
        self.deadline_s = 15.0  # for pgweir, after PostgreSQL has answered, on a busy machine
        self.sequence, self.passed = None, {}  # of the last run: message number -> name of the known difference
        self.dirty = False  # a server holds what it must not: end the servers

    def run(self, sequence):
        """The Difference, or None. Leaves both databases as they were."""
        peers, self.sequence, self.passed = [], sequence, {}
        try:
            found = self._run(sequence, peers)
        finally:
            for p in peers:
                p.close()
            self.switcher.settle()
            text = " ".join(sequence.texts())
            left = self.fixture.reset(sequence.texts(), "advisory" in text or "locks(" in text)
            self.dirty = bool(left)
        return found or (Difference(len(sequence.steps), "nothing left behind", f"left behind: {left}") if left else None)

    def _first(self, at, direct, via, complete, missing="nothing"):
        """The first difference between what both have said. complete: nothing more comes of either."""
        one, two = settled(direct), settled(via)
        shorter = min(len(one), len(two))
        for i in range(shorter):
            if one[i] != two[i]:
                found = Difference(at, *around(one, two, i))
                name = self.equal(found.signature, self.sequence, at)
                if not name:
                    return found
                self.passed[i] = name
        if complete and len(one) != len(two):
            return Difference(at, one[shorter] if len(one) > shorter else "nothing", two[shorter] if len(two) > shorter else missing)
        return None

    def _login(self, sequence, peers):
        ports = self.place.cluster.ports["primary"], self.place.weir.port
        for world, port in zip("dp", ports):
            peers.append(Peer(port, {"user": "differ", "database": f"differ_{world}{self.pair}", **sequence.start}))
        wrong = self._read(-1, peers)
        if wrong:
            return wrong
        one, two = (sorted(m for m in p.seen if m[0] not in "R") for p in peers)
        for m, n in zip(one, two):
            if m != n:
                return Difference(-1, m, n)
        if len(one) != len(two):
            return Difference(-1, (one[len(two):] or ["nothing"])[0], (two[len(one):] or ["nothing"])[0])
        for p in peers:
            p.seen.clear()
        return None

    def _run(self, sequence, peers):
        wrong = self._login(sequence, peers)
        if wrong:
            return wrong
        direct, via = peers
        at = 0
        for at, one in enumerate(sequence.steps):
            wrong = self._other(at, one) if isinstance(one, other) else self._step(at, one, direct, via)
            if wrong:
                return wrong
            if direct.dead:
                return self._end(at, peers)
        if direct.notifications or any(isinstance(s, other) for s in sequence.steps):
            self._notifications(direct, via)
        for p in peers:
            p.send([X()])
        return self._end(at + 1, peers)

    def _notifications(self, direct, via):
        """Those that are under way; they need not come with an answer."""
        for p in (direct, via):
            p.send([S()])
            read_all([p], self.deadline_s, self.switcher.poll)
        end = time.monotonic() + LATE_S
        while len(via.notifications) < len(direct.notifications) and time.monotonic() < end:
            select.select([via.sock], [], [], 0.05)
            via.receive()

    def _other(self, at, sql):
        one, two = (self.fixture.run(world, sql) for world in (0, 1))
        return None if one == two else Difference(at, f"another session: {one}", f"another session: {two}")

    def _step(self, at, one, direct, via):
        self.switcher((via.status or "I") in "TE" or bool(via.queue))
        for p in (direct, via):
            p.send(one, one.mark)
        return self._read(at, (direct, via)) or self._first(at, direct.seen, via.seen, False)

    def _read(self, at, peers):
        """Reads both; a Difference if one ended or hangs where the other does not."""
        direct, via = peers
        if not read_all([direct], DIRECT_S, self.switcher.poll):
            raise Unusable(f"PostgreSQL does not answer step {at}, expected {[*direct.queue]} after {direct.seen[-3:]}")
        end = time.monotonic() + self.deadline_s
        while via.waiting() and time.monotonic() < end:
            read_all([via], 0.25, self.switcher.poll)
            if not direct.dead and self._first(at, direct.seen, via.seen, False):
                break
        if via.waiting():
            return self._first(at, direct.seen, via.seen, True, "nothing (hangs)") or Difference(at, "nothing", "nothing (hangs)")
        if via.dead and not direct.dead:
            return self._first(at, direct.seen, via.seen, True, "closed") or Difference(at, "nothing", "closed")
        return None

    def _end(self, at, peers):
        """Both must close the connection now, having said the same."""
        direct, via = peers
        for p, seconds in ((direct, DIRECT_S), (via, self.deadline_s)):
            end = time.monotonic() + seconds
            while not p.dead and time.monotonic() < end:
                p.queue.append("S")  # wait for the end, not for an answer
                read_all([p], 0.25, self.switcher.poll)
        if direct.dead and not via.dead:
            return self._first(at, direct.seen, via.seen, True) or Difference(at, "closed", "still open")
        wrong = self._first(at, direct.seen, via.seen, True)
        if not wrong and direct.notifications != via.notifications:
            wrong = Difference(at, f"notifications {len(direct.notifications)}", f"notifications {len(via.notifications)}")
        return wrong


def same_kind(one, two):
    return one is not None and two is not None and one.signature == two.signature


def shrink(run, sequence, found, seconds):
    """The smallest sequence with the same kind of difference that was found in this time, and that difference."""
    end = time.monotonic() + seconds
    best, best_found = sequence, found

    def attempt(steps, start):
        nonlocal best, best_found
        if time.monotonic() > end:
            return False
        got = run(type(sequence)(steps, start))
        if not same_kind(got, found):
            return False
        best, best_found = type(sequence)(steps, start), got
        return True

    attempt(best.steps[:found.at + 1] if found.at >= 0 else [], best.start)
    again = True
    while again and time.monotonic() < end:
        again = attempt(best.steps, {}) if best.start else False
        again = _without_parts(lambda: best, attempt) or again
    return best, best_found


def _without_parts(best, attempt):
    """One pass over steps, then over messages, the last first. True: something could go."""
    shorter = False
    for size in (4, 2, 1):
        at = len(best().steps) - size
        while at >= 0:
            shorter = attempt(best().steps[:at] + best().steps[at + size:], best().start) or shorter
            at = min(at - 1, len(best().steps) - size)
    for at in range(len(best().steps) - 1, -1, -1):
        if isinstance(best().steps[at], other):
            continue
        n = len(best().steps[at]) - 1
        while n >= 0 and at < len(best().steps):
            now = best().steps[at]
            kept = now.with_ops([*now[:n], *now[n + 1:]])
            shorter = attempt(best().steps[:at] + ([kept] if kept else []) + best().steps[at + 1:], best().start) or shorter
            n -= 1
            if not kept:
                break
    return shorter
