"""One connection of the tester: sends messages, knows from PostgreSQL's rules how much it must read after them, and
keeps what came with everything masked that may differ between two databases."""
import re
import select
import socket
import struct
import time
from collections import deque

from ops import Q, S, fail

FIRST_USER_OID = 16384
MASKED_OID = 99999
MARKS = 3
MARK = [fail("mark"), S(), *[Q("")] * MARKS]
FLUSHING = frozenset("HSQF")
TEMP_SCHEMA = re.compile(rb"pg_(toast_)?temp_\d+")
DATABASE = re.compile(rb"differ_[dp]\d+")
OID_IN_TEXT = re.compile(rb"(OID|relation|type|function) \d{5,}")


def mask_oid(oid):
    return MASKED_OID if oid >= FIRST_USER_OID else oid


def mask_row_description(body):
    (count,), at, out = struct.unpack_from("!H", body), 2, [body[:2]]
    for _ in range(count):
        end = body.index(0, at) + 1
        table, column, kind, size, mod, fmt = struct.unpack_from("!IHIhiH", body, end)
        out.append(body[at:end] + struct.pack("!IHIhiH", mask_oid(table), column, mask_oid(kind), size, mod, fmt))
        at = end + 18
    return b"".join(out) + body[at:]


def mask_parameters(body):
    (count,) = struct.unpack_from("!H", body)
    return body[:2] + b"".join(struct.pack("!I", mask_oid(o)) for o in struct.unpack_from(f"!{count}I", body, 2)) + body[2 + 4 * count:]


def masked(kind, body):
    if kind == "T":
        return mask_row_description(body)
    if kind == "t":
        return mask_parameters(body)
    if kind == "A":
        return body[4:]
    if kind in "EN":
        body = DATABASE.sub(b"differ", OID_IN_TEXT.sub(rb"\1 N", body))
    if b"_temp_" in body:
        body = TEMP_SCHEMA.sub(b"pg_temp_N", body)
    return body


def fields(body):
    """Of an ErrorResponse or NoticeResponse."""
    return {f[:1].decode(): f[1:].decode("utf-8", "replace") for f in body.split(b"\0") if f}


class Peer:
    """dead: the connection was closed by the other side."""

    def __init__(self, port, params, host="127.0.0.1"):
        self.sock = socket.create_connection((host, port), timeout=20)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.inbox, self.at = bytearray(), 0
        self.seen, self.notifications = [], []  # (type, masked body)
        self.queue, self.skipping, self.copy_in, self.mark = deque(), False, False, 0
        self.dead, self.status, self.login, self.key = False, None, True, None
        body = struct.pack("!I", 3 << 16) + b"".join(k.encode() + b"\0" + v.encode() + b"\0" for k, v in params.items()) + b"\0"
        self.sock.sendall(struct.pack("!I", len(body) + 4) + body)
        self.sock.setblocking(False)
        self.queue.append("S")  # the login ends in a ReadyForQuery, as a Sync does

    # Sending
    def send(self, ops, mark=False):
        """Queues what these will bring. mark: read up to the answer of MARK, which is added."""
        if mark:
            ops = [*ops, *MARK]
            self.queue.clear()
            self.skipping, self.copy_in, self.mark = False, False, 2 * MARKS
        else:
            for op in ops:
                self._expect(op.asks)
        self.write(b"".join(op.data for op in ops))

    def write(self, out):
        end = time.monotonic() + 20
        while out and not self.dead:
            try:
                out = out[self.sock.send(out):]
            except BlockingIOError:
                select.select([self.sock], [self.sock], [], 1)
                self.receive()  # it may not read before we do
                assert time.monotonic() < end, "it does not take our messages"
            except OSError:
                while self.receive():
                    pass
                self.dead = True

    def _expect(self, kind):
        if self.skipping:
            if kind == "X":
                self.queue.append(kind)
            if kind != "S":
                return
            self.skipping = False
        self.queue.append(kind)
        self._advance()

    def _advance(self):
        """Drops from the front what brings no answer."""
        q = self.queue
        while q:
            if self.copy_in:
                if len(q) < 2:
                    return
                kind = q[1]
                del q[1]
                if kind not in "dSH":  # its end, or a message that COPY does not know: an error
                    self.copy_in = False
            elif q[0] in "Hdcf":
                q.popleft()
            else:
                return

    # Receiving
    def waiting(self):
        """More must come of what was sent."""
        if self.dead:
            return False
        if self.mark:
            return True
        return bool(self.queue) and not self.copy_in and not FLUSHING.isdisjoint(self.queue)

    def receive(self):
        """What is there. False: nothing was."""
        try:
            got = self.sock.recv(262144)
        except BlockingIOError:
            return False
        except OSError:
            got = b""
        if not got:
            self.dead = True
            return False
        self.inbox += got
        self._take()
        return True

    def _take(self):
        box, at, n = self.inbox, 0, len(self.inbox)
        while n - at >= 5:
            size = int.from_bytes(box[at + 1:at + 5], "big")
            if n - at < size + 1:
                break
            self._message(chr(box[at]), bytes(box[at + 5:at + 1 + size]))
            at += size + 1
        del box[:at]

    def _message(self, kind, body):
        if kind == "A":
            self.notifications.append(masked(kind, body))
            return
        if kind == "K":
            self.key = body
            body = b""
        self.seen.append((kind, masked(kind, body)))
        if kind == "Z":
            self.status = body.decode()
        if self.mark:
            self._marked(kind)
        elif kind not in "NSK":
            self._answer(kind)

    def _marked(self, kind):
        """The mark is answered by I Z I Z I Z, which nothing else is."""
        if kind == "IZ"[self.mark % 2]:
            self.mark -= 1
        elif kind not in "NSK":
            self.mark = 2 * MARKS - (kind == "I")

    def _answer(self, kind):
        q = self.queue
        if not q:
            return
        head = q[0]
        if kind == "E":
            self.copy_in = False
            if head not in "QFS":
                self._skip()
        elif kind == "G":
            self.copy_in = True
        elif (kind in "123Tn" and head == {"1": "P", "2": "B", "3": "C", "T": "D", "n": "D"}[kind]) or \
                (kind in "CsI" and head == "E") or (kind == "Z" and head in "QFS"):
            q.popleft()
        self._advance()

    def _skip(self):
        q = self.queue
        while q and q[0] != "S":
            q.popleft()
        self.skipping = not q

    def close(self):
        self.sock.close()


def read_all(peers, deadline_s, also=None):
    """Reads until none of them waits. False: the deadline passed. also(): called between, for other connections to
    poll; its sockets are watched too."""
    end = time.monotonic() + deadline_s
    while True:
        waiting = [p for p in peers if p.waiting()]
        if not waiting:
            return True
        left = end - time.monotonic()
        if left <= 0:
            return False
        more = also() if also else []
        ready, _, _ = select.select([p.sock for p in waiting] + more, [], [], min(left, 1))
        for p in waiting:
            if p.sock in ready:
                p.receive()
