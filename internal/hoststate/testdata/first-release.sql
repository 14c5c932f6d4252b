CREATE TABLE IF NOT EXISTS trident_operations (
	id TEXT PRIMARY KEY,
	settled INTEGER NOT NULL,
	body TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS trident_events (
	operation TEXT NOT NULL,
	sequence INTEGER NOT NULL,
	body TEXT NOT NULL,
	PRIMARY KEY (operation, sequence)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS trident_blocked (
	version TEXT PRIMARY KEY,
	body TEXT NOT NULL
);
PRAGMA application_id = 0x54524944;
INSERT INTO trident_operations (id, settled, body) VALUES ('first', 0,
	'{"id":"first","kind":"self-upgrade","phase":"doing","plan":["fetch"],"step":"fetch","state":{}}')
	ON CONFLICT (id) DO UPDATE SET settled = excluded.settled, body = excluded.body;
INSERT INTO trident_events (operation, sequence, body) VALUES ('first', 1, '{"type":"change"}');
INSERT INTO trident_blocked (version, body) VALUES ('2.0.0', '{"version":"2.0.0"}')
	ON CONFLICT (version) DO UPDATE SET body = excluded.body;
