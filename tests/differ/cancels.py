#!/usr/bin/python3
"""Random cancels: `make test-cancels N=10000`.

64 clients with several sets of settings share 4 servers. Cancel requests, several at a time, go to half of the clients at
random moments: while they wait, run, are idle, or have just ended. What must hold:

    nobody but the addressee gets 57014                                  (a stranger's query is never hit)
    a query sent after its cancel request was closed is not hit by it    (no cancel comes late)
    every query gets its own answer or 57014, and every client goes on
"""
import argparse
import random
import select
import socket
import struct
import sys
import time

from ops import B, E, H, P, Q, S
from peer import Peer, fields, read_all
from place import Place

CLIENTS, SERVERS, AT_ONCE = 64, 4, 8
CANCEL_REQUEST = 80877102
STARTS = [{}, {}, {"TimeZone": "Asia/Tokyo"}, {"application_name": "three"}, {"DateStyle": "German", "extra_float_digits": "2"}]
ANSWER_S = 60.0


def messages_for(r, token, in_transaction):
    """One exchange whose rows are the token alone."""
    sleep = f"pg_sleep({r.choice([0, 0, 0.001, 0.002, 0.005])})"
    sql = f"SELECT '{token}' FROM (SELECT {sleep}) x"
    if in_transaction:
        return [Q(r.choice(["COMMIT", "ROLLBACK"]))] if r.random() < .5 else [Q(sql)]
    return r.choice([
        lambda: [Q(sql)],
        lambda: [Q(f"BEGIN; {sql}")],
        lambda: [P("", f"SELECT $1::text FROM (SELECT {sleep}) x"), B("", "", [token]), E(), S()],
        lambda: [P("", f"SELECT $1::text FROM (SELECT {sleep}) x"), B("", "", [token]), H(), E(), H(), S()],
        lambda: [Q(f"COPY (SELECT '{token}' FROM (SELECT {sleep}) x) TO STDOUT")],
        lambda: [Q(f"SET LOCAL work_mem = '5MB'; {sql}; SELECT '{token}'")],
    ])()


class Client:
    def __init__(self, port, n):
        self.n, self.target = n, n % 2 == 0
        self.peer = Peer(port, {"user": "differ", "database": "differ_p0", **STARTS[n % len(STARTS)]})
        assert read_all([self.peer], 20) and self.peer.status == "I", f"no login: {self.peer.seen}"
        self.peer.seen.clear()
        self.sent_at, self.token, self.busy, self.asked = 0.0, "", False, 0
        self.cancels = []  # [when sent, when closed or None] of those that may matter still

    def start(self, r, last=None):
        self.asked += 1
        self.token = f"token-{self.n}-{self.asked}"
        self.peer.seen.clear()
        self.sent_at, self.busy = time.monotonic(), True
        if self.peer.status == "E":
            last = Q("ROLLBACK")
        self.peer.send([last] if last else messages_for(r, self.token, self.peer.status == "T"))

    def finish(self):
        """The answer is there: (was it cancelled, what is wrong with it or None)."""
        self.busy = False
        now = time.monotonic()
        errors = [fields(b) for k, b in self.peer.seen if k == "E"]
        texts = {b[6:].decode() for k, b in self.peer.seen if k == "D"} | {b.decode().strip() for k, b in self.peer.seen if k == "d"}
        in_time = [c for c in self.cancels if c[0] <= now and (c[1] is None or c[1] >= self.sent_at)]
        self.cancels = [c for c in self.cancels if c[1] is None or c[1] >= now]
        if texts - {self.token}:
            return False, f"client {self.n} got another's rows: {texts}"
        if self.peer.dead:
            return False, f"client {self.n} lost its connection: {self.peer.seen[-2:]}"
        if not errors:
            return False, None
        if [e.get("C") for e in errors] != ["57014"]:
            return False, f"client {self.n}: {errors}"
        if not self.target:
            return True, f"client {self.n}, whom nobody cancelled, got 57014"
        if not in_time:
            return True, f"client {self.n} got 57014 by a cancel that ended before its query began"
        return True, None


class Cancel:
    """A CancelRequest under way: over when pgweir closes it."""

    def __init__(self, port, client):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.sock.setblocking(False)
        self.record = [time.monotonic(), None]
        client.cancels.append(self.record)
        self.sock.send(struct.pack("!II", 8 + len(client.peer.key), CANCEL_REQUEST) + client.peer.key)

    def ended(self):
        try:
            if self.sock.recv(16):
                return True
        except BlockingIOError:
            return False
        except OSError:
            pass
        self.record[1] = time.monotonic()
        self.sock.close()
        return True


class Run:
    def __init__(self, place, options):
        self.port = place.cluster.ports["primary"] if options.direct else place.weir.port
        self.options, self.r = options, random.Random(options.seed)
        self.clients = [Client(self.port, n) for n in range(CLIENTS)]
        self.cancels, self.sent, self.hits, self.answers, self.problems = [], 0, 0, 0, []

    def turn(self):
        if self.sent < self.options.count and len(self.cancels) < AT_ONCE and self.r.random() < .7:
            self.cancels.append(Cancel(self.port, self.r.choice([c for c in self.clients if c.target])))
            self.sent += 1
        for c in self.clients:
            if c.busy or c.peer.dead:
                continue
            if self.sent < self.options.count:
                if self.r.random() < (.5 if c.peer.status in "TE" else .08):
                    c.start(self.r)
            elif c.peer.status in "TE":  # the end: it keeps no server from the others
                c.start(self.r, Q("ROLLBACK"))
        busy = [c for c in self.clients if c.busy]
        ready, _, _ = select.select([c.peer.sock for c in busy] + [k.sock for k in self.cancels], [], [], 0.02)
        ready = set(ready)
        self.cancels = [k for k in self.cancels if not (k.sock in ready and k.ended())]
        for c in busy:
            if c.peer.sock in ready:
                c.peer.receive()
            if not c.peer.waiting():
                self.answers += 1
                hit, wrong = c.finish()
                self.hits += hit
                self.problems += [wrong] if wrong else []
        now = time.monotonic()
        self.problems += [f"client {c.n} waits for more than {ANSWER_S:.0f} s" for c in busy if c.busy and now - c.sent_at > ANSWER_S]

    def all(self):
        end = time.monotonic() + self.options.seconds
        while time.monotonic() < end and len(self.problems) < 20 and \
                (self.sent < self.options.count or self.cancels or any(c.busy for c in self.clients)):
            self.turn()
        return self.sent == self.options.count and not self.cancels and not any(c.busy for c in self.clients)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--count", type=int, default=10000)
    p.add_argument("--seconds", type=float, default=300)
    p.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    p.add_argument("--workers", type=int, default=2)
    p.add_argument("--direct", action="store_true", help="PostgreSQL alone, to see that it holds there")
    p.add_argument("--option", action="append", default=[], metavar="K=V", help="of pgweir")
    options = p.parse_args()
    more = dict(o.split("=", 1) for o in options.option)
    with Place(**{"default_pool_size": SERVERS, "workers": options.workers, "queue_timeout": "60s", **more}) as place:
        print(f"seed {options.seed}", flush=True)
        run, began = Run(place, options), time.monotonic()
        complete = run.all()
        for problem in run.problems:
            print(f"WRONG      {problem}")
        kinds = len(run.problems)
        print(f"{run.sent} cancels to {CLIENTS // 2} of {CLIENTS} clients over {CLIENTS if options.direct else SERVERS} servers in {time.monotonic() - began:.0f} s: "
              f"{run.answers} answers, {run.hits} of them 57014, {kinds} wrong{'' if complete else '; not all were sent or answered in time'}")
        ok = complete and not kinds and run.hits > run.sent // 100
        print("1 passed, 0 failed" if ok else "0 passed, 1 failed")
        return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
