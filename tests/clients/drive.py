"""What the Python programs of `make test-clients` share; README.md says how they talk with matrix.py."""
import json
import sys
import threading
import traceback

PORT = int(sys.argv[1])
WHERE = {"host": "127.0.0.1", "port": PORT, "user": "app_scram", "password": "secret"}
TEXT = "It's \"ü\" \\ 😀"
SELECT_SUM = "SELECT coalesce(sum(id), 0)::int FROM t"


class Skip(Exception):
    """The driver cannot do it; the text says why."""


def tell(**answer):
    print(json.dumps(answer, ensure_ascii=False), flush=True)


def await_running(marker):
    """Until a statement with this marker runs on a node."""
    tell(**{"await": marker})
    sys.stdin.readline()


def kill_when_running(marker):
    """The server that will run a statement with this marker will be terminated."""
    tell(kill=marker)


def kept():
    """(client, statement, whether it shows a value) of the scenario "kept"."""
    with open("kept.sql") as lines:
        for line in lines:
            who, sql = line.rstrip("\n").split(" ", 1)
            yield who, sql, sql.split()[0] in ("SELECT", "FETCH", "EXECUTE")


def same(times, ask):
    """The one answer that ask() gave every time, or all of them."""
    answers = [ask() for _ in range(times)]
    return answers[0] if all(a == answers[0] for a in answers) else answers


def in_thread(work):
    """Starts work(); returns a function that waits for its result."""
    result = []

    def run():
        try:
            result.append(work())
        except Exception as e:  # noqa: BLE001: the scenario shall see it
            result.append(e)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def join():
        thread.join()
        if isinstance(result[0], Exception):
            raise result[0]
        return result[0]
    return join


def code(error):
    """An error as a scenario notes it: its SQLSTATE; of a connection that was refused or lost, what the text says."""
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    text = str(error)
    if state in ("57P01", "08003", "08006", "08007"):
        return "lost"
    if state:
        return state
    for known, what in (("password authentication failed", "28P01"), ("unrecognized configuration parameter", "42704"),
                        ("terminating connection due to administrator", "lost"), ("server closed the connection", "lost"),
                        ("connection was closed", "lost"), ("connection is lost", "lost")):
        if known in text:
            return what
    return f"{type(error).__name__}: {text}"


def run(scenarios, call=lambda scenario: scenario()):
    """Reads names of scenarios from standard input; scenarios is the program's globals()."""
    for name in sys.stdin:
        try:
            tell(seen=call(scenarios["scenario_" + name.strip()]))
        except Skip as e:
            tell(skip=str(e))
        except Exception as e:  # noqa: BLE001
            traceback.print_exc()
            tell(error=f"{code(e)} {str(e).strip()}"[:500])
