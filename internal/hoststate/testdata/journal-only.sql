PRAGMA application_id = 1414678852;
CREATE TABLE trident_operations (
	id TEXT PRIMARY KEY,
	settled INTEGER NOT NULL,
	body TEXT NOT NULL
);
INSERT INTO trident_operations VALUES ('20261129-021127-6ZCYHB', 1, '{"id":"20261129-021127-6ZCYHB","kind":"image-update","summary":"write good.cosi","phase":"done","plan":["fetch","write","restart","settle"],"step":"settle","created":"2026-11-29T02:11:27.304148827Z","updated":"2026-11-29T02:11:27.42779399Z","sequence":8,"state":{"bad":false,"former":"old","url":"https://host/good.cosi","written":200}}');
INSERT INTO trident_operations VALUES ('20261129-021127-6I7NAT', 1, '{"id":"20261129-021127-6I7NAT","kind":"image-update","summary":"write bad.cosi","phase":"undone","plan":["fetch","write","restart","settle"],"step":"fetch","reached":"write","failure":{"kind":"NO_SPACE","message":"write: write image: the disk is full","hint":"free space"},"created":"2026-11-29T02:11:27.436091653Z","updated":"2026-11-29T02:11:27.491786167Z","sequence":7,"state":{"bad":true,"former":"old","url":"https://host/bad.cosi","written":0}}');
INSERT INTO trident_operations VALUES ('20261129-021127-KVHMA4', 0, '{"id":"20261129-021127-KVHMA4","kind":"image-update","summary":"write cut.cosi","phase":"doing","plan":["fetch","write","restart","settle"],"step":"write","created":"2026-11-29T02:11:27.50300569Z","updated":"2026-11-29T02:11:27.523408332Z","sequence":4,"state":{"bad":false,"former":"old","url":"https://host/cut.cosi","written":200}}');
CREATE TABLE trident_events (
	operation TEXT NOT NULL,
	sequence INTEGER NOT NULL,
	body TEXT NOT NULL,
	PRIMARY KEY (operation, sequence)
) WITHOUT ROWID;
INSERT INTO trident_events VALUES ('20261129-021127-6I7NAT', 1, '{"time":"2026-11-29T02:11:27.436104461Z","phase":"doing","step":"fetch","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021127-6I7NAT', 2, '{"time":"2026-11-29T02:11:27.447274833Z","phase":"doing","step":"fetch","type":"log","message":"fetching https://host/bad.cosi"}');
INSERT INTO trident_events VALUES ('20261129-021127-6I7NAT', 3, '{"time":"2026-11-29T02:11:27.460054651Z","phase":"doing","step":"fetch","type":"progress","done":100,"total":400}');
INSERT INTO trident_events VALUES ('20261129-021127-6I7NAT', 4, '{"time":"2026-11-29T02:11:27.461712875Z","phase":"doing","step":"write","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021127-6I7NAT', 5, '{"time":"2026-11-29T02:11:27.471824522Z","phase":"undoing","step":"write","type":"change","failure":{"kind":"NO_SPACE","message":"write: write image: the disk is full","hint":"free space"}}');
INSERT INTO trident_events VALUES ('20261129-021127-6I7NAT', 6, '{"time":"2026-11-29T02:11:27.483210538Z","phase":"undoing","step":"fetch","type":"change","failure":{"kind":"NO_SPACE","message":"write: write image: the disk is full","hint":"free space"}}');
INSERT INTO trident_events VALUES ('20261129-021127-6I7NAT', 7, '{"time":"2026-11-29T02:11:27.491786167Z","phase":"undone","step":"fetch","type":"change","failure":{"kind":"NO_SPACE","message":"write: write image: the disk is full","hint":"free space"}}');
INSERT INTO trident_events VALUES ('20261129-021127-6ZCYHB', 1, '{"time":"2026-11-29T02:11:27.304491745Z","phase":"doing","step":"fetch","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021127-6ZCYHB', 2, '{"time":"2026-11-29T02:11:27.359606117Z","phase":"doing","step":"fetch","type":"log","message":"fetching https://host/good.cosi"}');
INSERT INTO trident_events VALUES ('20261129-021127-6ZCYHB', 3, '{"time":"2026-11-29T02:11:27.372941118Z","phase":"doing","step":"fetch","type":"progress","done":100,"total":400}');
INSERT INTO trident_events VALUES ('20261129-021127-6ZCYHB', 4, '{"time":"2026-11-29T02:11:27.375194847Z","phase":"doing","step":"write","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021127-6ZCYHB', 5, '{"time":"2026-11-29T02:11:27.401500376Z","phase":"doing","step":"restart","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021127-6ZCYHB', 6, '{"time":"2026-11-29T02:11:27.408353545Z","phase":"doing","step":"restart","type":"change","waiting":"restart"}');
INSERT INTO trident_events VALUES ('20261129-021127-6ZCYHB', 7, '{"time":"2026-11-29T02:11:27.419781851Z","phase":"doing","step":"settle","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021127-6ZCYHB', 8, '{"time":"2026-11-29T02:11:27.42779399Z","phase":"done","step":"settle","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021127-KVHMA4', 1, '{"time":"2026-11-29T02:11:27.503079314Z","phase":"doing","step":"fetch","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021127-KVHMA4', 2, '{"time":"2026-11-29T02:11:27.511593874Z","phase":"doing","step":"fetch","type":"log","message":"fetching https://host/cut.cosi"}');
INSERT INTO trident_events VALUES ('20261129-021127-KVHMA4', 3, '{"time":"2026-11-29T02:11:27.513233701Z","phase":"doing","step":"fetch","type":"progress","done":100,"total":400}');
INSERT INTO trident_events VALUES ('20261129-021127-KVHMA4', 4, '{"time":"2026-11-29T02:11:27.523408332Z","phase":"doing","step":"write","type":"change"}');
CREATE TABLE trident_blocked (
	version TEXT PRIMARY KEY,
	body TEXT NOT NULL
);
INSERT INTO trident_blocked VALUES ('2.0.0', '{"version":"2.0.0","reason":"it hung","time":"1970-01-01T00:00:01Z","operation":"20261129-021127-6I7NAT","evidence":"/var/lib/trident/self/evidence/2.0.0"}');
