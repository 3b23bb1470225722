-- What a replica must not get outside of a READ ONLY transaction: it writes, locks, takes session state, depends on the
-- node, or is not known. One statement per line. The oracle never runs what pgweir sends to the primary.
SELECT * FROM items FOR UPDATE
SELECT * FROM items FOR NO KEY UPDATE SKIP LOCKED
SELECT * FROM (SELECT id FROM items FOR SHARE) s
WITH t AS (SELECT id FROM items FOR KEY SHARE) SELECT * FROM t
SELECT id INTO copied FROM items
SELECT id INTO TEMP copied FROM items
CREATE TABLE copied AS SELECT 1
CREATE TEMP TABLE t (a int)
WITH d AS (DELETE FROM orders RETURNING id) SELECT * FROM d
WITH i AS (INSERT INTO log VALUES (1) RETURNING n) SELECT * FROM i
SELECT * FROM (WITH u AS (UPDATE items SET qty = 1 RETURNING id) SELECT * FROM u) s
INSERT INTO log VALUES (1)
UPDATE items SET qty = 1
DELETE FROM items
MERGE INTO log USING items ON n = id WHEN MATCHED THEN DELETE
TRUNCATE log
SELECT nextval('counter')
SELECT setval('counter', 1)
SELECT currval('counter')
SELECT lastval()
SELECT pg_advisory_lock(1)
SELECT pg_try_advisory_lock(1)
SELECT pg_advisory_xact_lock(1)
SELECT pg_try_advisory_xact_lock_shared(1, 2)
SELECT pg_advisory_unlock_all()
SELECT 1 WHERE pg_try_advisory_lock(1)
SELECT pg_backend_pid()
SELECT pg_is_in_recovery()
SELECT inet_server_addr(), inet_server_port()
SELECT inet_client_port()
SELECT pg_postmaster_start_time()
SELECT pg_conf_load_time()
SELECT version()
SELECT current_setting('transaction_read_only')
SELECT * FROM pg_stat_activity
SELECT * FROM pg_stat_user_tables
SELECT * FROM pg_locks
SELECT * FROM pg_prepared_xacts
SELECT * FROM pg_settings
SELECT pg_stat_get_numscans(1)
SELECT pg_last_wal_replay_lsn()
SELECT pg_current_wal_lsn()
SELECT txid_current()
SELECT pg_current_xact_id()
SELECT txid_current_snapshot()
SELECT txid_status(1)
SELECT pg_export_snapshot()
SELECT pg_database_size('oracle')
SELECT pg_terminate_backend(1)
SELECT pg_reload_conf()
SELECT pg_promote()
SELECT pg_switch_wal()
SELECT pg_create_restore_point('x')
SELECT pg_create_physical_replication_slot('x')
SELECT pg_logical_emit_message(true, 'a', 'b')
SELECT pg_notify('a', 'b')
SELECT lo_create(0)
SELECT lo_open(1, 131072)
SELECT lo_import('/etc/hostname')
SELECT lo_get(1)
SELECT pg_read_file('PG_VERSION')
SELECT pg_ls_dir('.')
SELECT pg_stat_file('PG_VERSION')
SELECT query_to_xml('SELECT 1', true, true, '')
SELECT table_to_xml('items', true, true, '')
SELECT ts_stat('SELECT doc FROM items')
SELECT * FROM ts_stat('SELECT doc FROM items')
SELECT ts_rewrite('a & b'::tsquery, 'SELECT 1')
SELECT set_config('work_mem', '5MB', false)
SELECT setseed(0.5)
SELECT brin_summarize_new_values('items_qty_idx')
SELECT gin_clean_pending_list('items_data_idx')
SELECT dblink_exec('x', 'DELETE FROM items')
SELECT no_such_function(1)
SELECT log_it(1)
SELECT public.lower('x')
SELECT 1 OPERATOR(public.!!!) 2
SELECT 1 !!! 2
SELECT 1::checked
SELECT CAST(1 AS public.checked)
SELECT (i).log_item FROM items i, pg_class
SELECT * FROM pg_temp.t
SELECT 'items'::regclass
SELECT to_regclass('items')
SELECT relname FROM pg_catalog.pg_class
SELECT * FROM information_schema.tables
SELECT has_table_privilege('items', 'SELECT')
SELECT pg_get_viewdef('cheap_items')
SHOW work_mem
SHOW transaction_read_only
SET work_mem = '5MB'
SET SESSION AUTHORIZATION postgres
SET ROLE postgres
RESET ALL
DISCARD ALL
DISCARD TEMP
LISTEN channel
UNLISTEN *
NOTIFY channel
PREPARE p AS SELECT 1
EXECUTE p
DEALLOCATE ALL
DECLARE c CURSOR FOR SELECT 1
DECLARE c CURSOR WITH HOLD FOR SELECT 1
FETCH ALL FROM c
MOVE 1 IN c
CLOSE c
LOCK TABLE items
LOCK TABLE items IN ACCESS SHARE MODE
DO $$BEGIN NULL; END$$
CALL no_such_procedure()
COPY log FROM STDIN
COPY items TO '/tmp/no-such-directory/x'
COPY items TO PROGRAM 'false'
COPY (SELECT nextval('counter')) TO STDOUT
COPY (DELETE FROM log RETURNING n) TO STDOUT
EXPLAIN ANALYZE DELETE FROM log
EXPLAIN ANALYZE SELECT nextval('counter')
EXPLAIN INSERT INTO log VALUES (1)
VACUUM log
ANALYZE log
REINDEX TABLE log
CLUSTER log
CHECKPOINT
REFRESH MATERIALIZED VIEW item_totals
CREATE INDEX ON log (n)
ALTER TABLE log ADD x int
DROP TABLE log
COMMENT ON TABLE log IS 'x'
GRANT SELECT ON log TO PUBLIC
SECURITY LABEL ON TABLE log IS 'x'
IMPORT FOREIGN SCHEMA x FROM SERVER y INTO z
PREPARE TRANSACTION 'oracle'
COMMIT PREPARED 'oracle'
ROLLBACK PREPARED 'oracle'
SAVEPOINT s
SELECT 1; SELECT nextval('counter')
SELECT 1; LISTEN channel
SELECT $$a$$ !!! 'b'
SELECT "unterminated
NO SUCH STATEMENT
