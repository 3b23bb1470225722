"""Named sequences ("replica: ..." only with --replicas): the faults P1-P18 of other poolers, and every difference that the random tester found, made small.
CAUSES names those that still differ; one that passes must leave the list."""
from ops import B, C, D, E, F, H, P, Q, S, Sequence, data, done, fail, other, raw, step

SERIES = "SELECT n FROM generate_series(1, 5) n"


def again(name="s1"):
    return step(B("", name), E(), S())


def still(key, held):
    """Another session finds the advisory lock held, or free."""
    return other(f"DO $$ BEGIN IF pg_try_advisory_xact_lock({key}) = {held} THEN RAISE 'not so'; END IF; END $$")


def many(count):
    parses = [P(f"n{n}", f"SELECT {n} AS x") for n in range(count)]
    uses = [step(B("", f"n{n}"), E(), S()) for n in [*range(count - 1, -1, -7), *range(0, count, 11)]]
    return [step(*parses, S()), *uses]


FAULTS = {
    "P1 a failed Parse leaves its name free": [
        step(P("s1", "SELEC"), S()), step(P("s1", "SELECT * FROM nowhere"), S()), step(P("s1", "SELECT 1"), B("", "s1"), E(), S()), again()],
    "P1 in one pipeline": [step(P("s1", "SELEC"), S(), P("s1", "SELECT 1"), S(), B("", "s1"), E(), S())],
    "P1 in a transaction": [
        step(Q("BEGIN")), step(P("s1", "SELECT 1/0"), B("", "s1"), E(), S()), step(P("s2", "SELECT 2"), S()), step(Q("ROLLBACK")),
        step(P("s2", "SELECT 2"), B("", "s2"), E(), S()), again()],
    "P2 DEALLOCATE ALL and Parse in one segment": [
        step(P("s1", "SELECT 1"), S()), step(P("", "DEALLOCATE ALL"), B(), E(), P("s1", "SELECT 2"), S()), again(), again()],
    "P2 DEALLOCATE ALL as Query, Parse right behind it": [
        step(P("s1", "SELECT 1"), S()), step(Q("DEALLOCATE ALL"), P("s1", "SELECT 2"), S()), again(), again()],
    "P2 DISCARD ALL and Parse in one pipeline": [step(P("s1", "SELECT 1"), S()), step(Q("DISCARD ALL"), P("s1", "SELECT 2"), S()), again()],
    "P3 Close and Parse heal a plan that DDL broke": [
        step(P("s1", "SELECT * FROM u"), S()), again(), again(), other("ALTER TABLE u ADD COLUMN d int DEFAULT 7"), again(), again(),
        step(C("S", "s1"), P("s1", "SELECT * FROM u"), D("S", "s1"), B("", "s1"), E(), S()), again(), again()],
    "P3 Close and Parse heal a described plan that DDL broke": [
        step(P("s1", "SELECT * FROM u"), D("S", "s1"), S()), again(), other("ALTER TABLE u ADD COLUMN d int DEFAULT 7"), again(), again(),
        step(C("S", "s1"), P("s1", "SELECT * FROM u"), D("S", "s1"), B("", "s1"), E(), S()), again(), again()],
    "P3 Parse of a text whose plan broke for another": ([step(P("s1", "SELECT * FROM u"), D("S", "s1"), S()), again(), again()], {}, [
        step(P("s1", "SELECT * FROM u"), D("S", "s1"), S()), again(), other("ALTER TABLE u ADD COLUMN d int DEFAULT 7"), again()]),
    "P3 another name for the same text is not broken": [
        step(P("s1", "SELECT * FROM u"), S()), again(), other("ALTER TABLE u DROP COLUMN b"), step(P("s2", "SELECT * FROM u"), S()), again("s2"), again("s2"), again()],
    "P4 Describe alone": [step(P("s1", "SELECT $1::int AS n"), S()), step(D("S", "s1"), S()), step(D("S", "s1"), S()), step(D("S", "s1"), H()), step(S())],
    "P5 the unnamed statement outlives a Sync": [step(P("", "SELECT $1::text"), S()), *[step(B("", "", ["v"]), E(), S())] * 3, step(D("S"), S())],
    "P5 but not a Query": [step(P("", "SELECT 1"), S()), step(Q("SELECT 2")), step(B(), E(), S())],
    "P5 over transactions": [step(P("", "SELECT 1"), S()), step(Q("BEGIN"), ), step(B(), E(), S()), step(Q("ROLLBACK"))],
    "P6 Describe behind Execute": [step(P("", SERIES), B(), E("", 2), D("P"), D("S"), S()), step(P("", SERIES), B(), E("", 2), H()), step(D("P"), H()), step(S())],
    "P7 a portal over Flushes": [step(P("", SERIES), B(), D("P"), H()), step(E("", 2), H()), step(E("", 2), H()), step(E("", 2), H()), step(C("P"), S())],
    "P7 with a named portal": [step(P("s1", SERIES), B("p1", "s1"), D("P", "p1"), H()), step(E("p1", 2), H()), step(E("p1"), S()), step(E("p1"), S())],
    "P8 answers stay in their order": [
        step(P("s1", "SELECT 1"), P("s2", "SELECT 'two', $1::int"), B("p1", "s1"), B("p2", "s2", ["7"]), D("P", "p2"), E("p2"), D("S", "s1"), E("p1"), S()),
        *[step(C("S", "s1"), B("p2", "s2", ["8"]), P("s1", "SELECT 1"), B("p1", "s1"), E("p2"), C("P", "p1"), D("S", "s2"), B("p1", "s1"), E("p1"), S())] * 2],
    "P9 like texts stay apart": many(300),
    "P9 two texts of one hash": [  # test_pool_pieces knows that they are
        step(P("s1", "SELECT 'statementNumber1'"), P("s2", "SELECT 'WdAvdZMwGdMrMhRX'"), S()), *[again(), again("s2")] * 2],
    "P10 40 000 parameters": [
        step(P("s1", f"SELECT array_length(ARRAY[{','.join(f'${n}' for n in range(1, 40001))}]::int[], 1)"), D("S", "s1"), S()),
        *[step(B("", "s1", ["1"] * 40000), E(), S())] * 2],
    "P10 40 000 types and formats": [
        step(P("s1", f"SELECT array_length(ARRAY[{','.join(f'${n}' for n in range(1, 40001))}], 1)", (23,) * 40000), D("S", "s1"), S()),
        *[step(B("", "s1", [b"\0\0\0\1"] * 40000, (1,) * 40000), E(), S())] * 2],
    "P11 a Parse that needs what its segment did": [
        step(P("", "CREATE TABLE made_t (n int)"), B(), E(), P("s1", "INSERT INTO made_t VALUES (1) RETURNING n"), B("", "s1"), E(), S()), again(),
        step(P("", "BEGIN"), B(), E(), P("s2", "SAVEPOINT p"), B("", "s2"), E(), S()), again("s2"), step(Q("ROLLBACK")), again("s2")],
    "P12 a prepared COMMIT": [
        step(P("b", "BEGIN"), P("c", "COMMIT"), P("i", "INSERT INTO t VALUES (20, 'x')"), S()), again("b"), again("i"), again("c"), again("b"), again("i"), again("c"),
        again("b"), step(Q("DELETE FROM t WHERE id = 20")), again("c"), step(Q("SELECT count(*) FROM t"))],
    "P13 one text with other types": [
        step(P("s1", "SELECT $1", (23,)), P("s2", "SELECT $1", (25,)), S()), step(D("S", "s1"), D("S", "s2"), S()),
        step(B("", "s1", ["5"]), D("P"), E(), B("", "s2", ["x"]), D("P"), E(), S()), step(B("", "s1", ["x"]), E(), S())],
    "P13 DDL changed what a text of another expects": ([
        step(P("s1", "SELECT b FROM u WHERE a = $1"), D("S", "s1"), S()), step(B("", "s1", ["one"]), E(), S()), step(B("", "s1", ["1"]), E(), S())], {}, [
        step(P("s1", "SELECT b FROM u WHERE a = $1"), S()), step(B("", "s1", ["1"]), E(), S()), other("ALTER TABLE u ALTER a TYPE text")]),
    "P13 DDL changes what a shared text expects": [
        step(P("s1", "SELECT b FROM u WHERE a = $1"), D("S", "s1"), S()), step(B("", "s1", ["1"]), E(), S()), other("ALTER TABLE u ALTER a TYPE text"),
        step(C("S", "s1"), P("s1", "SELECT b FROM u WHERE a = $1"), D("S", "s1"), S()), step(B("", "s1", ["one"]), E(), S()), step(B("", "s1", ["1"]), E(), S())],
    "P14 a long search_path": [
        step(Q("SET search_path = " + ", ".join(f'"schema {n:05}"' for n in range(150)) + ", public")), step(Q("SHOW search_path")), step(Q("SELECT count(*) FROM t"))],
    "P14 names that differ by case": [
        step(Q('SET search_path = "S1", public')), step(Q("SELECT count(*) FROM t")), step(Q("SET search_path = s1, public")), step(Q("SELECT * FROM t")),
        step(Q("SET application_name = 'ABC'")), step(Q("SET application_name = 'abc'")), step(Q("SHOW application_name"))],
    "P14 schemas that differ by case, each of another": ([
        step(Q("SET search_path = s1")), step(Q("SELECT * FROM t")), step(P("s1", "SELECT * FROM t"), S()), again(), step(Q('SET search_path = "S1"')),
        step(Q("SELECT * FROM t")), step(P("s2", "SELECT * FROM t"), S()), again("s2")], {}, [
        step(Q('SET search_path = "S1"')), step(P("s1", "SELECT * FROM t"), B("", "s1"), E(), S())]),
    "P14 a value of quotes": [step(Q(f"SET my.x = '{chr(39) * 400}'")), step(Q("SHOW my.x")), step(Q("SELECT length(current_setting('my.x'))"))],
    "P14 quotes and backslashes": [step(Q("SET application_name = 'it''s \\ \"x\" é'")), step(Q("SHOW application_name")), step(Q("SET my.x = E'a\\nb'''")), step(Q("SHOW my.x"))],
    "P15 many long settings": [
        *[step(Q(f"SET my.s{n} = '{str(n) * 300}'")) for n in range(8)], *[step(Q(f"SHOW my.s{n}")) for n in range(8)]],
    "P15 a statement whose table is gone": [step(P("s1", "SELECT * FROM u"), S()), again(), other("DROP TABLE u"), again(), again(), step(Q("SELECT 1"))],
    "P15 a statement that brings a notice": [step(P("s1", f"SELECT 1 AS {'x' * 80}"), S()), again(), again()],
    "P16 FROM CURRENT": [step(Q("SET work_mem = '5MB'")), step(Q("SET work_mem FROM CURRENT")), step(Q("SHOW work_mem"))],
    "P16 an interval as time zone": [
        step(Q("SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE")), step(Q("SELECT timestamptz '2020-01-01 00:00+00'")), step(Q("SHOW TimeZone"))],
    "P16 a number as time zone": [
        step(Q("SET TIME ZONE -7.5")), step(Q("SELECT timestamptz '2020-01-01 00:00+00'")), step(Q("SHOW TimeZone")), step(Q("SET TIME ZONE LOCAL")), step(Q("SHOW TimeZone"))],
    "P16 wrong SETs fail at once": [step(Q("SET nope = 1")), step(Q("SET TimeZone = 'nowhere'")), step(Q("SET work_mem = 'x'")), step(Q("SHOW TimeZone"))],
    "P16 ParameterStatus once": [step(Q("SET TimeZone = 'Asia/Tokyo'")), step(Q("SET TimeZone = 'Asia/Tokyo'")), step(Q("SELECT 1")), step(Q("RESET TimeZone")), step(Q("SELECT 1"))],
    "P16 NOTIFY with quotes, in transactions": [
        step(Q("LISTEN n")), step(Q("NOTIFY n, 'it''s \\'")), step(Q("BEGIN; NOTIFY n, 'never'")), step(Q("ROLLBACK")), step(Q("SELECT pg_notify('n', 'last')"))],
    "P17 a lock by an expression": [
        step(Q("SELECT pg_advisory_lock(hashtext('x'))")), step(Q("SELECT 1")), still("hashtext('x')", True), step(Q("SELECT pg_advisory_unlock(hashtext('x'))")),
        still("hashtext('x')", False)],
    "P17 a lock by a parameter": [
        step(P("s1", "SELECT pg_advisory_lock($1::int)"), S()), step(B("", "s1", ["5"]), E(), S()), step(Q("SELECT 1")), still(5, True), step(Q("SELECT pg_advisory_unlock(5)"))],
    "P17 a lock taken twice": [
        step(Q("SELECT pg_advisory_lock(1), pg_catalog.pg_advisory_lock(1)")), step(Q("SELECT pg_advisory_unlock(1)")), still(1, True), step(Q("SELECT pg_advisory_unlock(1)")),
        step(Q("SELECT pg_advisory_unlock(1)")), still(1, False)],
    "P17 locks with one first key": [
        step(Q("SELECT pg_advisory_lock(1, 1), pg_advisory_lock(1, 2)")), step(Q("SELECT pg_advisory_unlock(1, 1)")), still("1, 1", False), still("1, 2", True),
        step(Q("SELECT pg_advisory_unlock_all()")), still("1, 2", False)],
    "P17 locks that are tried": [
        step(P("s1", "SELECT pg_try_advisory_lock($1::bigint), pg_catalog.pg_try_advisory_lock_shared($1::bigint + 1)"), S()),
        *[step(B("", "s1", ["70"]), E(), S()), step(Q("SELECT 1")), still(70, True), still(71, True)] * 2,
        step(Q("SELECT pg_advisory_unlock(70), pg_advisory_unlock_shared(71)")), still(70, True), step(Q("SELECT pg_advisory_unlock_all()")), still(70, False), still(71, False)],
    "P17 shared and qualified": [
        step(Q("SELECT pg_catalog.pg_advisory_lock_shared(3)")), step(Q("SELECT 1")), still(3, True), step(Q("SELECT pg_advisory_unlock_shared(3)")), still(3, False)],
    "P17 a lock taken by a function": [step(Q("SELECT locks(6)")), still(6, True), step(Q("SELECT pg_advisory_unlock(6)")), still(6, False)],
    "P18 RESET of one keeps the others": [
        step(Q("SET work_mem = '5MB'")), step(Q("SET TimeZone = 'Asia/Tokyo'")), step(Q("RESET work_mem")), step(Q("SHOW TimeZone")), step(Q("SHOW work_mem"))],
    "P18 set_config": [step(Q("SELECT set_config('work_mem', '5MB', false)")), step(Q("SHOW work_mem")), step(Q("SHOW work_mem"))],
    "P18 set_config with parameters": [
        step(P("s1", "SELECT set_config($1, $2, false)"), S()), step(B("", "s1", ["work_mem", "6MB"]), E(), S()), step(Q("SHOW work_mem")), step(Q("SHOW work_mem"))],
    "P18 SET LOCAL": [step(Q("SET work_mem = '5MB'")), step(Q("BEGIN; SET LOCAL work_mem = '7MB'; SHOW work_mem; COMMIT")), step(Q("SHOW work_mem")), step(Q("SHOW work_mem"))],
    "P18 temp tables": [step(Q("CREATE TEMP TABLE tmp (n int)")), step(Q("INSERT INTO tmp VALUES (1)")), step(Q("SELECT * FROM tmp"))],
    "P18 RESET of one, by another": ([step(Q("SHOW TimeZone")), step(Q("SHOW work_mem"))], {}, [
        step(Q("SET TimeZone = 'Asia/Tokyo'")), step(Q("SET work_mem = '5MB'")), step(Q("RESET work_mem"))]),
    "P18 set_config, by another": ([step(Q("SHOW work_mem")), step(Q("SHOW work_mem"))], {}, [step(Q("SELECT set_config('work_mem', '5MB', false)"))]),
    "P18 what another left": ([
        step(Q("SELECT count(*) FROM pg_listening_channels()")), step(Q("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")),
        step(Q("SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()")), step(Q("SELECT name FROM pg_cursors")), step(Q("EXECUTE mine"))], {}, [
        step(Q("LISTEN n")), step(Q("SELECT pg_advisory_lock(99)")), step(Q("CREATE TEMP TABLE tmp (n int)")), step(Q("PREPARE mine AS SELECT 1")),
        step(Q("BEGIN; DECLARE k CURSOR WITH HOLD FOR SELECT 1; COMMIT"))]),
    "P18 a temp table made by a function": [step(Q("SELECT temps()")), step(Q("SELECT * FROM tmp_f")), step(Q("SELECT * FROM tmp_f"))],
    "settings and savepoints": [
        step(Q("BEGIN; SET work_mem = '5MB'")), step(Q("SAVEPOINT p; SET work_mem = '6MB'; SET TimeZone = 'Asia/Tokyo'")), step(Q("ROLLBACK TO p")), step(Q("COMMIT")),
        step(Q("SHOW work_mem")), step(Q("SHOW TimeZone"))],
    "settings and a rollback": [step(Q("SET work_mem = '5MB'")), step(Q("BEGIN; SET work_mem = '6MB'; ROLLBACK")), step(Q("SHOW work_mem")), step(Q("SHOW work_mem"))],
    "a role": [step(Q("SET ROLE differ_role")), step(Q("SELECT current_user")), step(Q("RESET ALL")), step(Q("SELECT current_user")), step(Q("RESET ROLE")), step(Q("SELECT current_user"))],
    "RESET goes back to what the client started with": (
        [step(Q("SET TimeZone = 'UTC'")), step(Q("RESET TimeZone")), step(Q("SHOW TimeZone")), step(Q("RESET ALL")), step(Q("SHOW TimeZone"))], {"TimeZone": "Asia/Tokyo"}),
    "a held cursor": [
        step(Q(f"BEGIN; DECLARE k CURSOR WITH HOLD FOR {SERIES}; COMMIT")), step(Q("FETCH 2 FROM k")), step(Q("FETCH 2 FROM k")), step(Q("CLOSE k")), step(Q("FETCH k"))],
    "LISTEN": [step(Q("LISTEN n")), other("NOTIFY n, 'hello'"), step(Q("SELECT 1")), step(Q("UNLISTEN n")), other("NOTIFY n, 'more'"), step(Q("SELECT 1"))],
}

# What the random tester found: the smallest sequence of each.
FOUND = {
    "a BEGIN that wants a value": [step(P("", "BEGIN", (23,)), S()), step(B(), E(), S())],
    "42P05 has file, line, routine": [step(P("s1", "SELECT 1"), S()), step(P("s1", "SELECT 2"), S())],
    "42P05 of a long name": [step(P("n" * 70, "SELECT 1"), S()), step(P("n" * 70, "SELECT 2"), S())],
    "42P05 comes after 25P02": [step(P("s1", "SELECT 1"), S()), step(Q("BEGIN; SELECT 1/0")), step(P("s1", "SELECT 2"), S())],
    "42P05 comes after the syntax": [step(P("s1", "SELECT 1"), S()), step(P("s1", "SELEC"), S())],
    "42P05 comes after the analysis": [step(P("s1", "SELECT 1"), S()), step(P("s1", "SELECT * FROM nowhere"), S())],
    "Bind with too many values names the client's statement": [step(P("s1", "SELECT 1"), B("", "s1", ["1"]), S())],
    "BEGIN in a transaction has file, line, routine": [step(Q("BEGIN")), step(Q("BEGIN"))],
    "DEALLOCATE of a protocol statement, extended": [step(P("s1", "SELECT 1"), S()), step(P("", "DEALLOCATE s1"), B(), E(), S()), again()],
    "DEALLOCATE that deallocates itself": [step(P("s1", "DEALLOCATE s1"), B("", "s1"), E(), S()), again()],
    "EXECUTE of a protocol statement": [step(P("s1", "SELECT 1"), S()), step(Q("EXECUTE s1")), step(Q("EXECUTE s1"))],
    "a Bind of too many values behind DDL in its segment": [step(P("s1", "SELECT id, v, m FROM t ORDER BY id"), S()), step(P("", "CREATE TEMP TABLE t AS SELECT 'temp' AS v"), B(), E()), step(B("p2", "s1", ["1"]), S())],
    "a Describe behind DDL in its segment": [step(P("s1", "INSERT INTO t VALUES (1, 'twice')"), S()),
                                             step(P("", "CREATE TEMP TABLE t AS SELECT 'temp' AS v"), B(), E(), D("S", "s1"), S())],
    "EXECUTE of a PREPARE of a name that is taken": [step(P("s1", "PREPARE s1 AS SELECT 'sql s1'")),
                                                     step(P("", "EXECUTE s1"), B("", ""), E(), S()), step(P("", "SELECT 1"), B("", ""), E(), S())],
    "PREPARE of a name that Parse used": [step(P("s1", "SELECT 1"), S()), step(Q("PREPARE s1 AS SELECT 2")), again()],
    "Parse of a name that PREPARE used": [step(Q("PREPARE s1 AS SELECT 2")), step(P("s1", "SELECT 1"), S()), again()],
    "Parse of a name that PREPARE used: the text is looked at first": [
        step(Q("PREPARE s1 AS SELECT 2")), step(P("s1", "SELEC"), S()), step(P("s1", "SELECT * FROM nowhere"), S()), step(P("s1", "SELECT 1"), S()), step(P("s2", "SELEC"), S()),
        step(P("s2", f"SELECT 3 AS {'x' * 80}"), B("", "s2"), E(), S()), again("s2"), again()],
    "DEALLOCATE beside other statements": [step(P("s1", "SELECT 1"), P("a b", "SELECT 2"), S()), step(Q('SELECT 0; DEALLOCATE "a b"; SELECT 1')), again("a b"), again()],
    "DEALLOCATE behind a statement that fails": [step(P("s1", "SELECT 1"), S()), step(Q("SELECT 1/0; DEALLOCATE s1")), again(), step(Q("DEALLOCATE s1; SELECT 1/0")), again()],
    "DEALLOCATE ahead of a commit that fails": [step(P("s1", "SELECT 1"), P("s2", "SELECT 2"), S()), *[step(Q(f"INSERT INTO c VALUES (99); DEALLOCATE {n}")) for n in ("s1", "s1")], again(), again("s2"),
                                                step(Q("INSERT INTO c VALUES (99); DEALLOCATE ALL")), again("s2"), step(P("s2", "SELECT 2"), S()), again("s2")],
    "DEALLOCATE ALL that never runs": [step(P("s1", "SELECT 1"), S()), step(Q("SELECT 1/0; DEALLOCATE ALL")), again(), step(Q("BEGIN; SELECT 1/0")), step(Q("DEALLOCATE ALL")), step(Q("ROLLBACK")), again()],
    "EXECUTE beside other statements": [
        step(P("s1", "SELECT 1"), S()), step(Q("EXECUTE s1; SELECT 2; EXECUTE s1")), step(Q("DEALLOCATE s1; EXECUTE s1")), step(Q("PREPARE s1 AS SELECT 3; EXECUTE s1; DEALLOCATE s1")), again()],
    "EXECUTE in EXPLAIN and CREATE TABLE AS": [
        step(P("s1", "SELECT 1 AS x"), S()), step(Q("EXPLAIN (COSTS off) EXECUTE s1")), step(Q("CREATE TABLE made_x AS EXECUTE s1; TABLE made_x; DROP TABLE made_x"))],
    "EXECUTE with the wrong number of parameters": [step(P("s1", "SELECT 1"), P("s2", "SELECT $1::int"), S()), step(Q("EXECUTE s1 (2)")), step(Q("EXECUTE s2")), step(Q("EXECUTE s2 (nope)"))],
    "EXECUTE in a Query behind an open segment": [
        step(P("s1", "SELECT 1"), S()), step(P("", "INSERT INTO u VALUES (8)"), B(), E(), Q("EXECUTE s1")), step(P("s2", "SELECT 2"), Q("EXECUTE s1; EXECUTE s2")), step(P("", "SELECT 3"), H()),
        step(Q("EXECUTE s1"))],
    "EXECUTE of a statement whose table is gone": [
        step(P("s1", "SELECT * FROM u"), S()), other("DROP TABLE u"), step(Q("EXECUTE s1")), step(P("", "SELECT 1"), B(), E(), Q("EXECUTE s1")), step(Q("BEGIN")), step(Q("EXECUTE s1")), step(Q("ROLLBACK"))],
    "PREPARE of a name that Parse used, extended": [
        step(P("s1", "SELECT 1"), S()), step(P("", "PREPARE s1 AS SELECT 2"), B(), E(), P("", "SELECT 1"), S()), again(), step(Q("BEGIN")), step(P("", "PREPARE s1 AS SELECT 2"), B(), E(), S()), step(Q("ROLLBACK")), again()],
    "EXECUTE of a DEALLOCATE": [step(P("s1", 'DEALLOCATE "a b"'), P("a b", "SELECT 1"), P("s2", "DEALLOCATE ALL"), S()), step(Q("EXECUTE s1")), again("a b"), step(Q("SELECT 1; EXECUTE s2")), again()],
    "a call that fails behind the Parse of the unnamed statement": [step(Q("BEGIN")), step(P("", "SELECT 1"), F(870, ["ABC"], (0,)), S())],
    "a Query behind the Parse of the unnamed statement, and a Sync": [step(P("", "SELECT 1"), Q("SELECT 2"), S()), step(Q("COPY c FROM STDIN"), data("1\tone\n"), P("", "SELECT 1"), Q("SELECT 'late'"), S(), mark=True)],
    "a Query without its end keeps the unnamed statement": [
        step(P("", "SELECT 7"), S()), step(raw("Q", b"SELECT 1\0\0")), step(B(), E(), S()), step(raw("Q", b"SELECT 1"), B(), E(), S()), step(Q("BEGIN")), step(P("", "SELECT 8"), S()),
        step(raw("Q", b"COMMIT")), step(Q("ROLLBACK")), step(B(), E(), S())],
    "DEALLOCATE of a name that is parsed behind its Bind": [
        step(P("s2", "DEALLOCATE s1"), S()), step(B("", "s2"), P("s1", "SELECT 1"), E(), S()), again(), step(P("s1", "SELECT 2"), S()), again("s2"), again(),
        step(P("s1", "SELECT 3"), S()), step(B("p1", "s2"), C("S", "s1"), E("p1"), S()), again()],
    "PREPARE of a name whose DEALLOCATE failed, in one pipeline": [
        step(P("s2", "DEALLOCATE s1"), P("s1", "SELECT 1"), P("s3", "PREPARE s1 AS SELECT 2"), S()), step(B("", "s2", ["x"]), E(), S(), B("", "s3"), E(), S(), B("", "s1"), E(), S())],
    "SET SESSION AUTHORIZATION takes the role of the login away": ([
        step(P("s1", "SET SESSION AUTHORIZATION differ"), B("", "s1"), E(), S()), step(Q("SHOW role")), step(Q("SET SESSION AUTHORIZATION differ")), step(Q("SHOW role")),
        step(Q("BEGIN; SET SESSION AUTHORIZATION differ")), step(Q("SHOW role")), step(Q("COMMIT")), step(Q("SHOW role")), step(Q("RESET role")), step(Q("SHOW role"))], {"role": "differ_role"}),
    "DISCARD ALL takes the role of the login away": ([step(Q("SELECT 1")), step(Q("DISCARD ALL")), step(Q("SHOW role")), step(Q("BEGIN; SELECT 1")), step(Q("COMMIT")), step(Q("SHOW role"))], {"role": "differ_role"}),
    "RESET SESSION AUTHORIZATION takes the role of the login away": ([step(Q("RESET SESSION AUTHORIZATION")), step(Q("SHOW role")), step(Q("RESET ALL")), step(Q("SHOW role"))], {"role": "differ_role"}),
    "a Describe behind DDL of another": [
        step(P("s1", "SELECT v FROM t"), S()), other("ALTER TABLE t RENAME COLUMN v TO w"), step(D("S", "s1"), S()), other("ALTER TABLE t RENAME COLUMN w TO v")],
    "a Bind of too few values behind DDL of another": [
        step(P("s1", "UPDATE t SET v = $1 WHERE id = -1"), S()), other("ALTER TABLE t RENAME COLUMN v TO w"), step(B("", "s1"), S()), other("ALTER TABLE t RENAME COLUMN w TO v")],
    "a Bind of too many values of a plan that DDL broke": [
        step(P("s1", "SELECT a FROM u"), S()), step(Q("ALTER TABLE u ALTER COLUMN a TYPE text")), step(B("p1", "s1", ["1"]), S())],
    "PREPARE of a name that SQL has, behind its Parse": [
        step(P("", "PREPARE s1 AS SELECT 'sql s1'"), B("p1"), E("p1", 1)), step(P("s1", "PREPARE s1 AS SELECT 1"), B("", "s1"), E(), S()), step(Q("EXECUTE s1")),
        step(P("s2", "PREPARE s1 AS SELECT 2"), B("p", "s2"), P("s1", "SELECT 3"), E("p"), S()), step(Q("EXECUTE s1")), step(Q("DEALLOCATE s1")),
        step(P("s2", "PREPARE s1 AS SELECT 2"), B("p", "s2"), P("s1", "SELECT 3"), E("p"), S()), step(Q("EXECUTE s1")), again("s1"), again("s2")],
    "PREPARE of a name behind its Parse, where SQL has another": [
        step(Q("PREPARE q1 AS SELECT 1")), step(P("s2", "PREPARE s1 AS SELECT 2"), S()), step(B("p", "s2"), P("s1", "SELECT 3"), E("p"), S()), again("s1"), again("s2"),
        step(P("s1", "SELECT 3"), S()), step(B("p", "s2"), C("S", "s1"), E("p"), S()), step(Q("EXECUTE s1")), step(Q("EXECUTE q1"))],
    "EXECUTE of a DEALLOCATE, extended": [
        step(P("s1", "DEALLOCATE s1"), S()), step(P("", "EXECUTE s1"), B(), E(), S()), again(), step(P("s2", "DEALLOCATE s3"), P("s3", "SELECT 3"), P("s4", "EXECUTE s2"), S()),
        again("s4"), again("s4"), again("s3"), step(P("s3", "SELECT 4"), S()), step(Q("BEGIN")), again("s4"), step(Q("ROLLBACK")), again("s3"), again("s2")],
    "FETCH that was prepared before its cursor": [
        step(P("s1", "FETCH 1 FROM k"), S()), step(Q("DECLARE k CURSOR WITH HOLD FOR " + SERIES)), step(D("S", "s1"), B("", "s1"), E(), S()), step(Q("CLOSE k"))],
    "two names of no text, and a Bind of too many values": [step(P("s2", ""), S()), step(P("s1", ""), S()), step(B("", "s2", ["1"]), S())],
    "a Query that pgweir would answer, without its end": [
        step(Q("SET work_mem = '9MB'")), *[step(raw("Q", sql + end)) for sql in (b"BEGIN", b"DISCARD ALL", b"DEALLOCATE ALL", b"SET pgweir.route = any", b"") for end in (b"", b"\0\0")],
        step(Q("SHOW work_mem")), step(Q("COMMIT"))],
    "a Query that is not UTF-8 keeps the unnamed statement": [step(P("", "SELECT 1"), S()), step(raw("Q", b"SELECT '\xff'\0")), step(B(), E(), S())],
    "SET TRANSACTION behind a Describe and a Flush": [
        step(P("s2", "SELECT set_config('jit', 'off', true)"), B("", "s2"), E(), S()), step(D("S", "s2"), H()), step(Q("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))],
    "EXECUTE of itself": [step(P("s1", "EXECUTE s1"), S()), *[step(B("", "s1"), E(), S())] * 2, step(Q("EXECUTE s1")), step(P("", "EXECUTE s1"), B(), E(), S())],
    "EXECUTE of an EXECUTE": [
        step(P("s1", "SELECT 7"), S()), step(P("s2", "EXECUTE s1"), S()), step(Q("EXECUTE s2")), step(P("", "EXECUTE s2"), B(), D("P"), E(), S()), step(P("s3", "EXECUTE s2"), S()), step(Q("EXECUTE s3")), again("s3")],
    "DEALLOCATE, extended, behind a Parse that fails": [step(P("s1", "SELECT n FROM generate_series(1, $1) n", (25,)), S(), P("", "DEALLOCATE s1"), B(), E(), S())],
    "EXECUTE, extended, with the wrong number of parameters": [step(P("s1", "INSERT INTO t (id) VALUES ($1) RETURNING *", (0,))), step(P("s2", "EXECUTE s1"), B("p1", "s2"), E("p1"), S())],
    "the unnamed statement, executed, after DDL": [step(P("", "SELECT * FROM u"), B(), E(), S()), other("ALTER TABLE u DROP COLUMN b"), step(B(), E(), S())],
    "the unnamed statement whose table its segment drops": [step(P("", "SELECT * FROM u"), P("s1", "DROP TABLE u"), B("", "s1"), E(), S()), step(B(), E(), S())],
    "a call behind the Parse of the unnamed statement": [step(P("", "SELECT 1"), F(870, ["ABC"], (0,), 1), P("a b", "SELECT fails()"), S()), step(B(), E(), S())],
    "Describe after DDL": [step(P("s1", "SELECT * FROM u"), S()), other("ALTER TABLE u DROP COLUMN b"), step(D("S", "s1"), S()), step(P("s2", "SELECT * FROM u"), S()), step(D("S", "s2"), S()), again("s2"), again()],
    "a DEALLOCATE that is bound and not executed": [step(P("s1", "deallocate/**/S1")), step(B("p1", "s1"), S()), step(E("p1", 1), S()), step(D("S", "s1"), S()), step(B("p1", "s1"), E("p1"), S()), again()],
    "the portal of a BEGIN": [
        step(P("", "BEGIN"), B(), E(), S()), step(D("P"), S()), step(E(), S()), step(E(), S()), step(Q("ROLLBACK")), step(P("b", "BEGIN"), B("", "b"), E(), S()), step(C("P"), E(), S()), step(Q("ROLLBACK")),
        step(P("", "BEGIN"), B(), E(), S()), step(Q("SELECT 1/0")), step(E(), S())],
    "a failed Parse, its name closed and again": [step(Q("BEGIN; SELECT 1/0")), step(P("s1", "SELECT 41"), S(), P("s1", "SELECT 41"), S()), step(Q("ROLLBACK")), step(P("s1", "SELECT 41"), B("", "s1"), E(), S()), again()],
    "BEGIN alone leaves no portal to describe": [step(Q("BEGIN")), step(D("P"), S())],
    "BEGIN alone leaves no portal to execute": [step(Q("BEGIN")), step(E(), S())],
    "COPY in, extended, with a Sync in the middle": [step(P("", "COPY u (a) FROM STDIN"), B(), E(), data("1\n"), S(), data("2\n"), done(), S(), mark=True), step(Q("TABLE u"))],
    "COPY in, extended, fails before a Sync": [step(P("", "COPY u (a) FROM STDIN"), B(), E(), data("bad\n"), S(), data("2\n"), done(), S(), mark=True), step(Q("TABLE u"))],
    "COPY in, extended, never ended": [step(P("", "COPY u (a) FROM STDIN"), B(), E(), data("1\n"), S(), mark=True), step(Q("TABLE u"))],
    "COPY in, fails before a Sync": [step(Q("COPY u (a) FROM STDIN"), data("bad\n"), S(), mark=True), step(Q("TABLE u"))],
    "COPY in, extended, fails, Sync, Parse": [step(P("", "COPY u (a) FROM STDIN"), B(), E(), data("bad\n"), S(), P("", "SELECT 1"), mark=True)],
    "currval in the next transaction": [step(Q("SELECT nextval('sq')")), step(Q("SELECT currval('sq')"))],
    "lastval in the next transaction": [step(Q("SELECT nextval('sq')")), step(Q("SELECT lastval()"))],
    "a Query that is skipped keeps the unnamed statement": [step(P("", "SELECT 7"), S()), step(E("p1"), Q("SELECT 8"), S()), step(B(), E(), S())],
    "a Close of the unnamed statement that is skipped": [step(P("", "SELECT 7"), S()), step(P("s1", "SELEC"), C("S"), S(), B(), E(), S())],
    "a Close of the unnamed statement, and a Bind in the next segment": [step(P("", "SELECT 7"), S()), step(C("S"), S(), B(), E(), S(), P("", "SELECT 8"), S(), B(), E(), S())],
    "a text that was prepared under another client_encoding": [step(P("s2", "SELECT 'äö'"), P("", "SET client_encoding TO 'LATIN1'"), B(), E(), S()), step(B("", "s2"), E(), S())],
    "the unnamed statement after DDL": [step(P("", "SELECT * FROM u"), S()), other("ALTER TABLE u DROP COLUMN b"), step(B(), E(), S())],
    "Parse of a table that is gone": [step(P("s1", "SELECT a FROM u"), S()), step(Q("DROP TABLE u")), step(C("S", "s1"), P("s1", "SELECT a FROM u"), S())],
    "an unknown message type answers what went before": [step(P("", "SELECT 1"), raw("z", b""))],
    "a Parse without an end answers what went before": [step(Q("SELECT 1"), raw("P", b"s1\0SELECT 1"), S())],
    "a Parse without an end is an ERROR": [step(raw("P", b"s1\0SELECT 1"), S()), step(Q("SELECT 1"))],
    "a Parse with too few types is an ERROR": [step(raw("P", b"s1\0SELECT 1\0\xff\xff"), S()), step(Q("SELECT 1"))],
    "a Sync with a body": [step(raw("S", b"x")), step(Q("SELECT 1"))],
    "a name that is not UTF-8": [step(raw("P", b"s\xff1\0SELECT 1\0\0\0"), S())],
    "a startup parameter that is unknown": ([], {"nope": "1"}),
    "a startup parameter with a wrong value": ([], {"TimeZone": "nowhere"}),
    "an unknown message type alone": [step(raw("z", b""))],
    "42P05 when the table of the first one is gone": [
        step(P("s2", "INSERT INTO u VALUES (9)"), S()), other("DROP TABLE u"), step(P("s2", "SELECT 1"), S())],
    "42P05 of nothing in a failed transaction": [
        step(P("s1", "SELECT 1"), S()), step(Q("BEGIN; SELECT 1/0")), step(P("s1", "-- nothing"), S())],
    "replica: END and a write in one segment, READ ONLY before": [
        step(Q("BEGIN READ ONLY")), step(Q("SELECT count(*) FROM t")), step(P("", "END"), B(), E(), P("", "INSERT INTO u VALUES (7)"), B(), E(), S())],
    "replica: END and a write in one Query, READ ONLY before": [step(Q("BEGIN READ ONLY")), step(Q("SELECT count(*) FROM t")), step(Q("END; INSERT INTO u VALUES (7)"))],
    "replica: END and a write in two Queries at once, READ ONLY before": [
        step(Q("BEGIN READ ONLY")), step(Q("SELECT count(*) FROM t")), step(Q("END"), Q("INSERT INTO u VALUES (7)"))],
    "replica: END, Flush, a write, READ ONLY before": [
        step(Q("BEGIN READ ONLY")), step(Q("SELECT count(*) FROM t")), step(P("", "END"), B(), E(), H()), step(P("", "INSERT INTO u VALUES (7)"), B(), E(), S())],
    "replica: END and CALL in one segment, READ ONLY and failed before": [
        step(P("", "BEGIN READ ONLY"), B(), E(), P("", "SELECT $1", (23,)), B("", "", ["abc"]), E(), S()),
        step(P("", "END"), B(), E(), P("", "CALL proc()"), B(), E(), S())],
    "replica: RESET in a READ ONLY transaction": (
        [step(Q("BEGIN")), step(Q("SELECT count(*) FROM t")), step(Q("RESET DateStyle")), step(Q("SHOW DateStyle")), step(Q("COMMIT"))],
        {"default_transaction_read_only": "on"}),
    "replica: Parse of RESET behind set_config() in a READ ONLY transaction": (
        [step(Q("BEGIN")), step(P("", "SELECT set_config('default_transaction_read_only', 'on', true)"), S()), step(P("s2", "RESET DateStyle"), S())],
        {"default_transaction_read_only": "on"}),
    "replica: SET in a READ ONLY transaction": [
        step(Q("BEGIN READ ONLY")), step(Q("SELECT count(*) FROM t")), step(Q("SET work_mem = '5MB'")), step(Q("SHOW work_mem")), step(Q("COMMIT")), step(Q("SHOW work_mem"))],
    "replica: advisory locks, temp tables and LISTEN behind a read": [
        step(Q("SELECT count(*) FROM t")), step(Q("SELECT pg_advisory_lock(8)")), still(8, True), step(Q("SELECT count(*) FROM t")), step(Q("LISTEN n")),
        step(Q("SELECT count(*) FROM t")), step(Q("CREATE TEMP TABLE tmp (n int)")), step(Q("SELECT * FROM tmp")), step(Q("SELECT pg_advisory_unlock(8)"))],
    "a setting by DO": [step(Q("DO $$ BEGIN PERFORM set_config('work_mem', '9MB', false); END $$")), step(Q("SHOW work_mem"))],
    "a setting by a function": [step(Q("SELECT sets('work_mem', '11MB')")), step(Q("SHOW work_mem"))],
    "a reported setting by a function": [step(Q("SELECT sets('TimeZone', 'Asia/Tokyo')")), step(Q("SHOW TimeZone"))],
    "Describe of a portal of EXECUTE": [step(P("s1", "SELECT 1"), S()), step(P("", "EXECUTE s1"), B(), D("P"), E(), S())],
    "25P02 of a Bind": [step(P("s1", "SELECT 1"), S()), step(Q("BEGIN; SELECT 1/0")), step(B("", "s1"), E(), S())],
    "25P02 of a Describe": [step(P("s1", "SELECT $1::int"), S()), step(Q("BEGIN; SELECT 1/0")), step(D("S", "s1"), S())],
    "a Query behind data and Sync ends a COPY in": [step(Q("COPY u (a) FROM STDIN"), data("1\n"), S(), Q("SELECT 1"), mark=True)],
    "25P02 of a Bind with values": [
        step(P("s1", "SELECT $1::int, $2"), S()), step(Q("BEGIN; SELECT 1/0")), step(B("", "s1", ["1", None]), E(), S()), step(Q("ROLLBACK")), again("s1"),
        step(B("", "s1", ["1", "2"]), E(), S())],
    "RESET goes back to what the client's options said": ([step(Q("SET work_mem TO DEFAULT; SHOW work_mem")), step(Q("RESET ALL")), step(Q("SHOW work_mem"))], {"options": "-c work_mem=5MB"}),
    "RESET by the extended protocol": (
        [step(Q("SET TimeZone = 'UTC'")), step(P("", "RESET work_mem"), B(), E(), S()), step(Q("SHOW TimeZone")), step(Q("SHOW work_mem"))],
        {"options": "-c work_mem=5MB"}),
    "RESET by the extended protocol, in a transaction": (
        [step(Q("BEGIN")), step(P("", "RESET work_mem"), B(), E(), S()), step(Q("SHOW work_mem")), step(Q("COMMIT")), step(Q("SHOW work_mem"))],
        {"options": "-c work_mem=5MB"}),
    "RESET behind others in one Query": (
        [step(Q("SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL; -- end")), step(Q("SHOW DateStyle; SHOW work_mem; BEGIN; SET work_mem TO DEFAULT")),
         step(Q("SHOW work_mem")), step(Q("SELECT 1/0; RESET ALL")), step(Q("ROLLBACK; RESET DateStyle")), step(Q("SHOW DateStyle"))],
        {"DateStyle": "German", "options": "-c work_mem=5MB"}),
    "RESET ahead of others in one Query": (
        [step(Q("SET SESSION AUTHORIZATION DEFAULT;RESET ALL;CLOSE ALL;UNLISTEN *;SELECT pg_advisory_unlock_all();DISCARD SEQUENCES;DISCARD TEMP")), step(Q("SHOW DateStyle; SHOW TimeZone")),
         step(Q("SET DateStyle = 'SQL'; SET TimeZone = 'UTC'")), step(Q("RESET DateStyle; SELECT 1; RESET TimeZone; SELECT now() IS NULL;;")), step(Q("SHOW DateStyle; SHOW TimeZone"))],
        {"DateStyle": "German", "TimeZone": "Asia/Tokyo"}),
    "RESET that is rolled back in its Query": (
        [step(Q("SET work_mem = '6MB'")), step(Q("BEGIN; RESET work_mem; ROLLBACK; SELECT 1")), step(Q("SHOW work_mem")), step(Q("BEGIN; SAVEPOINT p; RESET ALL; ROLLBACK TO p; SELECT 1; COMMIT")),
         step(Q("SHOW work_mem"))], {"options": "-c work_mem=5MB"}),
    "RESET behind others, several at once": (
        [step(Q("SELECT 1; RESET ALL"), Q("SELECT 2; RESET DateStyle"), Q("RESET DateStyle"), Q("SELECT 3")), step(Q("SHOW DateStyle"))], {"DateStyle": "German"}),
    "RESET in a pipeline": (
        [step(Q("BEGIN")), step(P("r", "RESET ALL"), B("p1", "r"), P("", "SHOW DateStyle"), B(), E("p1"), E(), E("p1"), S(), P("", "SET DateStyle = 'SQL'"), B(), E(), B("", "r"), E(), H()),
         step(P("", "SHOW DateStyle"), B(), E(), P("", "SELECT 1/0"), B(), E(), B("", "r"), E(), S()), step(Q("ROLLBACK")), step(Q("SHOW DateStyle"))], {"DateStyle": "German"}),
    "DISCARD ALL tells of settings behind its tag": [step(Q("SET IntervalStyle = 'iso_8601'; SET TimeZone = 'Asia/Tokyo'")), step(Q("DISCARD ALL")), step(Q("SHOW TimeZone"))],
    "DISCARD ALL with a server": (
        [step(Q("LISTEN n")), step(Q("SET DateStyle = 'SQL'")), step(Q("DISCARD ALL")), step(Q("SHOW DateStyle")), step(Q("LISTEN n")), step(P("", "DISCARD ALL"), B(), E(), S()),
         step(Q("SHOW DateStyle")), step(Q("SELECT pg_listening_channels()"))], {"DateStyle": "German"}),
    "DISCARD ALL goes back to what the client started with": ([step(Q("DISCARD ALL")), step(Q("SHOW DateStyle"))], {"DateStyle": "German"}),
    "a Parse takes a snapshot": [
        step(P("s1", "TABLE u"), S()), step(C("S", "s1"), S()), step(P("s1", "TABLE u")), step(Q("START TRANSACTION ISOLATION LEVEL REPEATABLE READ")), step(Q("ROLLBACK"))],
    "a lock by a function, taken again": [step(P("", "SELECT locks(5)"), D("P"), B(), D("P"), E(), S()), step(P("", "SELECT locks(5)"), B(), E(), S())],
    "pg_prepared_statements": [step(Q("SELECT name, statement, from_sql FROM pg_prepared_statements ORDER BY name"))],
    "pg_prepared_statements, own": [step(P("s1", "SELECT 1"), S()), step(Q("SELECT name, statement, from_sql FROM pg_prepared_statements ORDER BY name"))],
    "pg_settings says where a value comes from": ([step(Q("SELECT name, setting FROM pg_settings WHERE source = 'session' AND name !~ '^transaction'"))], {"TimeZone": "Asia/Tokyo"}),
    "a custom setting is unknown to others": ([step(Q("SELECT current_setting('my.setting', true)")), step(Q("SHOW my.setting"))], {}, [
        step(Q("SET my.setting = 'mine'")), step(Q("DISCARD ALL"))]),
    "lastval of another": ([step(Q("SELECT lastval()"))], {}, [step(Q("SELECT nextval('sq')"))]),
    "currval of another": ([step(Q("SELECT currval('sq')"))], {}, [step(Q("SELECT nextval('sq')"))]),
    "a stale plan of another": ([step(P("s1", "SELECT * FROM u"), D("S", "s1"), B("", "s1"), E(), S())], {}, [
        other("ALTER TABLE u ADD COLUMN d int"), step(P("s1", "SELECT * FROM u"), S()), again()]),
    "a temp table of another's function": ([step(Q("SELECT * FROM tmp_f")), step(Q("SELECT temps()"))], {}, [step(Q("SELECT temps()"))]),
    "a seed of another, by setseed()": ([step(Q("SELECT random() = 0.9851677175347999"))], {}, [step(Q("SELECT setseed(0.5)"))]),
    "a seed of another, by SET SEED": ([step(Q("SELECT random() = 0.9851677175347999"))], {}, [step(Q("SET SEED TO 0.5"))]),
    "an own seed": [step(Q("SELECT setseed(0.5)")), step(Q("SELECT random() = 0.9851677175347999"))],
    "an own seed, by SET SEED": [step(Q("SET SEED TO 0.5")), step(Q("SELECT random() = 0.9851677175347999"))],
}


class Case(Sequence):
    """before: steps of a client that comes first and leaves, on both servers; or None."""

    def __init__(self, steps, start=None, before=None):
        super().__init__(steps, start)
        self.before = before and Sequence(before)


CASES = {name: Case(*what) if isinstance(what, tuple) else Case(what) for name, what in {**FAULTS, **FOUND}.items()}

# cause -> cases; known.def says what most causes are.
CAUSES = {
    # To know its rows it would have to be described at each Parse, which nearly every query of a driver has; behind an Execute that could fail and undo the work.
    "unnamed-healed": ["the unnamed statement, executed, after DDL"],
    # A server that lacks the statement gets it where it is used: what is behind in the segment is not known when it begins.
    "parsed-late": ["a Describe behind DDL in its segment", "a Describe behind DDL of another", "a Bind of too many values behind DDL in its segment", "a Bind of too few values behind DDL of another",
                    "a Bind of too many values of a plan that DDL broke"],
    # ... and by the settings that the client has then.
    "read-by-encoding": ["a text that was prepared under another client_encoding"],
    # One of two names of one text: the server knows it by one name only.
    "bind-count-name": ["two names of no text, and a Bind of too many values"],
    # Another server parses it later than the client did.
    "fetch-parsed-late": ["FETCH that was prepared before its cursor"],
    # A server that lacks the statement has to parse it, for which it takes a snapshot.
    "injected-snapshot": ["SET TRANSACTION behind a Describe and a Flush"],
    # It is not read; what PostgreSQL does with it is known when it has been sent.
    "query-not-utf8": ["a Query that is not UTF-8 keeps the unnamed statement"],
    # PostgreSQL's RESET goes to the server's value: what the login set is put behind its Query, or, if something behind it in there sets anything or ends a
    # transaction, behind the transaction. Right behind it in the Query it would move the positions that the errors of what follows tell.
    "reset-baseline": ["RESET goes back to what the client's options said"],
    # In a failed transaction the server takes no Parse of a statement that it lacks.
    "describe-in-failed-tx": ["25P02 of a Describe"],
    # Whether the COPY goes on is asked with a Close, which the server of a COPY that goes on refuses as it would the Query.
    "illegal-in-copy": ["a Query behind data and Sync ends a COPY in"],
    # No server is taken, and lost, to let it say so: only file, line and routine of the FATAL are not there.
    "illegal-alone-source": ["an unknown message type alone"],
    # The case lets another client take, and write on, the server of its nextval: to keep that for each nextval would pin most sessions.
    "currval": ["currval in the next transaction", "lastval in the next transaction"],
    # What a login set is SET on its servers, whose own login was pgweir's.
    "shows-pgweir": ["pg_settings says where a value comes from"],
    # A segment runs on one server: the rest of one that went out by a Flush, or began in a failed transaction, cannot go elsewhere.
    "replica-after-end": [
        "replica: END, Flush, a write, READ ONLY before", "replica: END and CALL in one segment, READ ONLY and failed before"],
    # PostgreSQL forgets no custom setting before its process ends: one for each client that must not know it would be a login for each client.
    "custom-setting": ["a custom setting is unknown to others"],
}
KNOWN_TO_FAIL = {case: cause for cause, cases in CAUSES.items() for case in cases}
