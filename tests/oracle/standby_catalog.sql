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
