"""What a sequence is made of. An Op is one message; its repr() is the Python that makes it, so that a finding can be
pasted into cases.py as it was printed.

    Sequence(start={"TimeZone": "UTC"}, steps=[step(P("s", "SELECT 1"), S()), other("NOTIFY n"), step(Q("BEGIN"))])
"""
import struct


def cstr(text):
    return (text if isinstance(text, bytes) else text.encode()) + b"\0"


class Op:
    """One message of the client: kind is its type (or "?" for bytes as they are), args what its maker was told."""
    __slots__ = ("kind", "asks", "args", "data")  # asks: whose answer it gets

    def __init__(self, kind, args, body, head=True):
        self.kind = self.asks = kind
        self.args = args
        self.data = kind.encode() + struct.pack("!I", len(body) + 4) + body if head else body

    def __repr__(self):
        name = {"?": "raw", "d": "data", "c": "done", "f": "fail"}.get(self.kind, self.kind)
        return f"{name}({', '.join(map(repr, self.args))})"

    def sql(self):
        """The SQL in it, or nothing."""
        return self.args[{"Q": 0, "P": 1}[self.kind]] if self.kind in "QP" else ""


def trimmed(*args):
    """Without empty arguments at the end."""
    args = [*args]
    while args and args[-1] in ((), [], "", 0):
        args.pop()
    return tuple(args)


def Q(sql):
    return Op("Q", (sql,), cstr(sql))


def P(name, sql, types=()):
    return Op("P", (name, sql, *trimmed(types)), cstr(name) + cstr(sql) + struct.pack(f"!H{len(types)}I", len(types), *types))


def B(portal="", name="", values=(), formats=(), results=()):
    body = [cstr(portal), cstr(name), struct.pack(f"!H{len(formats)}H", len(formats), *formats), struct.pack("!H", len(values))]
    for v in values:
        v = v.encode() if isinstance(v, str) else v
        body.append(struct.pack("!i", -1) if v is None else struct.pack("!i", len(v)) + v)
    body.append(struct.pack(f"!H{len(results)}H", len(results), *results))
    return Op("B", trimmed(portal, name, values, formats, results), b"".join(body))


def D(what, name=""):
    return Op("D", trimmed(what, name), what.encode() + cstr(name))


def E(portal="", rows=0):
    return Op("E", trimmed(portal, rows), cstr(portal) + struct.pack("!I", rows))


def C(what, name=""):
    return Op("C", trimmed(what, name), what.encode() + cstr(name))


def F(oid, values=(), formats=(), result=0):
    body = [struct.pack(f"!IH{len(formats)}H", oid, len(formats), *formats), struct.pack("!H", len(values))]
    for v in values:
        v = v.encode() if isinstance(v, str) else v
        body.append(struct.pack("!i", -1) if v is None else struct.pack("!i", len(v)) + v)
    return Op("F", (oid, *trimmed(values, formats, result)), b"".join(body) + struct.pack("!H", result))


def S():
    return Op("S", (), b"")


def H():
    return Op("H", (), b"")


def X():
    return Op("X", (), b"")


def data(row):
    return Op("d", (row,), row.encode() if isinstance(row, str) else row)


def done():
    return Op("c", (), b"")


def fail(why):
    return Op("f", (why,), cstr(why))


def raw(kind, body):
    """A message with any type and body, however wrong."""
    op = Op("?", (kind, body), b"", head=False)
    op.asks = kind if kind in "PBDECHSQFdcf" else "?"
    op.data = kind.encode("latin-1") + struct.pack("!I", len(body) + 4) + body
    return op


class Step(list):
    """Messages sent at once; then all that they make PostgreSQL answer is read. mark: how much that is depends on
    details (late messages of COPY), so that CopyFail, Sync and three empty Queries end it, whose answer is known."""

    def __init__(self, ops, mark=False):
        super().__init__(ops)
        self.mark = mark

    def __repr__(self):
        return f"step({', '.join(map(repr, self))}{', mark=True' if self.mark else ''})"

    def with_ops(self, ops):
        return Step(ops, self.mark)


def step(*ops, mark=False):
    return Step(ops, mark)


class other(str):
    """SQL that another session runs between two steps, straight at PostgreSQL, in both worlds."""

    def __repr__(self):
        return f"other({str.__repr__(self)})"


class Sequence:
    def __init__(self, steps, start=None):
        self.steps, self.start = steps, start or {}

    def __repr__(self):
        lines = "".join(f"\n    {s!r}," for s in self.steps)
        return f"Sequence([{lines}\n]{f', start={self.start!r}' if self.start else ''})"

    def texts(self):
        return [s if isinstance(s, other) else op.sql() for s in self.steps for op in ([None] if isinstance(s, other) else s)]

    def size(self):
        return sum(1 if isinstance(s, other) else len(s) for s in self.steps)
