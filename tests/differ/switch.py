"""Strangers on the pool of two: before each step they see to it that the server which the sequence used last is not the
one that it gets next, and leave names and settings of their own on both."""
import select

from ops import B, E, P, Q, S
from peer import Peer, read_all

STRANGERS = [{"TimeZone": "Pacific/Auckland", "DateStyle": "SQL, DMY", "application_name": "stranger"},
             {"client_encoding": "LATIN1", "IntervalStyle": "sql_standard", "application_name": "stranger two"}]
TAKE = [Q("BEGIN"), P("", "SELECT 'stranger'"), P("s1", "SELECT 'stranger s1'"), P("s2", "SELECT 'stranger s2' WHERE $1 = 1"), B(), E(), S()]
AGAIN = [Q("BEGIN"), P("", "SELECT 'stranger'"), B(), E(), B("", "s1"), E(), S()]
UNNAMED = [Q("BEGIN"), P("", "SELECT 'stranger'"), B(), E(), S()]
FREE = [Q("COMMIT")]
PATIENCE_S = 0.02  # for a server that the sequence itself may hold
SETTLE_S = 5.0


class Switcher:
    """One stranger holds a server; the other takes the one just left; then the first lets go of its own. So of two
    servers the sequence always gets the one that it did not use last, unless it still holds it.

    names: strangers have prepared statements. With max_prepared_statements = 0 each would keep a server for good."""

    def __init__(self, port, database, names=True):
        self.peers, self.names = [], names
        for params in STRANGERS:
            peer = Peer(port, {"user": "differ", "database": database, **params})
            self.peers.append(peer)
            self._finish(peer)
        self.holder, self.taker = self.peers
        self.known, self.pending = set(), False
        self._take(self.holder)
        self._finish(self.holder)

    def _take(self, peer):
        named = AGAIN if peer in self.known else TAKE
        peer.send(named if self.names else UNNAMED)
        self.known.add(peer)

    @staticmethod
    def _finish(peer, deadline_s=20):
        while peer.waiting():
            if not select.select([peer.sock], [], [], deadline_s)[0]:
                raise AssertionError(f"a stranger waits in vain: {peer.seen[-5:]}")
            peer.receive()
        Switcher._check(peer)

    @staticmethod
    def _check(peer):
        wrong = [m for m in peer.seen if m[0] == "E"]
        rows = {m[1][6:] for m in peer.seen if m[0] == "D"}
        assert not wrong and not peer.dead, f"a stranger failed: {wrong}"
        assert rows <= {b"stranger", b"stranger s1"}, f"a stranger got another's rows: {rows}"
        peer.seen.clear()

    def poll(self):
        """The taker may have its server by now. Returns the sockets that say when to poll again."""
        if not self.pending:
            return []
        while self.taker.receive():
            pass
        if self.taker.waiting() and not self.taker.dead:
            return [self.taker.sock]
        self._check(self.taker)
        self.holder.send(FREE)
        self._finish(self.holder)
        self.holder, self.taker, self.pending = self.taker, self.holder, False
        return []

    def settle(self):
        """The sequence has no server any more: what a stranger asked for comes before the fixture changes under it."""
        if self.pending:
            read_all([self.taker], SETTLE_S)
            self.poll()

    def __call__(self, may_hold):
        """may_hold: the sequence is within a transaction, so there is nothing to wait for."""
        self.poll()
        if self.pending or may_hold:
            return
        self._take(self.taker)
        self.pending = True
        select.select([self.taker.sock], [], [], PATIENCE_S)
        self.poll()

    def close(self):
        for peer in self.peers:
            peer.close()
