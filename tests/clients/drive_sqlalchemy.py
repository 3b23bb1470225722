"""SQLAlchemy as it comes: Core over its default driver and pool, every connection of it in a transaction by itself.

What SQLAlchemy hands through to psycopg2 (COPY, LISTEN, cancel) is taken from the connection that its pool gave."""
import io
import select

import drive
from drive import SELECT_SUM, TEXT, Skip, await_running, in_thread, kept, kill_when_running, run, same
from sqlalchemy import bindparam, create_engine, exc, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Boolean, Float, Integer, LargeBinary, Text


opened = []


def engine(password="secret", **more):
    opened.append(create_engine(f"postgresql+psycopg2://app_scram:{password}@127.0.0.1:{drive.PORT}/app", **more))
    return opened[-1]


def code(error):
    return drive.code(getattr(error, "orig", error))


def ask(eng, sql, autocommit=False, **values):
    """One transaction with one statement; its row, its one value, or how many rows it changed."""
    with eng.connect().execution_options(isolation_level="AUTOCOMMIT") if autocommit else eng.begin() as db:
        return step(db, sql, **values)


def step(db, sql, **values):
    result = db.execute(text(sql), values)
    if not result.returns_rows:
        return result.rowcount
    row = result.fetchone()
    return row[0] if len(row) == 1 else list(row)


def fails(eng, sql, **values):
    try:
        return ask(eng, sql, **values)
    except exc.DBAPIError as e:
        return code(e)


def refused(**more):
    return fails(engine(**more), "SELECT 1")


def scenario_login():
    return [*ask(engine(), "SELECT current_user, current_database()"), refused(password="wrong")]


def scenario_startup():
    db = engine(connect_args={"options": "-c work_mem=9MB", "application_name": "drive"})
    return [ask(db, "SHOW work_mem"), same(10, lambda: ask(db, "SHOW work_mem")), ask(db, "SHOW application_name"),
            refused(connect_args={"options": "-c nosuch=1"})]


def scenario_clients():
    clients = [engine() for _ in range(4)]
    return [same(5, lambda: ask(db, "SELECT CAST(:n AS int)", n=n)) for n, db in enumerate(clients)]


def scenario_settings():
    clients = [engine() for _ in range(4)]  # each pool keeps its one connection
    for n, db in enumerate(clients):
        ask(db, f"SET work_mem = '{n + 5}MB'")
    return same(5, lambda: [ask(db, "SHOW work_mem") for db in clients])


def scenario_simple():
    eng = engine()
    seen = [ask(eng, "SELECT 1 + 1"), ask(eng, "INSERT INTO t VALUES (1, 'one')")]
    with eng.connect() as db, db.begin() as transaction:
        step(db, "INSERT INTO t VALUES (2, 'two')")
        transaction.rollback()
    seen.append(fails(eng, "SELECT * FROM nowhere"))
    with eng.begin() as db:
        step(db, "INSERT INTO t VALUES (3, 'three')")
        try:
            with db.begin_nested():
                step(db, "INSERT INTO t VALUES (1, 'again')")
        except exc.DBAPIError as e:
            seen.append(code(e))
    with eng.begin() as db:
        return [*seen, [list(row) for row in db.execute(text("SELECT id, note FROM t ORDER BY id"))]]


def scenario_extended():
    eng = engine()
    values = [("a", 7, Integer), ("b", TEXT, Text), ("c", None, Text), ("d", True, Boolean), ("e", 1.5, Float),
              ("f", b"\0\xff'", LargeBinary), ("g", [1, 2, 3], ARRAY(Integer))]
    statement = text("SELECT :a, :b, :c, :d, CAST(:e AS float8), :f, :g").bindparams(
        *[bindparam(name, value, kind) for name, value, kind in values])
    with eng.begin() as db:
        row = list(db.execute(statement).fetchone())
    row[5] = bytes(row[5]).hex()
    return [row, ask(eng, "INSERT INTO t VALUES (:id, :note) RETURNING id", id=5, note=TEXT), fails(eng, "SELECT 1 / :n", n=0),
            ask(eng, "SELECT CAST(:n AS int)", n=8)]


def scenario_named():
    raise Skip("its psycopg2 prepares nothing")


def scenario_pipeline():
    """executemany(), which goes out as several statements in one Query each."""
    eng = engine()
    rows = [{"id": n} for n in (1, 2, 1, 3)]
    try:
        with eng.begin() as db:
            db.execute(text("INSERT INTO t VALUES (:id, 'x')"), rows)
        seen = ["no error"]
    except exc.DBAPIError as e:
        seen = [code(e)]
    with eng.begin() as db:
        db.execute(text("INSERT INTO t VALUES (:id, 'x')"), [{"id": n} for n in range(1, 101)])
    return [*seen, ask(eng, SELECT_SUM)]


def scenario_copy():
    eng = engine()

    def copy(sql, file):
        raw = eng.raw_connection()
        try:
            with raw.cursor() as cursor:
                cursor.copy_expert(sql, file)
                raw.commit()
                return cursor.rowcount
        finally:
            raw.close()
    seen = [copy("COPY t FROM STDIN", io.StringIO("".join(f"{n}\trow\n" for n in range(1, 1001)))), ask(eng, SELECT_SUM)]
    out = io.StringIO()
    copy("COPY t TO STDOUT", out)
    seen.append(len(out.getvalue().splitlines()))
    try:
        copy("COPY t FROM STDIN", io.StringIO("2000\tok\nbad\tx\n" + "3000\tx\n" * 5000))
    except Exception as e:  # noqa: BLE001: psycopg2's own, unwrapped
        seen.append(code(e))
    return [*seen, ask(eng, "SELECT count(*) FROM t")]


def scenario_listen():
    eng, other = engine(isolation_level="AUTOCOMMIT"), engine()
    db = eng.raw_connection()
    raw = db.connection

    def heard():
        raw.poll()
        if not raw.notifies and select.select([raw], [], [], 5)[0]:
            raw.poll()
        return raw.notifies.pop(0).payload if raw.notifies else None
    with raw.cursor() as cursor:
        cursor.execute("LISTEN news")
        ask(other, "NOTIFY news, 'one'")
        seen = [heard()]
        for n in range(10):
            cursor.execute("INSERT INTO t VALUES (%s)", (n,))
        ask(other, "NOTIFY news, 'two'")
        seen.append(heard())
        with other.connect() as rolled_back:
            step(rolled_back, "NOTIFY news, 'three'")
        cursor.execute("NOTIFY news, 'four'")
        seen.append(heard())
        cursor.execute("UNLISTEN news")
    db.close()
    return seen


def scenario_cursor():
    eng = engine()
    with eng.begin() as db:
        part = db.execution_options(stream_results=True, max_row_buffer=100).execute(text("SELECT n FROM big ORDER BY n"))
        total = 0
        for _ in range(10):
            total += sum(n for n, in part.fetchmany(100))
            db.exec_driver_sql("SELECT 1").close()
        part.close()
    with eng.connect() as db:
        rows = db.execution_options(yield_per=100).execute(text("SELECT n FROM big ORDER BY n"))
        everything = sum(n for n, in rows)
    return [total, everything, ask(eng, "SELECT 1 + 1")]


def scenario_cancel():
    eng, seen = engine(), []
    for n in range(2):
        with eng.connect() as db:
            def nap():
                try:
                    step(db, f"SELECT pg_sleep(30) /* cancel-me-{n} */")
                except exc.DBAPIError as e:
                    return code(e)
            join = in_thread(nap)
            await_running(f"cancel-me-{n}")
            db.connection.connection.cancel()
            seen.append(join())
        seen.append(ask(eng, "SELECT 1"))
    return seen


def scenario_set():
    eng = engine()

    def show():
        return ask(eng, "SHOW work_mem")
    ask(eng, "SET work_mem = '7MB'")
    seen = [same(10, show)]
    ask(eng, "SET search_path = extra, public")
    seen.append(same(5, lambda: ask(eng, "SELECT note FROM only_extra")))
    with eng.connect() as db:
        step(db, "SET work_mem = '8MB'")
    seen.append(same(5, show))
    with eng.begin() as db:
        step(db, "SET LOCAL work_mem = '6MB'")
        seen.append(step(db, "SHOW work_mem"))
    seen.append(same(5, show))
    ask(eng, "SET TIME ZONE 'Asia/Tokyo'")
    seen.append(same(5, lambda: ask(eng, r"SELECT to_char(timestamptz '2020-01-01 00\:00+00', 'HH24')")))
    ask(eng, "SET ROLE app")
    seen.append(same(5, lambda: ask(eng, "SELECT current_user")))
    ask(eng, "RESET ROLE")
    seen += [same(5, lambda: ask(eng, "SELECT current_user")), fails(eng, "SET work_mem = 'nonsense'")]
    ask(eng, "RESET work_mem")
    seen.append(same(5, show))
    ask(eng, "RESET search_path")
    seen.append(same(5, lambda: fails(eng, "SELECT note FROM only_extra")))
    ask(eng, "SELECT set_config(:name, :value, false)", name="work_mem", value="5MB")
    return [*seen, same(5, show)]


def scenario_kept():
    clients = {"one": engine(), "two": engine()}
    seen = [(ask(clients[who], sql), shows) for who, sql, shows in kept()]
    return [value for value, shows in seen if shows]


def scenario_large():
    eng, big = engine(), "ü234567" * 1_000_000  # 8 MB of UTF-8
    sent = ask(eng, "SELECT octet_length(:big)", big=big)
    ask(eng, "INSERT INTO t VALUES (1, :big)", big=big)
    back = ask(eng, "SELECT note FROM t")
    with eng.begin() as db:
        rows = db.execute(text("SELECT repeat('x', 2000) FROM generate_series(1, 2000)")).fetchall()
    return [sent, len(back.encode()), len(rows), sum(len(x) for x, in rows)]


def scenario_readonly():
    eng, other = engine(), engine()

    def reader(**more):
        return eng.connect().execution_options(postgresql_readonly=True, **more)
    with reader() as db:
        seen = [step(db, "SELECT count(*) FROM t")]
        try:
            step(db, "INSERT INTO t VALUES (1)")
        except exc.DBAPIError as e:
            seen.append(code(e))
    ask(eng, "INSERT INTO t VALUES (1)")
    seen.append(ask(eng, "SELECT count(*) FROM t"))
    with reader(isolation_level="REPEATABLE READ") as db:
        seen.append(step(db, "SELECT count(*) FROM t"))
        ask(other, "INSERT INTO t VALUES (2)")
        seen.append(step(db, "SELECT count(*) FROM t"))
    ask(eng, "INSERT INTO t VALUES (3)")
    return [*seen, ask(eng, "SELECT count(*) FROM t")]


def scenario_ddl():
    eng, other = engine(), engine()
    ask(eng, "CREATE TABLE ddl_t (a int)")
    ask(eng, "INSERT INTO ddl_t VALUES (1)")

    def look():
        return fails(eng, "SELECT * FROM ddl_t")
    seen = [same(7, look)]
    for n, change in enumerate(["ALTER TABLE ddl_t ADD b int DEFAULT 2",
                                "DROP TABLE ddl_t; CREATE TABLE ddl_t (a text); INSERT INTO ddl_t VALUES ('x')"]):
        ask(other, change)
        ask(eng, "INSERT INTO t VALUES (:n)", n=n)  # what is read from now on is not older than the change
        seen += [look(), look(), look()]
    return seen


def scenario_killed():
    """The same pool goes on: SQLAlchemy sees that the connection is gone."""
    eng = engine()
    kill_when_running("kill-me")
    seen = []
    try:
        with eng.begin() as db:
            step(db, "INSERT INTO t VALUES (1)")
            step(db, "SELECT pg_sleep(30) /* kill-me */")
    except exc.DBAPIError as e:
        seen = [code(e) if e.connection_invalidated else "the pool keeps the connection"]
    return [*seen, ask(eng, "SELECT count(*) FROM t"), ask(eng, "INSERT INTO t VALUES (2)")]


def closing(scenario):
    try:
        return scenario()
    finally:
        while opened:
            opened.pop().dispose()


run(globals(), call=closing)
