"""Scripts of protocol messages, run against PostgreSQL itself and against pgweir: the answers must be the same.

A script is a list of steps; a step is bytes, or (bytes, until): the type(s) of message that end what is read after it.
A step of bytes ends with one ReadyForQuery per Sync, Query and FunctionCall in it.
"""
import struct
import time

from rawpg import PgError, RawPg


def heads(data):
    """(type, body) of each message in these bytes."""
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from("!I", data, at + 1)
        yield chr(data[at]), data[at + 5:at + 1 + size]
        at += 1 + size


def ready_count(data):
    return sum(kind in "QSF" for kind, _ in heads(data))


def at_once(client, data):
    client.send(data)


def byte_by_byte(client, data):
    for i in range(len(data)):
        client.send(data[i:i + 1])


class split_at:
    """Each step's bytes in two parts, the first of this size (from the end if negative)."""

    def __init__(self, at):
        self.at = at

    def __call__(self, client, data):
        client.send(data[:self.at])
        time.sleep(0.0005)  # so that they are received apart; nothing hangs on it
        client.send(data[self.at:])


def plain(message):
    """What must be equal: of errors and notices severity, code, text and position; else all bytes."""
    if message.type in "EN":
        fields = message.fields()
        return message.type, {k: fields.get(k) for k in "SCMDHP"}
    return message.type, message.body


def run(client, script, send=at_once, between=None):
    """What was answered, step by step. between() runs before each step."""
    result = []
    for step in script:
        data, until = step if isinstance(step, tuple) else (step, "Z" * ready_count(step))
        if between:
            between()
        send(client, data)
        answers = []
        for last in until if isinstance(until, list) else [*until]:
            answers += client.read_until(last)
        result.append([plain(m) for m in answers if m.type != "S"])
    return result


def login(port, user="app_scram", **more):
    return RawPg(port).login(user, "app", "secret", **more)


def same_as_postgres(cluster, weir, script, send=at_once, between=None):
    """Runs the script on both; fails at the first step that differs. The answers of pgweir."""
    with login(cluster.ports["primary"]) as c:
        expected = run(c, script)
    with login(weir.port) as c:
        got = run(c, script, send, between)
    for i, (e, g) in enumerate(zip(expected, got)):
        assert g == e, f"step {i} {script[i]!r:.200}\n   got {g!r:.600}\n   not {e!r:.600}"
    return got


def error_of(messages):
    """The one ErrorResponse among these, as an exception."""
    (error,) = [m for m in messages if m.type == "E"]
    return PgError(error)


def types(messages):
    return "".join(m.type for m in messages)
