-- SPDX-License-Identifier: MIT
-- Orders of a shop: bulk load, indexes, joins, grouping, window functions, updates and deletes.
PRAGMA journal_mode = MEMORY;
PRAGMA cache_size = -65536;
PRAGMA temp_store = MEMORY;
CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT, city TEXT, notes TEXT);
CREATE TABLE purchase (id INTEGER PRIMARY KEY, customer INTEGER, day INTEGER, cents INTEGER, item TEXT);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
INSERT INTO customer SELECT i, 'customer ' || (i * 7919 % 20011), 'city ' || (i % 97),
	replace(hex(zeroblob(i % 200)), '00', char(97 + i % 26)) FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 160000)
INSERT INTO purchase SELECT i, 1 + i * 7919 % 20000, i * 31 % 365, i * 37 % 10007,
	'item ' || (i * 13 % 4001) || ' ' || substr('abcdefghijklmnopqrstuvwxyz', 1 + i % 20, 1 + i % 7) FROM n;
COMMIT;
CREATE INDEX purchase_customer ON purchase (customer, day);
CREATE INDEX purchase_item ON purchase (item);
CREATE INDEX customer_city ON customer (city, name);
ANALYZE;
SELECT city, count(*), sum(cents), max(item) FROM customer JOIN purchase ON purchase.customer = customer.id
	GROUP BY city ORDER BY sum(cents) DESC, city LIMIT 20;
SELECT day, sum(cents), sum(sum(cents)) OVER (ORDER BY day ROWS BETWEEN 6 PRECEDING AND CURRENT ROW)
	FROM purchase GROUP BY day ORDER BY day LIMIT 40;
SELECT item, group_concat(customer) FROM (SELECT DISTINCT item, customer FROM purchase ORDER BY item, customer)
	GROUP BY item ORDER BY length(group_concat(customer)) DESC, item LIMIT 5;
UPDATE customer SET notes = notes || ' ' || upper(notes) || (SELECT count(*) FROM purchase
	WHERE purchase.customer = customer.id) WHERE id % 2 = 0;
DELETE FROM purchase WHERE day BETWEEN 100 AND 180;
INSERT INTO purchase SELECT id + 1000000, customer, day + 400, cents + 1, item || '!' FROM purchase WHERE id % 3 = 0;
SELECT count(*), sum(length(notes)), max(notes) FROM customer WHERE notes LIKE '%x%';
SELECT substr(item, 1, 8) AS head, count(*), avg(cents) FROM purchase GROUP BY head ORDER BY 2 DESC, 1 LIMIT 10;
SELECT json_group_array(json_object('id', id, 'item', item)) FROM (SELECT * FROM purchase
	ORDER BY cents DESC, id LIMIT 300);
VACUUM;
PRAGMA integrity_check;
