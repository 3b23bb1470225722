-- What the statements of the standby oracle (tests/integration/test_standby_oracle.py) read.
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE items (
    id serial PRIMARY KEY, name text NOT NULL, price numeric(10, 2), qty int, tags text[], data jsonb, doc tsvector,
    created timestamptz NOT NULL, span int4range, feel mood);
INSERT INTO items (name, price, qty, tags, data, doc, created, span, feel)
    SELECT 'item ' || n, n * 1.25, n % 7, ARRAY['t' || n % 3, 'all'], jsonb_build_object('n', n, 'odd', n % 2 = 1),
        to_tsvector('english', 'the quick fox number ' || n), timestamptz '2020-01-01 00:00+00' + n * interval '1 day',
        int4range(n, n + 5), (ARRAY['sad', 'ok', 'happy'])[1 + n % 3]::mood
    FROM generate_series(1, 300) n;
CREATE INDEX ON items (qty);
CREATE INDEX ON items USING gin (data);
CREATE INDEX ON items USING gist (span);
CREATE TABLE orders (id int PRIMARY KEY, item_id int REFERENCES items, amount int, note text);
INSERT INTO orders SELECT n, 1 + n % 300, n % 10, CASE WHEN n % 5 = 0 THEN 'note ' || n END FROM generate_series(1, 500) n;
CREATE TABLE parted (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (50);
CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (50) TO (100);
INSERT INTO parted SELECT n, 'v' || n FROM generate_series(0, 99) n;
CREATE TABLE parent (a int);
CREATE TABLE child (b int) INHERITS (parent);
INSERT INTO parent VALUES (1), (2);
INSERT INTO child VALUES (3, 30), (4, 40);
CREATE MATERIALIZED VIEW item_totals AS SELECT qty, count(*) AS n, sum(price) AS total FROM items GROUP BY qty;
CREATE VIEW cheap_items AS SELECT id, name FROM items WHERE price < 50;
-- From here on: what only the catalog can tell from a table or a built-in function.
CREATE UNLOGGED TABLE unlogged_items AS SELECT 1 AS id;
CREATE TABLE unlogged_parent (k int) PARTITION BY LIST (k);
CREATE UNLOGGED TABLE unlogged_part PARTITION OF unlogged_parent FOR VALUES IN (1);
CREATE SEQUENCE counter;
CREATE TABLE log (n int);
CREATE FUNCTION log_it(int) RETURNS int LANGUAGE sql AS 'INSERT INTO log VALUES ($1) RETURNING n';
CREATE FUNCTION log_item(items) RETURNS int LANGUAGE sql AS 'INSERT INTO log VALUES ($1.id) RETURNING n';
CREATE FUNCTION lower(mood) RETURNS int LANGUAGE sql AS 'INSERT INTO log VALUES (1) RETURNING n';
CREATE FUNCTION twice(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 2 * $1';
CREATE FUNCTION stable_only(int) RETURNS int STABLE LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION safe(int) RETURNS int STABLE PARALLEL SAFE LANGUAGE sql AS 'SELECT $1';
CREATE VIEW logging AS SELECT log_it(1) AS n;
CREATE VIEW locking AS SELECT id FROM items FOR UPDATE;
CREATE VIEW over_logging AS SELECT n FROM logging;
CREATE OPERATOR ### (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl);
CREATE FUNCTION log_both(int, int) RETURNS int LANGUAGE sql AS 'INSERT INTO log VALUES ($1 + $2) RETURNING n';
CREATE OPERATOR !!! (LEFTARG = int, RIGHTARG = int, FUNCTION = log_both);
CREATE FUNCTION checks(int) RETURNS bool LANGUAGE sql AS 'INSERT INTO log VALUES ($1) RETURNING true';
CREATE DOMAIN checked AS int CHECK (checks(VALUE));
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE secret (id int, owner text);
INSERT INTO secret VALUES (1, 'a');
CREATE POLICY watched ON secret USING (checks(id));
ALTER TABLE secret ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE FUNCTION with_default(a int, b int DEFAULT log_it(1)) RETURNS int IMMUTABLE PARALLEL SAFE LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION "Log It"() RETURNS int LANGUAGE sql AS 'INSERT INTO log VALUES (1) RETURNING n';
CREATE FUNCTION log_step(int, int) RETURNS int LANGUAGE sql AS 'INSERT INTO log VALUES ($2) RETURNING n';
CREATE AGGREGATE log_all(int) (SFUNC = log_step, STYPE = int, INITCOND = '0');
CREATE AGGREGATE add_all(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE DOMAIN checked_again AS checked;
CREATE TYPE pair AS (a int, b checked);
CREATE TYPE plain_pair AS (a int, b int);
CREATE TYPE span AS RANGE (SUBTYPE = float8);
CREATE VIEW seen_counter AS SELECT last_value FROM counter;
CREATE VIEW ordered_by_log AS SELECT id FROM items ORDER BY log_it(id);
CREATE VIEW cast_checked AS SELECT id::checked FROM items;
CREATE VIEW over_unlogged AS SELECT * FROM items WHERE id IN (SELECT id FROM unlogged_items);
CREATE VIEW over_foreign_operator AS SELECT 1 !!! 2 AS n;
CREATE VIEW over_stats AS SELECT relname FROM pg_stat_user_tables;
CREATE VIEW harmless_chain AS SELECT c.id, o.amount FROM cheap_items c JOIN orders o ON o.item_id = c.id;
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE far (id int) SERVER nowhere;
CREATE SCHEMA other;
CREATE UNLOGGED TABLE other.items2 AS SELECT 1 AS id;
CREATE TABLE items2 AS SELECT 1 AS id;
CREATE FUNCTION thrice(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 3 * $1';
CREATE FUNCTION other.thrice(text) RETURNS int LANGUAGE sql AS 'INSERT INTO log VALUES (1) RETURNING n';
CREATE FUNCTION plain_default(a int, b bigint DEFAULT 1, c text[] DEFAULT ARRAY[]::text[], d timestamptz DEFAULT now())
    RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';
