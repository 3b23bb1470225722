"""Django with the settings of startproject: autocommit, psycopg2, server-side cursors left on.

Each alias of DATABASES is a client. The ORM where it has a word for it, else its cursor."""
import io
import select

import django
import drive
import psycopg2
from django.conf import settings
from drive import SELECT_SUM, TEXT, Skip, await_running, in_thread, kept, kill_when_running, run, same


def database(**more):
    return {"ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": drive.PORT, "NAME": "app",
            "USER": "app_scram", "PASSWORD": "secret", **more}


settings.configure(
    DATABASES={"default": database(), "other": database(), "third": database(), "fourth": database(),
               "wrong": database(PASSWORD="wrong"),
               "options": database(OPTIONS={"options": "-c work_mem=9MB", "application_name": "drive"}),
               "nosuch": database(OPTIONS={"options": "-c nosuch=1"})},
    USE_TZ=True, TIME_ZONE="UTC", SECRET_KEY="only a test", DEFAULT_AUTO_FIELD="django.db.models.AutoField")
django.setup()

from django.contrib.postgres.fields import ArrayField  # noqa: E402
from django.db import DatabaseError, InterfaceError, connections, models, transaction  # noqa: E402
from django.db.models import Sum, Value  # noqa: E402


class Row(models.Model):
    id = models.IntegerField(primary_key=True)
    note = models.TextField(null=True)

    class Meta:
        app_label, db_table = "drive", "t"


class Big(models.Model):
    n = models.IntegerField(primary_key=True)

    class Meta:
        app_label, db_table = "drive", "big"


def code(error):
    return drive.code(error.__cause__ or error)


def ask(sql, values=None, using="default"):
    with connections[using].cursor() as cursor:
        cursor.execute(sql, values)
        if not cursor.description:
            return cursor.rowcount
        row = cursor.fetchone()
        return row[0] if len(row) == 1 else list(row)


def fails(work, *values, **more):
    try:
        return work(*values, **more)
    except (DatabaseError, InterfaceError) as e:
        return code(e)


def scenario_login():
    return [*ask("SELECT current_user, current_database()"), fails(ask, "SELECT 1", using="wrong")]


def scenario_startup():
    def show():
        return ask("SHOW work_mem", using="options")
    return [show(), same(10, show), ask("SHOW application_name", using="options"), fails(ask, "SELECT 1", using="nosuch")]


CLIENTS = ["default", "other", "third", "fourth"]


def scenario_clients():
    return [same(5, lambda: ask("SELECT %s", (n,), using=name)) for n, name in enumerate(CLIENTS)]


def scenario_settings():
    for n, name in enumerate(CLIENTS):
        ask(f"SET work_mem = '{n + 5}MB'", using=name)
    return same(5, lambda: [ask("SHOW work_mem", using=name) for name in CLIENTS])


def scenario_simple():
    seen = [ask("SELECT 1 + 1"), ask("INSERT INTO t VALUES (1, 'one')")]
    with transaction.atomic():
        Row.objects.create(id=2, note="two")
        transaction.set_rollback(True)
    seen.append(fails(ask, "SELECT * FROM nowhere"))
    with transaction.atomic():
        Row.objects.create(id=3, note="three")
        try:
            with transaction.atomic():  # a savepoint
                Row.objects.create(id=1, note="again")
        except DatabaseError as e:
            seen.append(code(e))
    return [*seen, [list(row) for row in Row.objects.order_by("id").values_list("id", "note")]]


def scenario_extended():
    Row.objects.create(id=4)
    kinds = [Value(7), Value(TEXT, models.TextField()), Value(None, models.TextField()), Value(True), Value(1.5),
             Value(b"\0\xff'", models.BinaryField()), Value([1, 2, 3], ArrayField(models.IntegerField()))]
    row = list(Row.objects.annotate(**{f"v{n}": v for n, v in enumerate(kinds)}).values_list(*[f"v{n}" for n in range(7)])[0])
    row[5] = bytes(row[5]).hex()
    return [row, Row.objects.create(id=5, note=TEXT).pk, fails(ask, "SELECT 1 / %s", (0,)), ask("SELECT %s", (8,))]


def scenario_named():
    raise Skip("its psycopg2 prepares nothing")


def scenario_pipeline():
    """bulk_create() in batches, one of which fails."""
    seen = [fails(Row.objects.bulk_create, [Row(id=n) for n in (1, 2, 3, 1)], batch_size=2)]
    Row.objects.bulk_create([Row(id=n) for n in range(1, 101)], batch_size=10)
    return [*seen, Row.objects.aggregate(total=Sum("id"))["total"]]


def scenario_copy():
    def copy(sql, file):
        with connections["default"].cursor() as cursor:
            cursor.copy_expert(sql, file)
            return cursor.rowcount
    seen = [copy("COPY t FROM STDIN", io.StringIO("".join(f"{n}\trow\n" for n in range(1, 1001)))), ask(SELECT_SUM)]
    out = io.StringIO()
    copy("COPY t TO STDOUT", out)
    seen.append(len(out.getvalue().splitlines()))
    try:
        copy("COPY t FROM STDIN", io.StringIO("2000\tok\nbad\tx\n" + "3000\tx\n" * 5000))
    except psycopg2.Error as e:  # Django does not wrap what is not a cursor's own
        seen.append(drive.code(e))
    return [*seen, Row.objects.count()]


def scenario_listen():
    ask("LISTEN news")
    raw = connections["default"].connection

    def heard():
        raw.poll()
        if not raw.notifies and select.select([raw], [], [], 5)[0]:
            raw.poll()
        return raw.notifies.pop(0).payload if raw.notifies else None
    ask("NOTIFY news, 'one'", using="other")
    seen = [heard()]
    for n in range(10):
        Row.objects.create(id=n)
    ask("NOTIFY news, 'two'", using="other")
    seen.append(heard())
    with transaction.atomic(using="other"):
        ask("NOTIFY news, 'three'", using="other")
        transaction.set_rollback(True, using="other")
    ask("NOTIFY news, 'four'")
    seen.append(heard())
    ask("UNLISTEN news")
    return seen


def scenario_cursor():
    """iterator() outside a transaction is DECLARE ... WITH HOLD; other requests of the connection come in between."""
    numbers = Big.objects.order_by("n").values_list("n", flat=True)
    part, total = numbers.iterator(chunk_size=100), 0
    for n in range(1000):
        total += next(part)
        if n % 100 == 50:
            ask("SELECT 1")
    part.close()
    with transaction.atomic():
        everything = sum(numbers.iterator(chunk_size=100))
    return [total, everything, ask("SELECT 1 + 1")]


def scenario_cancel():
    ask("SELECT 1")
    seen, db = [], connections["default"]
    db.inc_thread_sharing()
    for n in range(2):
        def nap():
            with db.cursor() as cursor:
                cursor.execute(f"SELECT pg_sleep(30) /* cancel-me-{n} */")
        join = in_thread(lambda: fails(nap))
        await_running(f"cancel-me-{n}")
        db.connection.cancel()
        seen += [join(), ask("SELECT 1")]
    db.dec_thread_sharing()
    return seen


def scenario_set():
    def show():
        return ask("SHOW work_mem")
    ask("SET work_mem = '7MB'")
    seen = [same(10, show)]
    ask("SET search_path = extra, public")
    seen.append(same(5, lambda: ask("SELECT note FROM only_extra")))
    with transaction.atomic():
        ask("SET work_mem = '8MB'")
        transaction.set_rollback(True)
    seen.append(same(5, show))
    with transaction.atomic():
        ask("SET LOCAL work_mem = '6MB'")
        seen.append(show())
    seen.append(same(5, show))
    ask("SET TIME ZONE 'Asia/Tokyo'")
    seen.append(same(5, lambda: ask("SELECT to_char(timestamptz '2020-01-01 00:00+00', 'HH24')")))
    ask("SET ROLE app")
    seen.append(same(5, lambda: ask("SELECT current_user")))
    ask("RESET ROLE")
    seen += [same(5, lambda: ask("SELECT current_user")), fails(ask, "SET work_mem = 'nonsense'")]
    ask("RESET work_mem")
    seen.append(same(5, show))
    ask("RESET search_path")
    seen.append(same(5, lambda: fails(ask, "SELECT note FROM only_extra")))
    ask("SELECT set_config(%s, %s, false)", ("work_mem", "5MB"))
    return [*seen, same(5, show)]


def scenario_kept():
    seen = [(ask(sql, using={"one": "default", "two": "other"}[who]), shows) for who, sql, shows in kept()]
    return [value for value, shows in seen if shows]


def scenario_large():
    big = "ü234567" * 1_000_000  # 8 MB of UTF-8
    sent = ask("SELECT octet_length(%s)", (big,))
    Row.objects.create(id=1, note=big)
    back = Row.objects.get(id=1).note
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT repeat('x', 2000) FROM generate_series(1, 2000)")
        rows = cursor.fetchall()
    return [sent, len(back.encode()), len(rows), sum(len(x) for x, in rows)]


def scenario_readonly():
    with transaction.atomic():
        ask("SET TRANSACTION READ ONLY")
        seen = [Row.objects.count()]
        try:
            with transaction.atomic():
                Row.objects.create(id=1)
        except DatabaseError as e:
            seen.append(code(e))
    Row.objects.create(id=1)
    seen.append(Row.objects.count())
    with transaction.atomic():
        ask("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        seen.append(Row.objects.count())
        Row.objects.using("other").create(id=2)
        seen.append(Row.objects.count())
    Row.objects.create(id=3)
    return [*seen, Row.objects.count()]


def scenario_ddl():
    ask("CREATE TABLE ddl_t (a int)")
    ask("INSERT INTO ddl_t VALUES (1)")

    def look():
        return fails(ask, "SELECT * FROM ddl_t")
    seen = [same(7, look)]
    for n, change in enumerate(["ALTER TABLE ddl_t ADD b int DEFAULT 2",
                                "DROP TABLE ddl_t; CREATE TABLE ddl_t (a text); INSERT INTO ddl_t VALUES ('x')"]):
        ask(change, using="other")
        Row.objects.create(id=n)  # what is read from now on is not older than the change
        seen += [look(), look(), look()]
    return seen


def scenario_killed():
    kill_when_running("kill-me")
    seen = []
    try:
        with transaction.atomic():
            Row.objects.create(id=1)
            ask("SELECT pg_sleep(30) /* kill-me */")
    except (DatabaseError, InterfaceError) as e:
        seen = [code(e) if "connection already closed" not in str(e) else "lost"]
    connections["default"].close_if_unusable_or_obsolete()  # as at the end of a request
    return [*seen, Row.objects.count(), ask("INSERT INTO t VALUES (2)")]


def fresh(scenario):
    """Each scenario with new connections, as after a restart."""
    connections.close_all()
    try:
        return scenario()
    finally:
        connections.close_all()


run(globals(), call=fresh)
