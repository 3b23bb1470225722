"""Random scripts of messages: pgweir must answer as PostgreSQL does, with other clients in between.

PGWEIR_RANDOM_SCRIPTS=2000 for a long run; a failure tells its seed (PGWEIR_RANDOM_SEED).
"""
import os
import random

import pytest
from protocol import heads, login, run
from rawpg import bind, close, describe, execute, flush, parse, query, sync
from test_protocol import Disturber

COUNT = int(os.environ.get("PGWEIR_RANDOM_SCRIPTS", 90))
SEED = int(os.environ.get("PGWEIR_RANDOM_SEED", 0)) or random.randrange(1 << 30)
TEXTS = ["SELECT 1", "SELECT 2", "SELECT $1::int", "SELECT $1::text || 'x'", "SELECT 1/0", "SELEC", "", "BEGIN", "COMMIT", "ROLLBACK",
         "SELECT n FROM generate_series(1, 4) n", "SELECT 1/(n - 3) FROM generate_series(1, 4) n", "SELECT wrong", "SAVEPOINT p",
         "ROLLBACK TO p", "DEALLOCATE ALL", "DISCARD ALL", "SHOW search_path", "SELECT $1::int + $2::int", "SELECT nope()",
         "COPY (SELECT 1) TO STDOUT", "SELECT 1; SELECT 2", "DO $$ BEGIN RAISE NOTICE 'n'; END $$", "DECLARE c CURSOR FOR SELECT 1",
         "FETCH c", "SET LOCAL work_mem = '5MB'", "VALUES (1), (2)"]


def random_message(r):
    name, portal = r.choice(["", "", "s", "t", "u"]), r.choice(["", "", "", "p", "q"])
    kind = r.choice("PPPBBBBEEEEDDC")
    if kind == "P":
        return parse(name, r.choice(TEXTS), r.choice([(), (), (23,)]))
    if kind == "B":
        return bind(portal, name, [r.randrange(9) for _ in range(r.choice([0, 0, 1, 2]))])
    if kind == "E":
        return execute(portal, r.choice([0, 0, 0, 2]))
    if kind == "D":
        return describe("S", name) if r.random() < .5 else describe("P", portal)
    return close("S", name) if r.random() < .7 else close("P", portal)


def good_message(r):
    """What a driver would send: all that belongs together."""
    name, portal = r.choice(["", "s", "t", "u"]), r.choice(["", "", "p"])
    text = r.choice(TEXTS)
    values = [r.randrange(9) for _ in range(text.count("$") if "$$" not in text else 0)]
    return r.choice([parse(name, text) + describe("S", name), bind(portal, name, values) + execute(portal),
                     parse(name, text) + bind(portal, name, values) + describe("P", portal) + execute(portal),
                     close("S", name) + parse(name, text)])


def random_script(r):
    """Steps of bytes; each ends in a Query or a Sync. Now and then several of them go at once."""
    script = []
    for _ in range(r.randrange(3, 10)):
        step = b""
        for _ in range(r.choice([1, 1, 1, 2, 3])):
            if r.random() < .25:
                step += query(r.choice(TEXTS))
                continue
            for _ in range(r.randrange(1, 5)):
                step += random_message(r) if r.random() < .4 else good_message(r)
                if r.random() < .1:
                    step += flush()
            step += sync()
        script.append(step)
    return script


def shown(step):
    return "   " + " ".join(f"{kind}{body!r:.40}" for kind, body in heads(step))


def alike(got, expected):
    """Three differences are known, all in which of two errors is told: Bind with a wrong number of values says the
    statement's name, which is ours there; a Parse may have a used name and bad SQL; in a failed transaction the statement
    may have to be parsed again first."""
    if len(got) != len(expected):
        return False
    for g, e in zip(got, expected):
        if g[0] == e[0] == "E" and (g[1]["C"] in ("42P05", "25P02") or (g[1]["C"] == e[1]["C"] and '" requires ' in g[1]["M"])):
            continue
        if g != e:
            return False
    return True


@pytest.mark.deadline(60 + COUNT / 5)
@pytest.mark.parametrize("options", [{"workers": 1}, {"workers": 2, "max_prepared_statements": 2}, {"pool_mode": "session"}],
                         ids=["one", "two", "session"])
def test_random_scripts(cluster, pgweir, options):
    weir = pgweir(databases={"app": cluster.entry(["primary"])}, default_pool_size=4, log_connections=0, log_disconnections=0,
                  **options)
    for n in range(COUNT // 3):
        seed = SEED + n
        script = random_script(random.Random(seed))
        with login(cluster.ports["primary"]) as c:
            expected = run(c, script)
        with login(weir.port) as c, Disturber(weir.port) as disturber:
            try:
                got = run(c, script, between=disturber)
            except AssertionError as e:
                raise AssertionError(f"seed {seed}: {e!r}\n" + "\n".join(map(shown, script))) from None
        for i, (e, g) in enumerate(zip(expected, got)):
            if not alike(g, e):
                raise AssertionError(f"seed {seed} step {i}\n   got {g}\n   not {e}\n" + "\n".join(map(shown, script[:i + 1])))
