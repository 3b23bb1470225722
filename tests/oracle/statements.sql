# tests/oracle/statements.sql: statements written by hand, one a line; see oracle.c
# ---- Django ----
SELECT "auth_user"."id", "auth_user"."password", "auth_user"."last_login", "auth_user"."is_superuser", "auth_user"."username" FROM "auth_user" WHERE "auth_user"."id" = 1 LIMIT 21
SELECT COUNT(*) AS "__count" FROM "app_item"
SELECT (1) AS "a" FROM "app_item" WHERE "app_item"."name" = 'x' LIMIT 1
SELECT "app_item"."id", COUNT("app_tag"."id") AS "n" FROM "app_item" LEFT OUTER JOIN "app_item_tags" ON ("app_item"."id" = "app_item_tags"."item_id") LEFT OUTER JOIN "app_tag" ON ("app_item_tags"."tag_id" = "app_tag"."id") GROUP BY "app_item"."id" HAVING COUNT("app_tag"."id") > 2 ORDER BY "n" DESC
SELECT "app_item"."id" FROM "app_item" WHERE ("app_item"."name"::text LIKE 'a%' AND NOT ("app_item"."id" IN (1, 2, 3)))
SELECT "app_item"."id" FROM "app_item" WHERE UPPER("app_item"."name"::text) LIKE UPPER('%abc%')
SELECT DATE_TRUNC('day', "app_item"."created" AT TIME ZONE 'UTC') AS "d", SUM("app_item"."price") AS "s" FROM "app_item" GROUP BY 1 ORDER BY 1 ASC
SELECT EXTRACT(YEAR FROM "app_item"."created" AT TIME ZONE 'Europe/Berlin') FROM "app_item"
SELECT CASE WHEN "app_item"."price" > 10 THEN 'high' WHEN "app_item"."price" > 5 THEN 'mid' ELSE 'low' END AS "band" FROM "app_item"
SELECT EXISTS(SELECT 1 AS "a" FROM "app_tag" U0 WHERE U0."item_id" = ("app_item"."id") LIMIT 1) AS "has" FROM "app_item"
SELECT "app_item"."id", (SELECT U0."name" FROM "app_tag" U0 WHERE U0."item_id" = ("app_item"."id") ORDER BY U0."id" ASC LIMIT 1) AS "first_tag" FROM "app_item"
SELECT "app_item"."data" #> '{a,b}' FROM "app_item" WHERE "app_item"."data" @> '{"a": 1}'::jsonb
SELECT ("app_item"."data" ->> 'k') AS "k" FROM "app_item" WHERE ("app_item"."data" -> 'n') > '5'::jsonb
SELECT ROW_NUMBER() OVER (PARTITION BY "app_item"."owner_id" ORDER BY "app_item"."created" DESC) AS "rn" FROM "app_item"
SELECT COALESCE("app_item"."name", '') || ' ' || COALESCE("app_item"."title", '') FROM "app_item"
SELECT "django_session"."session_key", "django_session"."session_data", "django_session"."expire_date" FROM "django_session" WHERE ("django_session"."expire_date" > '2024-01-01T00:00:00+00:00'::timestamptz AND "django_session"."session_key" = 'abc') LIMIT 21
SELECT "app_item"."id" FROM "app_item" WHERE "app_item"."id" = 4 LIMIT 21 FOR UPDATE
SELECT "app_item"."id" FROM "app_item" WHERE "app_item"."id" = 4 FOR UPDATE NOWAIT
SELECT "app_item"."id" FROM "app_item" ORDER BY RANDOM() ASC LIMIT 5
SELECT * FROM (SELECT "app_item"."id" AS "col1" FROM "app_item" UNION SELECT "app_tag"."id" AS "col1" FROM "app_tag") "sub" ORDER BY "col1"
INSERT INTO "app_item" ("name", "price") VALUES ('a', 1), ('b', 2) RETURNING "app_item"."id"
UPDATE "app_item" SET "price" = ("app_item"."price" + 1) WHERE "app_item"."id" = 5
DELETE FROM "app_item" WHERE "app_item"."id" IN (1, 2, 3)
SAVEPOINT "s1234_x1"
SELECT set_config('app.tenant', '5', false)
SELECT "app_item"."id" FROM "app_item" WHERE "app_item"."tags" && ARRAY['a', 'b']::varchar(10)[]
SELECT STDDEV_POP("app_item"."price"), VAR_SAMP("app_item"."price") FROM "app_item"
SELECT STRING_AGG("app_item"."name", ', ' ORDER BY "app_item"."name") FROM "app_item"
SELECT ARRAY_AGG(DISTINCT "app_item"."id" ORDER BY "app_item"."id") FILTER (WHERE "app_item"."price" > 1) FROM "app_item"
SELECT (NOW() - "app_item"."created") > '1 days 00:00:00'::interval FROM "app_item"
SELECT to_tsvector('english'::text, COALESCE("app_item"."name", '')) @@ plainto_tsquery('english', 'x'), ts_rank(to_tsvector("app_item"."name"), plainto_tsquery('x')) FROM "app_item"
# ---- SQLAlchemy ----
SELECT users.id AS users_id, users.name AS users_name, users.fullname AS users_fullname FROM users WHERE users.name = %(name_1)s
SELECT users.id, users.name FROM users WHERE users.name = $1::VARCHAR ORDER BY users.id LIMIT $2::INTEGER OFFSET $3::INTEGER
SELECT anon_1.users_id AS anon_1_users_id, addresses_1.id AS addresses_1_id FROM (SELECT users.id AS users_id FROM users WHERE users.name = $1 LIMIT $2) AS anon_1 LEFT OUTER JOIN addresses AS addresses_1 ON anon_1.users_id = addresses_1.user_id
SELECT count(*) AS count_1 FROM (SELECT users.id AS users_id FROM users) AS anon_1
SELECT users.id FROM users WHERE (EXISTS (SELECT 1 FROM addresses WHERE users.id = addresses.user_id AND addresses.email LIKE '%' || $1::VARCHAR || '%'))
SELECT users.id FROM users WHERE users.id IN ($1::INTEGER, $2::INTEGER, $3::INTEGER)
SELECT users.id FROM users WHERE users.id = ANY (CAST($1 AS INTEGER[]))
SELECT max(users.id) AS max_1, coalesce(sum(users.age), $1::INTEGER) AS coalesce_1 FROM users GROUP BY users.name
WITH RECURSIVE included_parts(sub_part, part, quantity) AS (SELECT parts.sub_part AS sub_part, parts.part AS part, parts.quantity AS quantity FROM parts WHERE parts.part = 'our part' UNION ALL SELECT parts_1.sub_part AS sub_part, parts_1.part AS part, parts_1.quantity AS quantity FROM parts AS parts_1, included_parts AS pr_1 WHERE parts_1.part = pr_1.sub_part) SELECT included_parts.sub_part, sum(included_parts.quantity) AS total_quantity FROM included_parts GROUP BY included_parts.sub_part
SELECT users.id, addresses.email FROM users JOIN LATERAL (SELECT addresses.email AS email FROM addresses WHERE addresses.user_id = users.id LIMIT 1) AS addresses ON true
SELECT anon_1.a, anon_1.b FROM (VALUES ($1, $2), ($3, $4)) AS anon_1 (a, b)
SELECT CAST(users.data ->> 'x' AS INTEGER) AS anon_1, jsonb_array_length(users.data -> 'y') FROM users
SELECT t.oid, t.typname FROM pg_catalog.pg_type t WHERE t.typname = 'hstore'
select pg_catalog.version()
select current_schema()
show standard_conforming_strings
show transaction isolation level
SELECT users.id FROM users WHERE users.id = $1 FOR UPDATE OF users SKIP LOCKED
SELECT users.id FROM users FOR NO KEY UPDATE
SELECT nextval('users_id_seq')
select nextval('"Users_id_seq"')
SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class
SELECT users.name || $1 AS anon_1, lower(users.name) AS lower_1, users.created BETWEEN $2 AND $3 AS anon_2 FROM users
SELECT DISTINCT ON (users.name) users.id, users.name FROM users ORDER BY users.name, users.id DESC NULLS LAST
SELECT row_number() OVER (PARTITION BY users.dept ORDER BY users.salary DESC) AS rn, rank() OVER w FROM users WINDOW w AS (ORDER BY users.id RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
SELECT users.tags[$1] AS anon_1, users.tags[$2:$3] AS anon_2, array_length(users.tags, 1) FROM users
SELECT func.a AS a FROM generate_series(1, 10) AS func(a)
SELECT x FROM jsonb_to_recordset($1) AS anon_1(x INTEGER, y TEXT)
SELECT users.id FROM users TABLESAMPLE bernoulli(10) REPEATABLE (5)
SELECT EXTRACT(epoch FROM users.created) AS e, date_trunc('month', users.created) AS m FROM users
SELECT (users.a, users.b) < ($1, $2), ROW(users.a) IN (SELECT 1) FROM users
# ---- Rails ----
SELECT "users".* FROM "users" WHERE "users"."id" = $1 LIMIT $2
SELECT 1 AS one FROM "users" WHERE "users"."email" = $1 LIMIT $2
SELECT COUNT(*) FROM "posts" INNER JOIN "users" ON "users"."id" = "posts"."user_id" WHERE "users"."active" = TRUE
SELECT "posts"."id" AS t0_r0, "posts"."title" AS t0_r1, "comments"."id" AS t1_r0 FROM "posts" LEFT OUTER JOIN "comments" ON "comments"."post_id" = "posts"."id" WHERE "posts"."id" = $1 ORDER BY "posts"."id" ASC
SELECT "posts".* FROM "posts" WHERE "posts"."created_at" BETWEEN $1 AND $2 AND ("posts"."kind" = $3 OR "posts"."kind" IS NULL)
SELECT "users".* FROM "users" WHERE "users"."id" = $1 LIMIT $2 FOR UPDATE
SELECT DISTINCT "users"."name" FROM "users" ORDER BY "users"."name" DESC LIMIT 10 OFFSET 20
SELECT SUM("orders"."total") AS sum_total, "orders"."user_id" AS orders_user_id FROM "orders" GROUP BY "orders"."user_id"
SELECT "users".* FROM "users" WHERE (lower(name) LIKE '%x%') AND "users"."id" NOT IN (SELECT "bans"."user_id" FROM "bans")
SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid), a.attnotnull FROM pg_attribute a LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid WHERE a.attrelid = '"users"'::regclass
SELECT pg_try_advisory_lock(123)
SELECT pg_advisory_unlock(123)
SELECT "schema_migrations"."version" FROM "schema_migrations" ORDER BY "schema_migrations"."version" ASC
INSERT INTO "users" ("name") VALUES ($1) RETURNING "id"
SELECT "users".* FROM "users" /*application:App,controller:users,action:show*/
/*app='x'*/ SELECT "users".* FROM "users"
SELECT "a".* FROM "a" WHERE ("a"."x", "a"."y") IN ((1, 2), (3, 4))
SELECT "users"."id" FROM "users" UNION (SELECT "admins"."id" FROM "admins") ORDER BY 1
WITH "recent" AS (SELECT "posts".* FROM "posts" WHERE (created_at > now() - interval '1 day')) SELECT "recent".* FROM "recent"
SELECT "items".* FROM "items" WHERE "items"."data" ? 'key' AND "items"."data"->>'x' = '1' AND data @? '$.a[*] ? (@ > 2)'
SELECT json_agg(row_to_json(t)) FROM (SELECT id, name FROM users) t
SELECT "users"."id", "users"."key", "users"."value", "users"."type", "users"."position" FROM "users"
# ---- Hibernate ----
select u1_0.id,u1_0.email,u1_0.name from users u1_0 where u1_0.id=?
select u1_0.id,u1_0.email,o1_0.user_id,o1_0.id,o1_0.total from users u1_0 left join orders o1_0 on u1_0.id=o1_0.user_id where u1_0.id=$1
select count(u1_0.id) from users u1_0 where u1_0.name like $1 escape ''
select u1_0.id from users u1_0 where u1_0.name like $1 escape '!' order by u1_0.name offset $2 rows fetch first $3 rows only
select u1_0.id from users u1_0 where upper(u1_0.name)=upper($1) and (u1_0.age>$2 or u1_0.age is null)
select distinct p1_0.id from person p1_0 join address a1_0 on p1_0.id=a1_0.person_id where a1_0.city in ($1,$2)
select nextval ('hibernate_sequence')
select u1_0.id from users u1_0 where u1_0.id=$1 for no key update
select u1_0.id from users u1_0 where u1_0.id=$1 for update skip locked
select user0_.id as id1_0_0_, user0_.name as name2_0_0_ from users user0_ where user0_.id=$1
select case when count(*)>0 then true else false end from users u1_0
select cast(u1_0.id as varchar(255)), substring(u1_0.name,1,3), locate.x, trim(u1_0.name), extract(year from u1_0.born) from users u1_0
select u1_0.id from users u1_0 where exists(select 1 from roles r1_0 where r1_0.user_id=u1_0.id)
select sum(o1_0.total),avg(o1_0.total),min(o1_0.at),max(o1_0.at) from orders o1_0 group by o1_0.user_id having sum(o1_0.total)>100
select t1_0.id,t1_0.value,t1_0.version,t1_0.name,t1_0.type from things t1_0 where t1_0.version=$1
insert into users (email,name,id) values ($1,$2,$3)
select current_timestamp, localtimestamp, current_date
select r1_0.a, listagg.b from (select a, row_number() over(order by b) rn from t) r1_0 cross join lateral (select 1 b) listagg where rn between 1 and 10
# ---- pgbench, psql, tools ----
SELECT abalance FROM pgbench_accounts WHERE aid = 1
UPDATE pgbench_accounts SET abalance = abalance + 5 WHERE aid = 1
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, 1, 1, CURRENT_TIMESTAMP)
select count(*) from pgbench_branches
SELECT n.nspname as "Schema", c.relname as "Name" FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r','p','') AND n.nspname !~ '^pg_toast' AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1,2
SELECT 1
select version()
SET extra_float_digits = 3
SHOW server_version
BEGIN READ ONLY
DISCARD ALL
LISTEN jobs
SELECT pg_backend_pid()
SELECT datname FROM pg_database
# ---- every construct of SELECT ----
SELECT
SELECT FROM t
SELECT *
SELECT ALL a FROM t
SELECT t.*, u.a AS "x y" FROM t, u
SELECT a b, c "d", e AS f FROM t
SELECT a value, b name, c type, d key, e year FROM t
SELECT a AS select, b AS from, c AS where, d AS into, e AS for, f AS update, g AS as FROM t
SELECT a AS group, b AS order, c AS union, d AS table, e AS with, f AS join, g AS limit FROM t AS x, u AS y
SELECT 1 table, 2 select, 3 values, 4 lateral, 5 only, 6 distinct, 7 case, 8 update, 9 delete
SELECT 1 all, 2 and, 3 any, 4 both, 5 cast, 6 check, 7 collate, 8 column, 9 default, 10 do, 11 else, 12 end
SELECT 1 join, 2 left, 3 natural, 4 cross, 5 inner, 6 is, 7 ilike, 8 like, 9 not, 10 null, 11 on, 12 or
SELECT update, delete, insert, merge FROM t WHERE update > delete
SELECT max(update), (delete), -insert, merge[1], (update).x FROM t GROUP BY update HAVING delete
SELECT update.a, delete.b FROM update, delete
SELECT a FROM update JOIN delete USING (insert)
SELECT a FROM share, key, no, lock, temp, set, reset
SELECT share FROM t WHERE key = 1 AND no = 2
SELECT a FROM t update
SELECT a FROM t AS update WHERE update.a = 1
SELECT a FROM t key(share)
SELECT * FROM t a, u b, v c
SELECT * FROM t a(b, c), u AS d(e)
SELECT * FROM ONLY t, ONLY (u), v *
SELECT * FROM s.t, db.s.t, "S"."T"
SELECT * FROM (t JOIN u ON true) x
SELECT * FROM ((t CROSS JOIN u) NATURAL JOIN v) LEFT JOIN w ON true
SELECT * FROM t JOIN u JOIN v ON v.a = u.a ON u.a = t.a
SELECT * FROM t FULL JOIN u USING (a, b) AS j
SELECT * FROM t NATURAL INNER JOIN u NATURAL LEFT OUTER JOIN v
SELECT * FROM (SELECT 1) s, (VALUES (1, 2)) v(a, b), (TABLE t) x, (WITH y AS (SELECT 1) SELECT * FROM y) z
SELECT * FROM ((SELECT 1)) s
SELECT * FROM ((SELECT 1) UNION (SELECT 2)) s
SELECT * FROM LATERAL (SELECT 1) s, LATERAL generate_series(1, 2) g
SELECT * FROM generate_series(1, 2) g(a), unnest(ARRAY[1]) WITH ORDINALITY u(b, c)
SELECT * FROM ROWS FROM (generate_series(1, 2), unnest(ARRAY[1])) WITH ORDINALITY AS r(a, b, c)
SELECT * FROM ROWS FROM (json_to_record('{}') AS (a int, b text)) r
SELECT * FROM json_to_record('{}') AS r(a int, b text COLLATE "C", c numeric(1,2)[], d setof.x)
SELECT * FROM json_to_record('{}') AS r(a int, b text COLLATE "C", c numeric(1,2)[], d double precision, e timestamp(2) with time zone)
SELECT * FROM json_to_record('{}') AS (a int, b char varying(3), c bit varying(2), d time without time zone, e interval day to second(2))
SELECT * FROM unnest(a, b) AS x(c, d)
SELECT * FROM t TABLESAMPLE system (10), u x TABLESAMPLE bernoulli (1) REPEATABLE (2)
SELECT * FROM current_date, current_timestamp(2) AS t, localtime u, session_user s
SELECT * FROM coalesce(1, 2), greatest(1, 2) AS g, nullif(1, 2) n, cast('1' AS int) c
SELECT * FROM xmltable('/a' PASSING x COLUMNS b int PATH '@b' DEFAULT 1 NOT NULL, c text NULL, d FOR ORDINALITY)
SELECT * FROM t, xmltable(XMLNAMESPACES('http://x' AS y, DEFAULT 'http://z'), '/a' PASSING BY VALUE t.x BY REF COLUMNS b xml) AS q(e)
SELECT xmltable.* FROM t, xmltable('/a' PASSING x COLUMNS b my_type)
SELECT xmlelement(name a), xmlelement(name "B", xmlattributes(1 AS c, d), 'e', f), xmlforest(a, b AS c), xmlconcat(a, b), xmlcomment('x')
SELECT xmlparse(document '<a/>'), xmlparse(content a STRIP WHITESPACE), xmlpi(name php, 'x'), xmlroot(a, version no value, standalone no value)
SELECT xmlserialize(content a AS varchar(10)), xmlserialize(document a AS character varying), xmlexists('//a' PASSING BY REF b BY REF)
SELECT a IS DOCUMENT, a IS NOT DOCUMENT, a IS NORMALIZED, a IS NOT NFKC NORMALIZED, normalize(a), normalize(a, NFD)
SELECT 1 + 2 * 3 - 4 / 5 % 6 ^ 7, -1, +1, @ -1, |/ 4, ||/ 8, ~ 1, 5 # 3, 1 & 2 | 3, 1 << 2 >> 1
SELECT a < b, a > b, a <= b, a >= b, a = b, a <> b, a != b
SELECT a AND b OR NOT c, NOT (a), (NOT a) IS TRUE
SELECT a IS NULL, a IS NOT NULL, a ISNULL, a NOTNULL, a IS TRUE, a IS NOT FALSE, a IS UNKNOWN, a IS NOT UNKNOWN
SELECT a IS DISTINCT FROM b, a IS NOT DISTINCT FROM (b), (a IS DISTINCT FROM b) FROM t
SELECT a IS DISTINCT FROM b FROM t WHERE c IS NOT DISTINCT FROM d
SELECT a BETWEEN 1 AND 2, a NOT BETWEEN b AND c, a BETWEEN SYMMETRIC 2 AND 1, a BETWEEN ASYMMETRIC (1) AND (2)
SELECT a IN (1), a NOT IN (1, 2), (a, b) IN ((1, 2)), a IN (SELECT 1), a IN (VALUES (1), (2)), a IN (TABLE t)
SELECT a LIKE b, a NOT LIKE 'x' ESCAPE '\', a ILIKE b, a NOT ILIKE b ESCAPE c, a SIMILAR TO b, a NOT SIMILAR TO b ESCAPE c
SELECT a ~ 'x', a ~* 'x', a !~ 'x', a !~* 'x', a ~~ 'x', a !~~* 'y', a ^@ 'z'
SELECT a = ANY (b), a = SOME (b), a <> ALL (b), a < ANY (SELECT 1), a LIKE ANY (b), a NOT ILIKE ALL (ARRAY['x'])
SELECT a OPERATOR(pg_catalog.=) ANY (b), a OPERATOR(pg_catalog.~~) b, OPERATOR(pg_catalog.-) 1, a OPERATOR(+) (b)
SELECT EXISTS (SELECT), EXISTS (SELECT 1 FROM t), NOT EXISTS (TABLE t), ARRAY(SELECT 1), (SELECT 1), (SELECT 1).a
SELECT CASE WHEN a THEN b END, CASE a WHEN 1 THEN 2 WHEN 3 THEN 4 ELSE 5 END, CASE WHEN a THEN b ELSE c END + 1
SELECT CASE (a) WHEN (b) THEN (c) ELSE (d) END, CASE WHEN (a) THEN (b) ELSE (c) END
SELECT COALESCE(a), coalesce(a, b), nullif(a, b), greatest(a), least(a, b, c)
SELECT CAST(a AS int), CAST(a AS numeric(3, 1)), CAST(a AS int[]), CAST(a AS double precision), CAST(a AS time(3) with time zone), CAST(a + b AS interval year to month)
SELECT a::int, a::int[], a::int[][3], a::int ARRAY, a::int ARRAY[3], a::text::varchar(3)::"char", a::timestamp(3), a::bit(3), a::bit varying, a::dec(3,2)
SELECT (a + b)::int, -a::int, a[1]::int, (a).b::int, f.g::int, '1'::int + 1, $1::int, ARRAY[1]::int[], ROW(1)::text, NULL::int
SELECT int '1', int4 '1', float8 '1.5', numeric(3,1) '1', date '2020-01-01', timestamp(2) '2020-01-01', time with time zone '10:00', interval '1 day', interval '1' day, interval '1:2' minute to second(2), interval(2) '1', bit '101', char(3) 'abc', varchar 'x', bool 't', point '(1,2)', "char" 'a', pg_catalog.int4 '1', double precision '1'
SELECT int4(1), text(1), date('2020-01-01'), float8(1), "int4"(1), pg_catalog.int4(1), numeric '1'
SELECT extract(epoch FROM a), extract(year FROM now()), extract("year" FROM a), extract('month' FROM a), extract(day FROM (SELECT a FROM t)), extract(second FROM a)
SELECT substring(a FROM 1), substring(a FROM 1 FOR 2), substring(a FOR 2), substring(a FOR 2 FROM 1), substring(a FROM 'b' FOR '#'), substring(a SIMILAR 'b' ESCAPE '#'), substring(a, 1), substring(a, 1, 2)
SELECT trim(a), trim(both from a), trim(both 'x' from a), trim(leading 'x' from a), trim(trailing from a), trim('x' from a), trim(from a), trim(a, 'x'), btrim(a)
SELECT position('a' IN b), position((a || b) IN c), overlay(a PLACING b FROM 1), overlay(a PLACING b FROM 1 FOR 2), overlay(a, b, 1, 2), overlay('abc' placing 'x' from 1)
SELECT a AT TIME ZONE 'UTC', a AT TIME ZONE interval '1h', (a AT TIME ZONE 'UTC') AT TIME ZONE b, now() AT TIME ZONE 'x' + interval '1 day'
SELECT a COLLATE "C", a || b COLLATE "de_DE" || c, collation for (a), (a COLLATE "C") < b
SELECT current_date, current_time, current_time(2), current_timestamp, current_timestamp(3), localtime, localtime(1), localtimestamp, localtimestamp(2)
SELECT current_role, current_user, session_user, user, current_catalog, current_schema
SELECT count(*), count(a), count(DISTINCT a), count(ALL a), count(DISTINCT (a, b)), sum(a ORDER BY b), string_agg(a, ',' ORDER BY b DESC, c), array_agg(a ORDER BY b USING >)
SELECT count(*) FILTER (WHERE a), sum(a) FILTER (WHERE b > 1) OVER w, percentile_disc(0.5) WITHIN GROUP (ORDER BY a), rank(1) WITHIN GROUP (ORDER BY a) FILTER (WHERE b) FROM t WINDOW w AS ()
SELECT sum(a) OVER (), sum(a) OVER (PARTITION BY b), sum(a) OVER (ORDER BY b), sum(a) OVER (PARTITION BY b ORDER BY c, d DESC), sum(a) OVER w, sum(a) OVER (w) FROM t WINDOW w AS (PARTITION BY a), x AS (w ORDER BY b)
SELECT sum(a) OVER (ROWS UNBOUNDED PRECEDING), sum(a) OVER (ORDER BY b ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING), sum(a) OVER (ORDER BY b RANGE BETWEEN interval '1 day' PRECEDING AND CURRENT ROW EXCLUDE GROUP), sum(a) OVER (ORDER BY b GROUPS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING EXCLUDE NO OTHERS)
SELECT first_value(a) OVER w, nth_value(a, 2) OVER w, ntile(4) OVER w, lead(a, 1, 0) OVER w, cume_dist() OVER w FROM t WINDOW w AS (ORDER BY a)
SELECT make_interval(days => 1), make_interval(days := 1, hours => 2), concat(VARIADIC ARRAY['a', 'b']), concat('x', VARIADIC ARRAY['a'])
SELECT ARRAY[1, 2], ARRAY[[1, 2], [3, 4]], ARRAY[]::int[], a[1], a[1][2], a[1:2], a[:2], a[1:], a[:], (ARRAY[1, 2])[1], (a).b[1].c
SELECT ROW(1, 2), ROW(), (1, 2), ROW(t.*), ROW(a, b).f1, (ROW(1, 2)).f1, (t).*, (t.a).b, (a.b.c).d
SELECT a FROM t GROUP BY a, (b), (c, d), ROLLUP (a, b), CUBE (a, (b, c)), GROUPING SETS ((a), (b, c), (), ROLLUP (d))
SELECT grouping(a), grouping(a, b) FROM t GROUP BY ALL CUBE (a, b)
SELECT a FROM t GROUP BY DISTINCT ROLLUP (a), ROLLUP (b) HAVING count(*) > 1
SELECT a FROM t GROUP BY () HAVING true
SELECT a FROM t ORDER BY a, b DESC, c ASC NULLS FIRST, d DESC NULLS LAST, e USING >, f USING OPERATOR(pg_catalog.<), (g), lower(h), 1
SELECT a FROM t LIMIT 1
SELECT a FROM t LIMIT ALL OFFSET 2
SELECT a FROM t LIMIT NULL OFFSET (SELECT 1)
SELECT a FROM t OFFSET 1 ROW FETCH FIRST ROW ONLY
SELECT a FROM t FETCH FIRST 5 ROWS ONLY OFFSET 2
SELECT a FROM t ORDER BY a FETCH FIRST (1 + 1) ROWS WITH TIES
SELECT a FROM t FETCH NEXT $1 ROWS ONLY
SELECT 1 UNION SELECT 2 UNION ALL SELECT 3 INTERSECT ALL SELECT 4 EXCEPT DISTINCT SELECT 5
(SELECT 1) UNION (SELECT 2) ORDER BY 1 LIMIT 1
((SELECT 1 UNION SELECT 2) EXCEPT (VALUES (3)))
SELECT 1 UNION (SELECT 2 ORDER BY 1 LIMIT 1) ORDER BY 1
(SELECT 1 ORDER BY 1) LIMIT 1
((((SELECT 1))))
VALUES (1), (2) UNION SELECT 3 ORDER BY 1
VALUES (1, 'a', NULL, now()), (DEFAULT, 2, 3, 4)
VALUES (1) ORDER BY 1 LIMIT 1
TABLE t
TABLE s.t
TABLE ONLY t
TABLE t UNION TABLE u
TABLE t ORDER BY a LIMIT 1
WITH a AS (SELECT 1) SELECT * FROM a
WITH a(b) AS (SELECT 1), c AS (SELECT * FROM a) SELECT * FROM a, c
WITH a AS MATERIALIZED (SELECT 1), b AS NOT MATERIALIZED (SELECT 2) SELECT 3
WITH RECURSIVE a(b) AS (VALUES (1) UNION SELECT b + 1 FROM a) TABLE a
WITH RECURSIVE a(b, c) AS (SELECT 1, 2 UNION ALL SELECT b, c FROM a) SEARCH DEPTH FIRST BY b, c SET d CYCLE b SET e USING f SELECT * FROM a
WITH RECURSIVE a(b) AS (SELECT 1 UNION ALL SELECT b FROM a) CYCLE b SET c TO 'y' DEFAULT 'n' USING d SELECT * FROM a
WITH a AS (SELECT 1) (SELECT * FROM a)
WITH a AS ((SELECT 1) UNION (SELECT 2)) (SELECT * FROM a) UNION SELECT 3
WITH a AS (WITH b AS (SELECT 1) SELECT * FROM b) SELECT * FROM a
WITH a AS (VALUES (1)), b AS (TABLE t) SELECT * FROM a, b
WITH update AS (SELECT 1), delete AS (SELECT 2), insert(a) AS (SELECT 3) SELECT * FROM update, delete, insert
WITH materialized AS (SELECT 1), recursive AS (SELECT 2) SELECT * FROM materialized, recursive
WITH "a" AS (SELECT 1), b AS (SELECT a.x FROM "a" a) SELECT (SELECT count(*) FROM b), (WITH c AS (SELECT 1) SELECT * FROM c)
SELECT (WITH a AS (SELECT 1) SELECT * FROM a), ARRAY(WITH b AS (SELECT 2) TABLE b), EXISTS (WITH c AS (SELECT 3) VALUES (4))
SELECT E'a\'b', 'a''b', E'\\', '\', $$a$$, $a$b$a$, $a$ $$ $b$ $a$, B'01', X'ff', N'x', U&'\0041', U&'!0041' UESCAPE '!'
SELECT 1, 1., .1, 1.5, 1e5, 1.5E-5, 1e+5, 0.1e1, $1, $12
SELECT 1 AS "a""b", "a""b"."c", "" FROM t
SELECT/**/1/* a */-- b
SELECT 1 /* /* nested */ */ + /* ; DELETE FROM t */ 2 -- FOR UPDATE
SELECT a FROM t WHERE b = 'x' -- '
SELECT a--1
SELECT a - -1, a+-1, a*-1, a<-1, a=-1, a@-1
SELECT a->b, a->>b, a#>b, a#>>b, a@>b, a<@b, a?b, a?|b, a?&b, a||b, a-b, a#-b, a@?b, a@@b FROM t
SELECT a -> 'x' -> 0 ->> 'y', (a -> 'x')::int, a['x']['y'] FROM t
SELECT a <-> b, a && b, a &< b, a &> b, a << b, a >> b, a -|- b, a @@ b, a ~= b, a ?# b, a ?- b, a ?| b FROM t
SELECT lower(a), "lower"(a), pg_catalog.lower(a), pg_catalog."lower"(a), LOWER(a), "pg_catalog".lower(a) FROM t
SELECT now(), clock_timestamp(), statement_timestamp(), transaction_timestamp(), timeofday(), age(a), age(a, b), date_part('x', a), date_bin('1 day', a, b), to_char(a, 'x'), to_date(a, 'x'), to_timestamp(1), make_date(1, 2, 3), justify_days(a), isfinite(a) FROM t
SELECT random(), gen_random_uuid(), md5(a), sha256(b), encode(c, 'hex'), decode(d, 'hex'), hashtext(e), quote_ident(f), quote_literal(g), format('%s', h) FROM t
SELECT regexp_replace(a, b, c, 'g'), regexp_matches(a, b), regexp_split_to_array(a, b), split_part(a, b, 1), string_to_array(a, b), array_to_string(c, d), unnest(e), generate_subscripts(f, 1), array_position(g, 1), cardinality(h) FROM t
SELECT jsonb_build_object('a', 1), jsonb_agg(a), jsonb_object_agg(a, b), jsonb_each(c), jsonb_path_query(d, '$.x'), jsonb_set(e, '{a}', '1'), to_jsonb(f), row_to_json(t), jsonb_array_elements(g), jsonb_typeof(h), json_object('{a,b}'), jsonb_pretty(i) FROM t
SELECT to_tsvector('english', a), plainto_tsquery(b), websearch_to_tsquery(c), ts_headline(d, e), ts_rank(f, g), setweight(h, 'A'), numnode(i) FROM t
SELECT abs(a), ceil(b), floor(c), round(d, 2), trunc(e), mod(f, g), power(h, 2), sqrt(i), exp(j), ln(k), log(l), sign(m), width_bucket(n, 1, 2, 3), degrees(o), pi() FROM t
SELECT pg_typeof(a), pg_column_size(b), pg_relation_size('t'), pg_size_pretty(1), current_database(), current_schema(), current_schemas(true), pg_sleep(0.1) FROM t
SELECT int4range(1, 2), upper(a), lower(b), isempty(c), range_merge(d, e), tstzrange(f, g, '[)') FROM t
SELECT host(a), family(b), masklen(c), network(d), inet '1.2.3.4' << inet '1.2.3.0/24' FROM t
SELECT point(1, 2), circle(a, 1), area(b), center(c), box '((1,2),(3,4))' ## a FROM t
SELECT left(a, 1), right(b, 2), like(c, d), overlaps(e, f, g, h), length(i), char_length(j), octet_length(k), bit_length(l), ascii(m), chr(65), initcap(n), lpad(o, 2), reverse(p), translate(q, r, s), strpos(u, v), to_hex(1) FROM t
SELECT (a, b) OVERLAPS (c, d), (a, b) OVERLAPS (now(), interval '1 day'), ROW(a, b) OVERLAPS (c, d) FROM t
SELECT (a, b) = (c, d), (a, b) < (1, 2), (a, b) IS NULL, ROW(a) = ROW(b), (a, b) = (SELECT 1, 2), (a, b) = ANY (SELECT 1, 2) FROM t
SELECT a FROM t WHERE (SELECT count(*) FROM u WHERE u.a = t.a) > 5 AND (b IN (SELECT c FROM v WHERE d = ANY (SELECT e FROM w)) OR NOT EXISTS (SELECT 1 FROM x))
SELECT a, (SELECT b FROM u ORDER BY c LIMIT 1) FROM t WHERE d = (SELECT max(d) FROM t) GROUP BY a HAVING count(*) = (SELECT 1) ORDER BY (SELECT 1)
EXPLAIN SELECT 1
EXPLAIN VERBOSE SELECT 1
EXPLAIN ANALYZE SELECT a FROM t
EXPLAIN (ANALYZE, VERBOSE false, BUFFERS, FORMAT yaml, SETTINGS on, WAL, TIMING off, SUMMARY) WITH a AS (SELECT 1) TABLE a
EXPLAIN (SELECT 1)
EXPLAIN (COSTS) (SELECT 1)
EXPLAIN VALUES (1)
EXPLAIN TABLE t
EXPLAIN ANALYZE INSERT INTO t VALUES (1)
EXPLAIN DELETE FROM t
EXPLAIN EXECUTE p
EXPLAIN DECLARE c CURSOR FOR SELECT 1
EXPLAIN CREATE TABLE x AS SELECT 1
COPY t TO STDOUT
COPY t (a, b) TO STDOUT
COPY s.t TO STDOUT WITH (FORMAT csv, HEADER true, DELIMITER ';', NULL 'x', QUOTE '"', FORCE_QUOTE (a, b))
COPY t TO STDOUT CSV HEADER
COPY BINARY t TO STDOUT
COPY t TO STDOUT USING DELIMITERS ','
COPY (SELECT 1) TO STDOUT
COPY (SELECT a FROM t WHERE b IN (1, 2)) TO STDOUT (FORMAT binary)
COPY (VALUES (1)) TO STDOUT
COPY (TABLE t) TO STDOUT
COPY ((SELECT 1) UNION (SELECT 2)) TO STDOUT
COPY (WITH a AS (SELECT 1) SELECT * FROM a) TO STDOUT
COPY (SELECT 1 FROM t FOR UPDATE) TO STDOUT
COPY (INSERT INTO t VALUES (1) RETURNING *) TO STDOUT
COPY (UPDATE t SET a = 1 RETURNING *) TO STDOUT
COPY (SELECT nextval('s')) TO STDOUT
COPY t TO '/tmp/x'
COPY t TO PROGRAM 'cat'
COPY t FROM STDIN
COPY t FROM '/tmp/x' WHERE a > 1
COPY pg_class TO STDOUT
SELECT 1; SELECT 2
SELECT 1;; ;SELECT 2;
SELECT 1; DELETE FROM t
;
SELECT 1; EXPLAIN SELECT 2; COPY t TO STDOUT
# ---- what is no read ----
SELECT a INTO b FROM t
SELECT a INTO TEMP b FROM t
SELECT INTO b FROM t
SELECT INTO b a FROM t
SELECT a INTO TABLE b FROM t
SELECT a INTO UNLOGGED b FROM t
SELECT 1 INTO a UNION SELECT 2
(SELECT 1 INTO a)
WITH x AS (SELECT 1) SELECT * INTO y FROM x
SELECT a AS into INTO b FROM t
SELECT a AS as INTO b FROM t
SELECT a FROM t FOR UPDATE
SELECT a FROM t FOR UPDATE OF t, u NOWAIT
SELECT a FROM t FOR UPDATE FOR SHARE
SELECT a FROM t FOR NO KEY UPDATE
SELECT a FROM t FOR SHARE SKIP LOCKED
SELECT a FROM t FOR KEY SHARE OF t
SELECT a FROM t LIMIT 1 FOR UPDATE
SELECT a FROM t FOR UPDATE LIMIT 1
SELECT a FROM t ORDER BY a FOR UPDATE OFFSET 1
(SELECT a FROM t FOR UPDATE) UNION SELECT 1
SELECT a FROM (SELECT a FROM t FOR SHARE) s
SELECT a FROM t WHERE EXISTS (SELECT 1 FROM u FOR UPDATE)
SELECT (SELECT a FROM t FOR UPDATE)
WITH x AS (SELECT a FROM t FOR KEY SHARE) SELECT 1
TABLE t FOR UPDATE
VALUES (1) FOR UPDATE
SELECT a AS for FROM t FOR UPDATE
WITH x AS (INSERT INTO t VALUES (1)) SELECT 1
WITH x AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM x
WITH x AS (UPDATE t SET a = 1) SELECT 1
WITH x AS (DELETE FROM t) SELECT 1
WITH x AS MATERIALIZED (DELETE FROM t) SELECT 1
WITH x AS NOT MATERIALIZED (DELETE FROM t) SELECT 1
WITH x(a) AS (DELETE FROM t RETURNING a) SELECT 1
WITH x AS (SELECT 1), y AS (DELETE FROM t) SELECT 1
WITH materialized AS (DELETE FROM t) SELECT 1
WITH update AS (UPDATE t SET a = 1) SELECT 1
WITH x AS (WITH y AS (SELECT 1) DELETE FROM t RETURNING 1) SELECT 1
WITH x AS (WITH y AS (DELETE FROM t RETURNING 1) SELECT 1) SELECT 1
SELECT * FROM (WITH x AS (DELETE FROM t RETURNING 1) SELECT * FROM x) s
WITH x AS (SELECT 1) DELETE FROM t
WITH x AS (SELECT 1) INSERT INTO t SELECT 1
WITH x AS (SELECT 1) UPDATE t SET a = 1
WITH x AS (SELECT 1) MERGE INTO t USING u ON true WHEN MATCHED THEN DO NOTHING
WITH RECURSIVE x(a) AS (SELECT 1) SEARCH DEPTH FIRST BY a SET b DELETE FROM t
WITH RECURSIVE x(a) AS (SELECT 1) CYCLE a SET b USING c UPDATE t SET a = 1
WITH RECURSIVE x(a) AS (SELECT 1) CYCLE a SET b TO true DEFAULT false USING c INSERT INTO t VALUES (1)
SELECT nextval('s')
SELECT "nextval"('s'), pg_catalog.nextval('s')
SELECT ('s'::text).nextval
SELECT my_function(1)
SELECT s.lower('a')
SELECT "Lower"('a')
SELECT a FROM my_function() a
SELECT a FROM ROWS FROM (my_function(1)) r
SELECT a FROM t TABLESAMPLE my_method (1)
SELECT a FROM LATERAL my_function(1) x
SELECT a FROM t JOIN my_function(1) ON true
SELECT a FROM t WHERE my_function(a) = 1
SELECT a FROM t GROUP BY my_function(a)
SELECT a FROM t HAVING my_function(a)
SELECT a FROM t ORDER BY my_function(a)
SELECT a FROM t LIMIT my_function(1)
SELECT a FROM t OFFSET my_function(1)
SELECT a FROM t FETCH FIRST (my_function(1)) ROWS ONLY
SELECT sum(a) OVER (PARTITION BY my_function(b)) FROM t
SELECT sum(a) OVER (ORDER BY b ROWS my_function(1) PRECEDING) FROM t
SELECT sum(a) OVER w FROM t WINDOW w AS (ORDER BY my_function(a))
SELECT sum(a) FILTER (WHERE my_function(a)) FROM t
SELECT sum(a ORDER BY my_function(a)) FROM t
SELECT percentile_cont(my_function(1)) WITHIN GROUP (ORDER BY a) FROM t
SELECT my_aggregate(a) WITHIN GROUP (ORDER BY b) FROM t
SELECT my_window(a) OVER (ORDER BY b) FROM t
SELECT DISTINCT ON (my_function(a)) a FROM t
SELECT DISTINCT ON (a) my_function(a) FROM t
SELECT CASE WHEN my_function(a) THEN 1 END FROM t
SELECT ARRAY[my_function(1)], a[my_function(1)] FROM t
SELECT a FROM t WHERE a IN (1, my_function(2))
SELECT a FROM t WHERE a BETWEEN my_function(1) AND 2
SELECT a FROM t WHERE a LIKE my_function(1)
SELECT a FROM t WHERE NOT my_function(1)
SELECT extract(epoch FROM my_function(1))
SELECT substring(my_function(1) FROM 1 FOR 2)
SELECT coalesce(my_function(1), 2)
SELECT xmlelement(name a, my_function(1))
SELECT a AT TIME ZONE my_function(1) FROM t
SELECT over(1), filter(2), within(3), partition(4), rollup(5), cube(6), sets(7), materialized(8), by(9)
SELECT join(1)
SELECT is(1)
SELECT left.right(1)
SELECT f(VARIADIC a) FROM t
SELECT a::my_type FROM t
SELECT CAST(a AS s.t) FROM t
SELECT my_type 'x'
SELECT a::double FROM t
SELECT a::public.int4 FROM t
SELECT a::regclass FROM t
SELECT a +* b FROM t
SELECT a OPERATOR(public.+) b FROM t
SELECT a FROM t ORDER BY a USING <<>>
SELECT a FROM t ORDER BY a USING OPERATOR(s.<)
SELECT * FROM pg_class
SELECT * FROM information_schema.tables
SELECT * FROM pg_catalog.pg_class c, t
SELECT pg_is_in_recovery()
SELECT txid_current()
SELECT pg_advisory_lock(1)
SELECT currval('s'), lastval()
SELECT set_config('a', 'b', true)
SELECT current_setting('work_mem')
SELECT lo_get(1)
SELECT query_to_xml('DELETE FROM t', true, true, '')
INSERT INTO t VALUES (1)
INSERT INTO t SELECT 1
INSERT INTO t DEFAULT VALUES ON CONFLICT DO NOTHING
UPDATE t SET a = 1
DELETE FROM t
MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (1)
TRUNCATE t
CREATE TABLE t (a int)
CREATE TABLE t AS SELECT 1
CREATE VIEW v AS SELECT 1
CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN 1
CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END
CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2)
ALTER TABLE t ADD a int
DROP TABLE t
GRANT SELECT ON t TO u
VACUUM t
ANALYZE t
REINDEX TABLE t
CLUSTER t
CHECKPOINT
LOCK TABLE t
CALL p()
DO $$ BEGIN END $$
BEGIN
COMMIT
ROLLBACK
SAVEPOINT s
PREPARE TRANSACTION 'x'
SET a = 1
RESET ALL
SHOW ALL
LISTEN a
NOTIFY a
PREPARE p AS SELECT 1
EXECUTE p(1)
DEALLOCATE p
DECLARE c CURSOR FOR SELECT 1
FETCH c
MOVE c
CLOSE c
REFRESH MATERIALIZED VIEW v
COMMENT ON TABLE t IS 'x'
LOAD 'x'
SELECT a::interval second(3), interval '1' day to second(2), a COLLATE pg_catalog."C" FROM t
SELECT * FROM json_to_record(a) AS (columns int, skip text)
WITH RECURSIVE x(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM x) SEARCH DEPTH FIRST BY a SET o (SELECT * FROM x)
SELECT a::setof int FROM t
