PRAGMA application_id = 1414678852;
PRAGMA user_version = 65537;
CREATE TABLE trident_operations (
	id TEXT PRIMARY KEY,
	settled INTEGER NOT NULL,
	body TEXT NOT NULL
);
INSERT INTO trident_operations VALUES ('20261129-021242-SIGXQ2', 1, '{"id":"20261129-021242-SIGXQ2","kind":"image-update","summary":"write good.cosi","phase":"done","plan":["fetch","write","restart","settle"],"step":"settle","request":"request-1","created":"2026-11-29T02:12:42.376420222Z","updated":"2026-11-29T02:12:42.656383933Z","sequence":16,"state":{"bad":false,"former":"old","url":"https://host/good.cosi","written":200},"step_began":"2026-11-29T02:12:42.656383393Z","begins":1,"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","request_id":"r"}');
INSERT INTO trident_operations VALUES ('20261129-021242-PXXMRS', 1, '{"id":"20261129-021242-PXXMRS","kind":"image-update","summary":"write bad.cosi","phase":"undone","plan":["fetch","write","restart","settle"],"step":"fetch","reached":"write","failure":{"kind":"NO_SPACE","message":"write: write image: the disk is full","hint":"free space","file":"internal/hoststate_test/freeze_test.go","line":58},"created":"2026-11-29T02:12:42.78397467Z","updated":"2026-11-29T02:12:42.888344223Z","sequence":15,"state":{"bad":true,"former":"old","url":"https://host/bad.cosi","written":0},"step_began":"2026-11-29T02:12:42.888343856Z","begins":1,"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","request_id":"r"}');
INSERT INTO trident_operations VALUES ('20261129-021242-RZ7T2G', 0, '{"id":"20261129-021242-RZ7T2G","kind":"image-update","summary":"write cut.cosi","phase":"doing","plan":["fetch","write","restart","settle"],"step":"write","created":"2026-11-29T02:12:42.917165044Z","updated":"2026-11-29T02:12:42.935946972Z","sequence":8,"state":{"bad":false,"former":"old","url":"https://host/cut.cosi","written":200},"step_began":"2026-11-29T02:12:42.93594658Z","begins":1,"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","request_id":"r"}');
CREATE TABLE trident_events (
	operation TEXT NOT NULL,
	sequence INTEGER NOT NULL,
	body TEXT NOT NULL,
	PRIMARY KEY (operation, sequence)
) WITHOUT ROWID;
INSERT INTO trident_events VALUES ('20261129-021242-PXXMRS', 1, '{"time":"2026-11-29T02:12:42.783988546Z","phase":"doing","step":"fetch","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021242-PXXMRS', 2, '{"time":"2026-11-29T02:12:42.798688937Z","phase":"doing","step":"fetch","type":"log","message":"fetching https://host/bad.cosi"}');
INSERT INTO trident_events VALUES ('20261129-021242-PXXMRS', 3, '{"time":"2026-11-29T02:12:42.807426446Z","phase":"doing","step":"fetch","type":"progress","done":100,"total":400}');
INSERT INTO trident_events VALUES ('20261129-021242-PXXMRS', 4, '{"time":"2026-11-29T02:12:42.815553808Z","phase":"doing","step":"fetch","type":"progress","done":300,"total":400,"part":"root","part_done":300,"part_total":400}');
INSERT INTO trident_events VALUES ('20261129-021242-PXXMRS', 5, '{"time":"2026-11-29T02:12:42.815555091Z","phase":"doing","step":"fetch","type":"metric","name":"fetch.bytes","value":400,"unit":"bytes"}');
INSERT INTO trident_events VALUES ('20261129-021242-PXXMRS', 6, '{"time":"2026-11-29T02:12:42.815571822Z","phase":"doing","step":"fetch","type":"log","level":"WARN","message":"slow","attributes":{"rate":"1"}}');
INSERT INTO trident_events VALUES ('20261129-021242-PXXMRS', 7, '{"time":"2026-11-29T02:12:42.824375436Z","phase":"doing","step":"fetch","type":"metric","name":"step.duration","value":0.040400766,"unit":"s"}');
INSERT INTO trident_events VALUES ('20261129-021242-PXXMRS', 8, '{"time":"2026-11-29T02:12:42.824378018Z","phase":"doing","step":"write","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021242-PXXMRS', 9, '{"time":"2026-11-29T02:12:42.859263683Z","phase":"doing","step":"write","type":"progress","done":200,"total":400}');
INSERT INTO trident_events VALUES ('20261129-021242-PXXMRS', 10, '{"time":"2026-11-29T02:12:42.871993538Z","phase":"doing","step":"write","type":"metric","name":"step.duration","value":0.047616318,"unit":"s"}');
INSERT INTO trident_events VALUES ('20261129-021242-PXXMRS', 11, '{"time":"2026-11-29T02:12:42.87201776Z","phase":"undoing","step":"write","type":"change","failure":{"kind":"NO_SPACE","message":"write: write image: the disk is full","hint":"free space","file":"internal/hoststate_test/freeze_test.go","line":58}}');
INSERT INTO trident_events VALUES ('20261129-021242-PXXMRS', 12, '{"time":"2026-11-29T02:12:42.885822023Z","phase":"undoing","step":"write","type":"metric","name":"step.duration","value":0.013826381,"unit":"s"}');
INSERT INTO trident_events VALUES ('20261129-021242-PXXMRS', 13, '{"time":"2026-11-29T02:12:42.88582418Z","phase":"undoing","step":"fetch","type":"change","failure":{"kind":"NO_SPACE","message":"write: write image: the disk is full","hint":"free space","file":"internal/hoststate_test/freeze_test.go","line":58}}');
INSERT INTO trident_events VALUES ('20261129-021242-PXXMRS', 14, '{"time":"2026-11-29T02:12:42.888342857Z","phase":"undoing","step":"fetch","type":"metric","name":"step.duration","value":0.00251917,"unit":"s"}');
INSERT INTO trident_events VALUES ('20261129-021242-PXXMRS', 15, '{"time":"2026-11-29T02:12:42.888344223Z","phase":"undone","step":"fetch","type":"change","failure":{"kind":"NO_SPACE","message":"write: write image: the disk is full","hint":"free space","file":"internal/hoststate_test/freeze_test.go","line":58}}');
INSERT INTO trident_events VALUES ('20261129-021242-RZ7T2G', 1, '{"time":"2026-11-29T02:12:42.917176851Z","phase":"doing","step":"fetch","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021242-RZ7T2G', 2, '{"time":"2026-11-29T02:12:42.923851367Z","phase":"doing","step":"fetch","type":"log","message":"fetching https://host/cut.cosi"}');
INSERT INTO trident_events VALUES ('20261129-021242-RZ7T2G', 3, '{"time":"2026-11-29T02:12:42.926700329Z","phase":"doing","step":"fetch","type":"progress","done":100,"total":400}');
INSERT INTO trident_events VALUES ('20261129-021242-RZ7T2G', 4, '{"time":"2026-11-29T02:12:42.931102318Z","phase":"doing","step":"fetch","type":"progress","done":300,"total":400,"part":"root","part_done":300,"part_total":400}');
INSERT INTO trident_events VALUES ('20261129-021242-RZ7T2G', 5, '{"time":"2026-11-29T02:12:42.931103546Z","phase":"doing","step":"fetch","type":"metric","name":"fetch.bytes","value":400,"unit":"bytes"}');
INSERT INTO trident_events VALUES ('20261129-021242-RZ7T2G', 6, '{"time":"2026-11-29T02:12:42.931412945Z","phase":"doing","step":"fetch","type":"log","level":"WARN","message":"slow","attributes":{"rate":"1"}}');
INSERT INTO trident_events VALUES ('20261129-021242-RZ7T2G', 7, '{"time":"2026-11-29T02:12:42.935945203Z","phase":"doing","step":"fetch","type":"metric","name":"step.duration","value":0.018780159,"unit":"s"}');
INSERT INTO trident_events VALUES ('20261129-021242-RZ7T2G', 8, '{"time":"2026-11-29T02:12:42.935946972Z","phase":"doing","step":"write","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021242-SIGXQ2', 1, '{"time":"2026-11-29T02:12:42.376542269Z","phase":"doing","step":"fetch","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021242-SIGXQ2', 2, '{"time":"2026-11-29T02:12:42.424243903Z","phase":"doing","step":"fetch","type":"log","message":"fetching https://host/good.cosi"}');
INSERT INTO trident_events VALUES ('20261129-021242-SIGXQ2', 3, '{"time":"2026-11-29T02:12:42.441891405Z","phase":"doing","step":"fetch","type":"progress","done":100,"total":400}');
INSERT INTO trident_events VALUES ('20261129-021242-SIGXQ2', 4, '{"time":"2026-11-29T02:12:42.455921012Z","phase":"doing","step":"fetch","type":"progress","done":300,"total":400,"part":"root","part_done":300,"part_total":400}');
INSERT INTO trident_events VALUES ('20261129-021242-SIGXQ2', 5, '{"time":"2026-11-29T02:12:42.455922926Z","phase":"doing","step":"fetch","type":"metric","name":"fetch.bytes","value":400,"unit":"bytes"}');
INSERT INTO trident_events VALUES ('20261129-021242-SIGXQ2', 6, '{"time":"2026-11-29T02:12:42.455939695Z","phase":"doing","step":"fetch","type":"log","level":"WARN","message":"slow","attributes":{"rate":"1"}}');
INSERT INTO trident_events VALUES ('20261129-021242-SIGXQ2', 7, '{"time":"2026-11-29T02:12:42.480543481Z","phase":"doing","step":"fetch","type":"metric","name":"step.duration","value":0.104123259,"unit":"s"}');
INSERT INTO trident_events VALUES ('20261129-021242-SIGXQ2', 8, '{"time":"2026-11-29T02:12:42.480725145Z","phase":"doing","step":"write","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021242-SIGXQ2', 9, '{"time":"2026-11-29T02:12:42.523963999Z","phase":"doing","step":"write","type":"progress","done":200,"total":400}');
INSERT INTO trident_events VALUES ('20261129-021242-SIGXQ2', 10, '{"time":"2026-11-29T02:12:42.531923965Z","phase":"doing","step":"write","type":"metric","name":"step.duration","value":0.051199742,"unit":"s"}');
INSERT INTO trident_events VALUES ('20261129-021242-SIGXQ2', 11, '{"time":"2026-11-29T02:12:42.531926264Z","phase":"doing","step":"restart","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021242-SIGXQ2', 12, '{"time":"2026-11-29T02:12:42.548161086Z","phase":"doing","step":"restart","type":"change","waiting":"restart"}');
INSERT INTO trident_events VALUES ('20261129-021242-SIGXQ2', 13, '{"time":"2026-11-29T02:12:42.621661415Z","phase":"doing","step":"restart","type":"metric","name":"step.duration","value":0.089735567,"unit":"s"}');
INSERT INTO trident_events VALUES ('20261129-021242-SIGXQ2', 14, '{"time":"2026-11-29T02:12:42.621664308Z","phase":"doing","step":"settle","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021242-SIGXQ2', 15, '{"time":"2026-11-29T02:12:42.656381007Z","phase":"doing","step":"settle","type":"metric","name":"step.duration","value":0.034717348,"unit":"s"}');
INSERT INTO trident_events VALUES ('20261129-021242-SIGXQ2', 16, '{"time":"2026-11-29T02:12:42.656383933Z","phase":"done","step":"settle","type":"change"}');
CREATE TABLE trident_blocked (
	version TEXT PRIMARY KEY,
	body TEXT NOT NULL
);
INSERT INTO trident_blocked VALUES ('2.0.0', '{"version":"2.0.0","reason":"it hung","time":"1970-01-01T00:00:01Z","operation":"20261129-021242-PXXMRS","evidence":"/var/lib/trident/self/evidence/2.0.0"}');
CREATE TABLE hoststatus (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	timestamp TEXT DEFAULT CURRENT_TIMESTAMP,
	contents TEXT NOT NULL
);
INSERT INTO hoststatus VALUES (1, '2026-11-29 02:12:42', 'spec:
  os:
    hostname: first
servicingState: provisioned
partitionPaths:
  root-a: /dev/sda2
  root-b: /dev/sda3
abActiveVolume: volume-a
diskUuids:
  disk: 0fc63daf-8483-4772-8e79-3d69d8477de4
installIndex: 0
tridentVersion: 1.0.0
');
INSERT INTO hoststatus VALUES (2, '2026-11-29 02:12:42', 'spec:
  os:
    hostname: second
specOld:
  os:
    hostname: first
servicingState: ab-update-staged
partitionPaths:
  root-a: /dev/sda2
  root-b: /dev/sda3
abActiveVolume: volume-a
diskUuids:
  disk: 0fc63daf-8483-4772-8e79-3d69d8477de4
installIndex: 0
tridentVersion: 1.0.0
');
INSERT INTO hoststatus VALUES (3, '2026-11-29 02:12:42', 'spec:
  os:
    hostname: second
servicingState: provisioned
partitionPaths:
  root-a: /dev/sda2
  root-b: /dev/sda3
abActiveVolume: volume-b
diskUuids:
  disk: 0fc63daf-8483-4772-8e79-3d69d8477de4
installIndex: 0
tridentVersion: 1.0.0
');
INSERT INTO hoststatus VALUES (4, '2026-11-29 02:12:42', 'spec:
  os:
    hostname: second
specOld:
  os:
    hostname: first
servicingState: ab-update-staged
partitionPaths:
  root-a: /dev/sda2
  root-b: /dev/sda3
abActiveVolume: volume-a
diskUuids:
  disk: 0fc63daf-8483-4772-8e79-3d69d8477de4
installIndex: 0
tridentVersion: 1.0.0
');
INSERT INTO hoststatus VALUES (5, '2026-11-29 02:12:42', 'spec:
  os:
    hostname: first
servicingState: provisioned
lastError:
  message: ''write image: the disk is full''
  error: servicing
  category: servicing
  location: internal/hoststate_test/freeze_test.go:63
  cause: null
partitionPaths:
  root-a: /dev/sda2
  root-b: /dev/sda3
abActiveVolume: volume-a
diskUuids:
  disk: 0fc63daf-8483-4772-8e79-3d69d8477de4
installIndex: 0
tridentVersion: 1.0.0
');
INSERT INTO hoststatus VALUES (6, '2026-11-29 02:12:42', 'spec:
  os:
    hostname: second
specOld:
  os:
    hostname: first
servicingState: ab-update-staged
partitionPaths:
  root-a: /dev/sda2
  root-b: /dev/sda3
abActiveVolume: volume-a
diskUuids:
  disk: 0fc63daf-8483-4772-8e79-3d69d8477de4
installIndex: 0
tridentVersion: 1.0.0
');
CREATE TABLE trident_hoststatus (
	id INTEGER PRIMARY KEY,
	sum TEXT NOT NULL
);
INSERT INTO trident_hoststatus VALUES (1, '663fde61e82287501e6b4c579433c5509649c8a88bee91fa8cb57572b1327769');
INSERT INTO trident_hoststatus VALUES (2, 'cfe13d65939509c6755a00cc8f9ad70fde5f948f90ba8ef4c6a7ec9cd689df6d');
INSERT INTO trident_hoststatus VALUES (3, '2674b654fdb449e85612cc26097d6d2fb77decb8d1465b496312ac085fde896b');
INSERT INTO trident_hoststatus VALUES (4, 'cfe13d65939509c6755a00cc8f9ad70fde5f948f90ba8ef4c6a7ec9cd689df6d');
INSERT INTO trident_hoststatus VALUES (5, '3f21934f0d115ad96082cda894fa91a551bf5904249ecfa9e34ae7fc171e959a');
INSERT INTO trident_hoststatus VALUES (6, 'cfe13d65939509c6755a00cc8f9ad70fde5f948f90ba8ef4c6a7ec9cd689df6d');
