-- Objects that only the catalog tells apart (pgweir route --catalog). Those that end with "-- read" are for a replica.
SELECT * FROM items ORDER BY id -- read
SELECT * FROM cheap_items ORDER BY id -- read
SELECT * FROM item_totals ORDER BY qty -- read
SELECT * FROM parted ORDER BY k -- read
SELECT twice(2), safe(3) -- read
SELECT 1 ### 2 -- read
SELECT 'ok'::mood -- read
SELECT 3::positive -- read
SELECT feel FROM items WHERE feel = 'ok' ORDER BY id -- read
SELECT items.name, i.price FROM items, items i WHERE i.id = items.id ORDER BY items.id LIMIT 3 -- read
SELECT * FROM unlogged_items
SELECT * FROM unlogged_parent
SELECT last_value FROM counter
SELECT * FROM logging
SELECT * FROM over_logging
SELECT * FROM locking
SELECT * FROM secret
SELECT * FROM not_there
SELECT log_it(1)
SELECT stable_only(1)
SELECT lower(feel) FROM items
SELECT lower('x')
SELECT items.log_item FROM items
SELECT (i).log_item FROM items i
SELECT 1 !!! 2
SELECT 1::checked
SELECT CAST('1' AS public.checked)
COPY unlogged_items TO STDOUT
COPY (SELECT log_it(1)) TO STDOUT
EXPLAIN ANALYZE SELECT * FROM logging
SELECT id FROM harmless_chain, generate_series(1, 2) ORDER BY id -- read
SELECT add_all(qty) FROM items -- read
SELECT '[1,2]'::span, ROW(1, 2)::plain_pair -- read
SELECT public.twice(2), "twice"(3), public.thrice(1) -- read
WITH far AS (SELECT 1 AS a), mine AS (SELECT * FROM items) SELECT count(*) FROM mine -- read
SELECT extract(year FROM created), trim(both FROM name), substring(name FROM 2) FROM items ORDER BY id LIMIT 1 -- read
SELECT * FROM public.items2 -- read
SELECT with_default(1)
SELECT "Log It"()
SELECT "log_it"(1)
SELECT PUBLIC.Log_It(1)
SELECT log_all(qty) FROM items
SELECT 1::checked_again
SELECT '(1,2)'::pair
SELECT '{1}'::checked[]
SELECT * FROM json_populate_record(NULL::pair, '{"a": 1, "b": 2}')
SELECT * FROM jsonb_to_recordset('[{"a": 1}]') AS x(a checked)
SELECT * FROM seen_counter
SELECT * FROM ordered_by_log
SELECT * FROM cast_checked
SELECT * FROM over_unlogged
SELECT * FROM over_foreign_operator
SELECT * FROM over_stats
SELECT * FROM far
TABLE far
SELECT * FROM ONLY unlogged_parent
SELECT * FROM items, unlogged_items
SELECT * FROM items JOIN unlogged_items USING (id)
SELECT * FROM (items JOIN unlogged_items USING (id))
SELECT * FROM items, LATERAL (SELECT * FROM unlogged_items) u
SELECT (SELECT max(id) FROM unlogged_items)
WITH u AS (SELECT * FROM unlogged_items) SELECT * FROM u
SELECT (WITH far AS (SELECT 1) SELECT 1), far.* FROM far
SELECT * FROM "unlogged_items"
SELECT * FROM Public.UNLOGGED_ITEMS
SELECT * FROM other.items2
SELECT * FROM items2
SELECT other.thrice('a')
SELECT thrice('a')
SELECT 1 OPERATOR(public.!!!) 2
COPY (TABLE logging) TO STDOUT
COPY far TO STDOUT
SELECT count(*) FROM items WHERE EXISTS (TABLE locking)
SELECT plain_default(5) -- read
