-- Reads that pgweir need not recognise; those that it does must give the same on a standby.
SELECT qty, count(*) FROM items GROUP BY DISTINCT ROLLUP (qty), ROLLUP (qty) ORDER BY 1, 2
SELECT xmlelement(name a, xmlattributes(1 AS b), 'c'), xmlforest(1 AS x), xmlconcat('<a/>', '<b/>'), xmlpi(name php), xmlparse(CONTENT '<a/>'), xmlserialize(CONTENT '<a/>' AS text)
SELECT * FROM XMLTABLE('/r/i' PASSING '<r><i n="1">x</i></r>' COLUMNS n int PATH '@n', v text PATH '.', o FOR ORDINALITY)
SELECT cmin, cmax FROM items
SELECT i.cmin FROM items i
SELECT "cmax" FROM items
SELECT version()
SELECT age(xmin) FROM items WHERE id < 3
SELECT age('3'::xid), mxid_age('3')
SELECT pg_relation_size('items'), pg_relation_size('items', 'fsm'), pg_relation_size('items', 'vm'), pg_relation_size('items', 'init')
SELECT pg_table_size('items'), pg_indexes_size('items'), pg_total_relation_size('items')
SELECT pg_column_compression(doc), pg_column_size(i) FROM items i WHERE id < 3
SELECT tableoid, tableoid::regclass FROM items LIMIT 1
SELECT oid FROM items
SELECT i.version FROM items i
SELECT (name).length FROM items WHERE id = 1
SELECT (name).upper, items.name FROM items WHERE id = 1
SELECT ('counter').nextval
SELECT ('counter'::text).nextval
SELECT (1).pg_sleep
SELECT * FROM ROWS FROM (nextval('counter'))
SELECT * FROM nextval('counter')
SELECT id FROM items ORDER BY nextval('counter') LIMIT 1
SELECT id FROM items LIMIT (SELECT count(*) FROM orders WHERE amount = 3)
SELECT count(*) OVER (ORDER BY txid_current()) FROM items
SELECT count(*) FILTER (WHERE pg_try_advisory_lock(1)) FROM items
SELECT 1 AS "nextval", 'x' AS txid_current
SELECT txid_current FROM (SELECT 1 AS txid_current) s
SELECT now() = current_timestamp, now() - statement_timestamp() < interval '1 minute'
SELECT pg_snapshot_xmin('10:20:10'), txid_visible_in_snapshot(5, '10:20:10'), pg_visible_in_snapshot('5', '10:20:10')
SELECT to_tsvector('english', 'running'), ts_debug('english', 'a b'), ts_lexize('english_stem', 'stars'), get_current_ts_config()
SELECT convert_from('abc', 'UTF8'), convert_to('abc', 'LATIN1'), to_ascii('abc', 'LATIN1'), pg_encoding_to_char(6)
SELECT current_schemas(true), current_schema(), current_query()
SELECT enum_range(feel), enum_first(feel), feel::text FROM items WHERE id = 1
SELECT json_populate_record(i, '{"qty": 5}') FROM items i WHERE id = 1
SELECT pg_get_keywords()
SELECT unnest(pg_listening_channels())
SELECT aclexplode(acldefault('r', 10)), makeaclitem(10, 10, 'SELECT', false)
SELECT in_range(1, 2, 3, true, true), satisfies_hash_partition(1259, 2, 1, 3)
SELECT inet_client_addr() IS NULL
SELECT 'now'::timestamptz IS NULL, 'today'::date - current_date
SELECT extract(timezone FROM created) FROM items WHERE id = 1
SELECT current_setting('search_path')
SELECT current_setting('app.user', true)
SELECT set_config('app.user', 'x', true)
SELECT set_config('app.user', 'x', false)
SHOW app.user
SELECT xmlelement(name a, xmlattributes(1 AS b), 'c'), xmlforest(1 AS x), xmlconcat('<a/>', '<b/>'), xmlpi(name php), xmlparse(CONTENT '<a/>')
