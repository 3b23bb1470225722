one CREATE TEMP TABLE kept_t (n int)
one INSERT INTO kept_t VALUES (1), (2)
one SELECT count(*)::int FROM kept_t
one SELECT count(*)::int FROM kept_t
two SELECT count(*)::int FROM pg_class WHERE oid = to_regclass('kept_t')
one DROP TABLE kept_t
one SELECT count(pg_advisory_lock(5))::int
one SELECT 1
two SELECT pg_try_advisory_xact_lock(5)::int
one SELECT pg_advisory_unlock(5)::int
two SELECT pg_try_advisory_xact_lock(5)::int
one DECLARE kept_c CURSOR WITH HOLD FOR SELECT n FROM generate_series(1, 5) n
one FETCH kept_c
two SELECT 2
one FETCH kept_c
one FETCH kept_c
one CLOSE kept_c
one PREPARE kept_s AS SELECT 7
one EXECUTE kept_s
one EXECUTE kept_s
one DEALLOCATE kept_s
one SELECT 8
