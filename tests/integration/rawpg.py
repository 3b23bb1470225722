"""A raw PostgreSQL v3 client: sends exactly the bytes it is told to, shows exactly what comes back.

Every read has a deadline. Nothing is retried, nothing is hidden:

    c = RawPg(port)
    c.login("app_scram", "app", "secret")
    c.send(parse("s1", "SELECT 1"), bind("", "s1"), execute(), sync())
    tags = [m.type for m in c.read_until("Z")]
"""
import base64
import hashlib
import hmac
import os
import socket
import ssl
import struct
import time
import weakref
from typing import NamedTuple

PROTOCOL_3_0 = 3 << 16
PROTOCOL_3_2 = 3 << 16 | 2
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104
CANCEL_REQUEST = 80877102


class Deadline(AssertionError):
    """The peer did not answer in time."""


class Closed(AssertionError):
    """The peer closed the connection."""


class PgError(Exception):
    """An ErrorResponse where success was expected."""

    def __init__(self, message):
        self.fields = message.fields()
        self.sqlstate = self.fields.get("C")
        super().__init__(f"{self.fields.get('S')} {self.sqlstate}: {self.fields.get('M')}")


class Message(NamedTuple):
    type: str
    body: bytes

    def fields(self):
        """Of an ErrorResponse or NoticeResponse: {'S': severity, 'C': sqlstate, 'M': text, ...}."""
        return {f[:1].decode(): f[1:].decode() for f in self.body.split(b"\0") if f}

    def row(self):
        """Of a DataRow: the columns as bytes, None for NULL."""
        columns, at = [], 2
        for _ in range(struct.unpack_from("!H", self.body)[0]):
            (size,) = struct.unpack_from("!i", self.body, at)
            columns.append(None if size < 0 else self.body[at + 4:at + 4 + size])
            at += 4 + max(size, 0)
        return columns

    @property
    def text(self):
        """The body as text without its NUL: of CommandComplete, or the status of ReadyForQuery."""
        return self.body.rstrip(b"\0").decode()


# Messages, ready to send.
def message(kind, body=b""):
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


def cstr(text):
    return (text if isinstance(text, bytes) else text.encode()) + b"\0"


def startup(user, database=None, protocol=PROTOCOL_3_0, **params):
    params = {"user": user, **({"database": database} if database is not None else {}), **params}
    body = struct.pack("!I", protocol) + b"".join(cstr(k) + cstr(v) for k, v in params.items()) + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def query(sql):
    return message("Q", cstr(sql))


def parse(name, sql, types=()):
    return message("P", cstr(name) + cstr(sql) + struct.pack(f"!H{len(types)}I", len(types), *types))


def bind(portal, name, values=()):
    body = cstr(portal) + cstr(name) + struct.pack("!HH", 0, len(values))
    for value in values:
        data = None if value is None else str(value).encode()
        body += struct.pack("!i", -1) if data is None else struct.pack("!i", len(data)) + data
    return message("B", body + struct.pack("!H", 0))


def describe(kind, name=""):
    return message("D", kind.encode() + cstr(name))


def execute(portal="", rows=0):
    return message("E", cstr(portal) + struct.pack("!I", rows))


def close(kind, name=""):
    return message("C", kind.encode() + cstr(name))


def sync():
    return message("S")


def flush():
    return message("H")


def terminate():
    return message("X")


def copy_data(data):
    return message("d", data)


def copy_done():
    return message("c")


def copy_fail(why):
    return message("f", cstr(why))


class RawPg:
    alive = weakref.WeakSet()  # those that the test did not close

    def __init__(self, port, host="127.0.0.1", deadline_s=10.0):
        RawPg.alive.add(self)
        self.address, self.deadline_s = (host, port), deadline_s
        self.sock = socket.create_connection(self.address, timeout=deadline_s)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.inbox = b""
        self.params, self.key, self.status = {}, None, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # Bytes
    def send(self, *messages):
        self.sock.sendall(b"".join(messages))

    def _fill(self, end):
        left = end - time.monotonic()
        if left <= 0:
            raise Deadline(f"nothing more within the deadline; unread: {self.inbox[:60]!r}")
        self.sock.settimeout(left)
        try:
            data = self.sock.recv(65536)
        except (socket.timeout, ssl.SSLWantReadError):
            raise Deadline(f"nothing more within the deadline; unread: {self.inbox[:60]!r}") from None
        except ConnectionResetError:
            data = b""
        finally:
            self.sock.settimeout(self.deadline_s)
        if not data:
            raise Closed(f"closed by the peer; unread: {self.inbox[:60]!r}")
        self.inbox += data

    def read_bytes(self, size, deadline_s=None):
        end = time.monotonic() + (self.deadline_s if deadline_s is None else deadline_s)
        while len(self.inbox) < size:
            self._fill(end)
        data, self.inbox = self.inbox[:size], self.inbox[size:]
        return data

    # Messages
    def read(self, deadline_s=None):
        end = time.monotonic() + (self.deadline_s if deadline_s is None else deadline_s)
        while len(self.inbox) < 5 or len(self.inbox) < 1 + struct.unpack_from("!I", self.inbox, 1)[0]:
            self._fill(end)
        (size,) = struct.unpack_from("!I", self.inbox, 1)
        result = Message(chr(self.inbox[0]), self.inbox[5:1 + size])
        self.inbox = self.inbox[1 + size:]
        if result.type == "S":
            name, value = result.body.split(b"\0")[:2]
            self.params[name.decode()] = value.decode()
        elif result.type == "Z":
            self.status = result.text
        return result

    def read_until(self, last="Z", deadline_s=None):
        """Messages up to and with the first whose type is in last (a string of types)."""
        end = time.monotonic() + (self.deadline_s if deadline_s is None else deadline_s)
        result = []
        while not result or result[-1].type not in last:
            result.append(self.read(end - time.monotonic()))
        return result

    def expect_closed(self, deadline_s=None):
        """Messages up to the end of the connection."""
        result = []
        try:
            while True:
                result.append(self.read(deadline_s))
        except Closed:
            return result

    def silent(self, for_s=0.2):
        """True if nothing comes for that long."""
        try:
            self._fill(time.monotonic() + for_s)
        except Deadline:
            return not self.inbox
        return False

    # Login
    def ssl_request(self):
        """The answer, b'S' or b'N'."""
        self.send(struct.pack("!II", 8, SSL_REQUEST))
        return self.read_bytes(1)

    def start_tls(self, ca_file=None):
        assert self.ssl_request() == b"S"
        assert not self.inbox, "bytes after the answer to SSLRequest"
        context = ssl.create_default_context(cafile=ca_file)
        if ca_file is None:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.sock = context.wrap_socket(self.sock, server_hostname="localhost")

    def login(self, user, database=None, password=None, protocol=PROTOCOL_3_0, **params):
        """Startup and authentication up to ReadyForQuery; PgError if refused."""
        self.send(startup(user, database, protocol, **params))
        scram = None
        while True:
            m = self.read()
            if m.type == "E":
                raise PgError(m)
            if m.type == "K":
                self.key = m.body
            elif m.type == "Z":
                return self
            elif m.type == "R":
                kind, rest = struct.unpack_from("!I", m.body)[0], m.body[4:]
                if kind == 3:
                    self.send(message("p", cstr(password)))
                elif kind == 5:
                    inner = hashlib.md5((password + user).encode()).hexdigest()
                    self.send(message("p", cstr("md5" + hashlib.md5(inner.encode() + rest).hexdigest())))
                elif kind == 10:
                    assert b"SCRAM-SHA-256\0" in rest
                    scram = Scram(password)
                    first = scram.first()
                    self.send(message("p", cstr("SCRAM-SHA-256") + struct.pack("!I", len(first)) + first))
                elif kind == 11:
                    self.send(message("p", scram.final(rest)))
                elif kind == 12:
                    scram.check(rest)
                else:
                    assert kind == 0, f"authentication request {kind}"

    # Convenience
    def query(self, sql, deadline_s=None):
        """Simple query; all messages up to ReadyForQuery."""
        self.send(query(sql))
        return self.read_until("Z", deadline_s)

    def rows(self, sql, deadline_s=None):
        """Simple query; the rows as lists of text. PgError if it failed."""
        messages = self.query(sql, deadline_s)
        for m in messages:
            if m.type == "E":
                raise PgError(m)
        return [[None if c is None else c.decode() for c in m.row()] for m in messages if m.type == "D"]

    def cancel(self):
        """Sends a CancelRequest with our key over a connection of its own; returns when that was closed."""
        with RawPg(self.address[1], self.address[0], self.deadline_s) as other:
            other.send(struct.pack("!II", 8 + len(self.key), CANCEL_REQUEST) + self.key)
            assert other.expect_closed() == []

    def terminate(self):
        self.send(terminate())
        self.close()

    def close(self):
        self.sock.close()

    def reset(self):
        """Ends the connection by RST, as a crashed client's kernel would."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Scram:
    """The client's side of SCRAM-SHA-256, for passwords in ASCII."""

    def __init__(self, password):
        self.password = password.encode()
        self.bare = b"n=,r=" + base64.b64encode(os.urandom(18))

    def first(self):
        return b"n,," + self.bare

    def final(self, server_first):
        nonce, salt, rounds = (part[2:] for part in server_first.split(b","))
        assert nonce.startswith(self.bare[5:]) and len(nonce) > len(self.bare) - 5
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(salt), int(rounds))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = b"c=biws,r=" + nonce
        signed = b",".join([self.bare, server_first, without_proof])
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        self.server_signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        return without_proof + b",p=" + base64.b64encode(proof)

    def check(self, server_final):
        assert server_final == b"v=" + base64.b64encode(self.server_signature), "the server's proof is wrong"
