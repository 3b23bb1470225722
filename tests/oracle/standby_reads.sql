-- Every construct of SELECT, one statement per line. pgweir must route each to a replica, and primary and standby
-- must give the same. The tables are those of standby_schema.sql.
SELECT 1
SELECT
SELECT 1; SELECT 2
VALUES (1, 'a'), (2, 'b')
TABLE orders
(TABLE orders ORDER BY id LIMIT 3)
SELECT * FROM items ORDER BY id LIMIT 20 OFFSET 5
SELECT ALL id FROM items ORDER BY 1 DESC FETCH FIRST 3 ROWS ONLY
SELECT qty FROM items ORDER BY qty FETCH FIRST 3 ROWS WITH TIES
SELECT DISTINCT qty FROM items ORDER BY qty
SELECT DISTINCT ON (qty) qty, id, name FROM items ORDER BY qty, id
SELECT id AS "Id", name AS label, price * qty total FROM items i WHERE i.qty > 3 AND price BETWEEN 10 AND 90 ORDER BY id
SELECT count(*), sum(qty), avg(price), min(name), max(created), bool_and(qty > 0), string_agg(name, ',' ORDER BY id) FROM items WHERE id < 20
SELECT qty, count(*) FILTER (WHERE price > 100), array_agg(id ORDER BY id) FROM items GROUP BY qty HAVING count(*) > 1 ORDER BY 1
SELECT qty, feel::text, count(*) FROM items GROUP BY GROUPING SETS ((qty), (feel), ()) ORDER BY 1, 2, 3
SELECT qty % 2 AS a, qty % 3 AS b, count(*), grouping(qty % 2, qty % 3) FROM items GROUP BY ROLLUP (qty % 2, qty % 3) ORDER BY 1, 2
SELECT qty % 2 AS a, qty % 3 AS b, count(*) FROM items GROUP BY CUBE (qty % 2, qty % 3) ORDER BY 1, 2
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY price), mode() WITHIN GROUP (ORDER BY qty), rank(3) WITHIN GROUP (ORDER BY qty) FROM items
SELECT id, row_number() OVER (PARTITION BY qty ORDER BY price DESC), lag(price) OVER w, sum(qty) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM items WINDOW w AS (ORDER BY id) ORDER BY id LIMIT 30
SELECT id, first_value(name) OVER (ORDER BY id GROUPS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING EXCLUDE CURRENT ROW) FROM items ORDER BY id LIMIT 5
SELECT id, sum(price) OVER (ORDER BY created RANGE BETWEEN interval '3 days' PRECEDING AND CURRENT ROW) FROM items ORDER BY id LIMIT 10
SELECT i.id, o.id, o.note FROM items i JOIN orders o ON o.item_id = i.id WHERE i.id < 10 ORDER BY 1, 2
SELECT i.id, o.id FROM items i LEFT JOIN orders o ON o.item_id = i.id AND o.amount > 8 ORDER BY 1, 2 LIMIT 50
SELECT count(*) FROM items i FULL OUTER JOIN orders o ON o.item_id = i.id + 250
SELECT count(*) FROM items CROSS JOIN orders
SELECT id FROM items NATURAL JOIN orders ORDER BY id LIMIT 5
SELECT id, name, amount FROM items JOIN orders USING (id) ORDER BY id LIMIT 5
SELECT x.id FROM items JOIN orders USING (id) AS x ORDER BY 1 LIMIT 5
SELECT i.id, last.amount FROM items i, LATERAL (SELECT amount FROM orders o WHERE o.item_id = i.id ORDER BY o.id DESC LIMIT 1) last ORDER BY 1 LIMIT 10
SELECT * FROM (items i JOIN orders o ON o.item_id = i.id) WHERE i.id = 5 ORDER BY o.id
SELECT * FROM generate_series(1, 5) AS g(n), unnest(ARRAY['a', 'b']) WITH ORDINALITY AS u(v, nr)
SELECT * FROM ROWS FROM (generate_series(1, 2), unnest(ARRAY['x', 'y', 'z'])) AS r(a, b)
SELECT * FROM ROWS FROM (jsonb_to_recordset('[{"a": 1}]') AS (a int), generate_series(1, 2)) WITH ORDINALITY
SELECT * FROM json_to_record('{"a": 1, "b": "x"}') AS r(a int, b varchar(5), c double precision, d timestamp with time zone)
SELECT * FROM (VALUES (1, 'one'), (2, 'two')) AS v(n, s) ORDER BY n DESC
SELECT count(*) FROM items TABLESAMPLE BERNOULLI (50) REPEATABLE (42)
SELECT count(*) FROM items TABLESAMPLE SYSTEM (100)
SELECT id FROM items WHERE qty IN (1, 2) AND id NOT IN (SELECT item_id FROM orders WHERE amount = 3) ORDER BY id
SELECT id FROM items i WHERE EXISTS (SELECT FROM orders o WHERE o.item_id = i.id AND note IS NOT NULL) ORDER BY id
SELECT id FROM items WHERE price > ALL (SELECT amount FROM orders) AND qty = ANY (ARRAY[1, 2, 3]) ORDER BY id
SELECT id, (SELECT count(*) FROM orders o WHERE o.item_id = i.id) FROM items i ORDER BY id LIMIT 10
SELECT ARRAY(SELECT id FROM items ORDER BY id LIMIT 5), ARRAY[[1, 2], [3, 4]], (ARRAY[1, 2, 3])[2:3], (ARRAY[5, 6])[1]
SELECT ROW(1, 'a', NULL), (1, 2) < (1, 3), ROW(1, 2) IS NOT DISTINCT FROM ROW(1, 2), (1, 2) = (SELECT 1, 2)
SELECT CASE qty WHEN 0 THEN 'none' WHEN 1 THEN 'one' ELSE 'many' END, CASE WHEN price > 5 THEN 1 END, coalesce(NULL, qty), nullif(qty, 0), greatest(1, qty), least(1, qty) FROM items ORDER BY id LIMIT 10
SELECT name LIKE 'item 1%', name NOT LIKE '%9', name ILIKE 'ITEM%', name SIMILAR TO 'item [0-9]+', name ~ '^item', name !~* 'X', name LIKE 'a!%' ESCAPE '!' FROM items ORDER BY id LIMIT 10
SELECT qty IS NULL, qty IS NOT NULL, qty ISNULL, qty NOTNULL, (qty > 1) IS TRUE, (qty > 1) IS NOT UNKNOWN, qty IS DISTINCT FROM 3, qty BETWEEN SYMMETRIC 5 AND 1 FROM items ORDER BY id LIMIT 5
SELECT CAST(price AS integer), price::text, int '5', CAST('2020-02-02' AS date), '1 day'::interval, date '2020-01-01' + 3, interval '1' year, bit '101', b'101' & b'110', x'1F'::int
SELECT U&'d\0061t\+000061', E'a\tb', $$dollar$$, $q$it's$q$, 'con' 'cat', N'abc'
SELECT extract(epoch FROM created), date_part('dow', created), date_trunc('month', created), created AT TIME ZONE 'Europe/Paris', to_char(created, 'YYYY-MM-DD HH24:MI') FROM items ORDER BY id LIMIT 5
SELECT substring(name FROM 2 FOR 3), substring(name FROM '[0-9]+'), position('e' IN name), overlay(name PLACING 'X' FROM 1 FOR 2), trim(BOTH 'i' FROM name), trim(LEADING FROM name), upper(name), initcap(name), name COLLATE "C" FROM items ORDER BY id LIMIT 5
SELECT normalize('a'), 'a' IS NORMALIZED, 'a' IS NFC NORMALIZED, collation for ('a' COLLATE "C")
SELECT data ->> 'n', data -> 'odd', data @> '{"odd": true}', data ? 'n', data #>> '{n}', jsonb_path_query_first(data, '$.n'), data || '{"x": 1}', data - 'n' FROM items ORDER BY id LIMIT 5
SELECT data['n'] FROM items ORDER BY id LIMIT 3
SELECT k, v FROM items, jsonb_each_text(data) AS j(k, v) WHERE id < 4 ORDER BY id, k
SELECT id FROM items WHERE data @> '{"odd": false}' AND span && int4range(10, 20) AND doc @@ to_tsquery('english', 'fox & number') ORDER BY id
SELECT ts_rank(doc, plainto_tsquery('english', 'fox')), ts_headline('english', name, to_tsquery('english', 'item')) FROM items ORDER BY id LIMIT 3
SELECT tags[1], cardinality(tags), array_to_string(tags, ','), 'all' = ANY (tags), tags || 'more', unnest(tags) FROM items ORDER BY id LIMIT 6
SELECT lower(span), upper(span), span * int4range(3, 9), isempty(span), span @> 5, range_merge(span, int4range(1, 2)) FROM items ORDER BY id LIMIT 5
SELECT feel, feel > 'sad', count(*) FROM items GROUP BY feel ORDER BY feel
SELECT i FROM items i ORDER BY id LIMIT 2
SELECT (i).name, (i).* FROM items i ORDER BY id LIMIT 2
SELECT i.* FROM public.items AS i WHERE public.items.id IS NULL
SELECT i.ctid, i.xmin, i.xmax FROM items i ORDER BY id LIMIT 3
SELECT row_to_json(i), to_jsonb(i), json_agg(i) OVER () FROM items i WHERE id < 3 ORDER BY id
SELECT json_build_object('id', id, 'name', name), jsonb_agg(qty) FROM items WHERE id < 4 GROUP BY id ORDER BY id
SELECT xpath('/a/text()', '<a>x</a>'), xml_is_well_formed('<a>'), '<a/>' IS DOCUMENT
SELECT 1 UNION SELECT 2 UNION ALL SELECT 2 ORDER BY 1
SELECT qty FROM items INTERSECT SELECT amount FROM orders EXCEPT ALL SELECT 3 ORDER BY 1
(SELECT 1 LIMIT 1) UNION (VALUES (2)) UNION (TABLE parent) ORDER BY 1
WITH t AS (SELECT id FROM items WHERE qty = 3), u(a) AS (SELECT count(*) FROM t) SELECT * FROM u
WITH t AS MATERIALIZED (SELECT id FROM items), u AS NOT MATERIALIZED (SELECT id FROM t WHERE id < 5) SELECT sum(id) FROM u
WITH RECURSIVE r(n, p) AS (VALUES (1, ARRAY[1]) UNION ALL SELECT n + 1, p || n FROM r WHERE n < 5) SELECT * FROM r
WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 4) SEARCH DEPTH FIRST BY n SET o SELECT n FROM r ORDER BY o
WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n % 3 + 1 FROM r) CYCLE n SET looped USING path SELECT n, looped FROM r
SELECT * FROM ONLY parent ORDER BY a
SELECT * FROM parent * ORDER BY a
SELECT tableoid > 0, k FROM parted WHERE k BETWEEN 45 AND 55 ORDER BY k
SELECT * FROM parted_low ORDER BY k LIMIT 2
SELECT * FROM item_totals ORDER BY qty
SELECT * FROM cheap_items ORDER BY id
SELECT "items"."id" FROM "public"."items" WHERE "items"."name" = 'item 7'
SELECT now(), current_timestamp(3), current_date, localtime, clock_timestamp(), timeofday(), statement_timestamp()
SELECT random(), gen_random_uuid(), random() < 2
SELECT count(random()) FROM items
SELECT current_user, session_user, current_role, user, current_catalog, current_schema, current_database(), current_schemas(false)
SELECT pg_typeof(1), pg_column_size('abc'), pg_size_pretty(12345::bigint), pg_sleep(0), pg_client_encoding(), pg_relation_size('items')
SELECT md5('a'), sha256('a'), encode('a', 'base64'), hashtext('a'), crypt FROM (SELECT 1 AS crypt) c
SELECT format('%s %I %L', 'a', 'B c', 'd'), quote_ident('A'), quote_literal('x'), concat_ws(',', 1, NULL, 'a'), split_part('a,b', ',', 2), regexp_replace('aXb', '[A-Z]', '-'), string_to_array('a,b', ',')
SELECT abs(-1), round(2.567, 2), sqrt(2), power(2, 10), mod(7, 3), width_bucket(5, 0, 10, 5), 7 / 2, 7 % 3, 2 ^ 3, |/ 25, 5 # 3, ~ 1, 1 << 3, @ -5
SELECT 1 / 0
SELECT 'x'::int
SELECT nosuch FROM items
SELECT * FROM no_such_table
SELECT id FROM items WHERE name = 5
SELECT sum(1 / (id - 100)) FROM items
SELECT repeat('x', -1), generate_series(1, 3), unnest(ARRAY[1, 2])
SELECT id update_count, name AS insert_, price "delete" FROM items ORDER BY id LIMIT 1
SELECT 'INSERT INTO items', $$UPDATE$$, "qty" /* DELETE */ FROM items -- FOR UPDATE
SELECT id FROM items ORDER BY price USING >, id NULLS LAST LIMIT 3
SELECT id FROM items LIMIT ALL OFFSET 298 ROWS
SELECT max(id) FROM items WHERE id = ANY ('{1,2,3}'::int[]) AND (id, qty) IN ((1, 1), (2, 2))
SELECT * FROM items WHERE (id, qty) OVERLAPS (1, 2)
SELECT (timestamp '2020-01-01', timestamp '2020-02-01') OVERLAPS (timestamp '2020-01-15', interval '1 month')
EXPLAIN SELECT 1
EXPLAIN (COSTS OFF) SELECT count(*) FROM items WHERE id = 3
EXPLAIN (COSTS OFF, FORMAT JSON) SELECT * FROM orders WHERE id < 10
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT 1
COPY items TO STDOUT
COPY orders (id, note) TO STDOUT WITH (FORMAT csv, HEADER)
COPY (SELECT id, name FROM items ORDER BY id LIMIT 5) TO STDOUT
COPY (VALUES (1), (2)) TO STDOUT (FORMAT binary)
COPY (TABLE parent) TO STDOUT
