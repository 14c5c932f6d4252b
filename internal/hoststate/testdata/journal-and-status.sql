PRAGMA application_id = 1414678852;
PRAGMA user_version = 65537;
CREATE TABLE trident_operations (
	id TEXT PRIMARY KEY,
	settled INTEGER NOT NULL,
	body TEXT NOT NULL
);
INSERT INTO trident_operations VALUES ('20261129-021203-ELHEVL', 1, '{"id":"20261129-021203-ELHEVL","kind":"image-update","summary":"write good.cosi","phase":"done","plan":["fetch","write","restart","settle"],"step":"settle","request":"request-1","created":"2026-11-29T02:12:03.509372367Z","updated":"2026-11-29T02:12:03.708705386Z","sequence":15,"state":{"bad":false,"former":"old","url":"https://host/good.cosi","written":200},"step_began":"2026-11-29T02:12:03.708704911Z","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","request_id":"r"}');
INSERT INTO trident_operations VALUES ('20261129-021203-6OI22D', 1, '{"id":"20261129-021203-6OI22D","kind":"image-update","summary":"write bad.cosi","phase":"undone","plan":["fetch","write","restart","settle"],"step":"fetch","reached":"write","failure":{"kind":"NO_SPACE","message":"write: write image: the disk is full","hint":"free space","file":"internal/hoststate_test/freeze_test.go","line":57},"created":"2026-11-29T02:12:03.83923236Z","updated":"2026-11-29T02:12:04.088964725Z","sequence":14,"state":{"bad":true,"former":"old","url":"https://host/bad.cosi","written":0},"step_began":"2026-11-29T02:12:04.088963885Z","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","request_id":"r"}');
INSERT INTO trident_operations VALUES ('20261129-021204-G3DXBG', 0, '{"id":"20261129-021204-G3DXBG","kind":"image-update","summary":"write cut.cosi","phase":"doing","plan":["fetch","write","restart","settle"],"step":"write","created":"2026-11-29T02:12:04.262090791Z","updated":"2026-11-29T02:12:04.325558221Z","sequence":8,"state":{"bad":false,"former":"old","url":"https://host/cut.cosi","written":200},"step_began":"2026-11-29T02:12:04.325557423Z","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","request_id":"r"}');
CREATE TABLE trident_events (
	operation TEXT NOT NULL,
	sequence INTEGER NOT NULL,
	body TEXT NOT NULL,
	PRIMARY KEY (operation, sequence)
) WITHOUT ROWID;
INSERT INTO trident_events VALUES ('20261129-021203-6OI22D', 1, '{"time":"2026-11-29T02:12:03.839248913Z","phase":"doing","step":"fetch","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021203-6OI22D', 2, '{"time":"2026-11-29T02:12:03.858452427Z","phase":"doing","step":"fetch","type":"log","message":"fetching https://host/bad.cosi"}');
INSERT INTO trident_events VALUES ('20261129-021203-6OI22D', 3, '{"time":"2026-11-29T02:12:03.895867116Z","phase":"doing","step":"fetch","type":"progress","done":100,"total":400}');
INSERT INTO trident_events VALUES ('20261129-021203-6OI22D', 4, '{"time":"2026-11-29T02:12:03.917540992Z","phase":"doing","step":"fetch","type":"progress","done":300,"total":400,"part":"root","part_done":300,"part_total":400}');
INSERT INTO trident_events VALUES ('20261129-021203-6OI22D', 5, '{"time":"2026-11-29T02:12:03.917543604Z","phase":"doing","step":"fetch","type":"metric","name":"fetch.bytes","value":400,"unit":"bytes"}');
INSERT INTO trident_events VALUES ('20261129-021203-6OI22D', 6, '{"time":"2026-11-29T02:12:03.91756117Z","phase":"doing","step":"fetch","type":"log","level":"WARN","message":"slow","attributes":{"rate":"1"}}');
INSERT INTO trident_events VALUES ('20261129-021203-6OI22D', 7, '{"time":"2026-11-29T02:12:03.96796563Z","phase":"doing","step":"fetch","type":"metric","name":"step.duration","value":0.12873327,"unit":"s"}');
INSERT INTO trident_events VALUES ('20261129-021203-6OI22D', 8, '{"time":"2026-11-29T02:12:03.967973668Z","phase":"doing","step":"write","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021203-6OI22D', 9, '{"time":"2026-11-29T02:12:04.055532022Z","phase":"doing","step":"write","type":"metric","name":"step.duration","value":0.08756024,"unit":"s"}');
INSERT INTO trident_events VALUES ('20261129-021203-6OI22D', 10, '{"time":"2026-11-29T02:12:04.055553124Z","phase":"undoing","step":"write","type":"change","failure":{"kind":"NO_SPACE","message":"write: write image: the disk is full","hint":"free space","file":"internal/hoststate_test/freeze_test.go","line":57}}');
INSERT INTO trident_events VALUES ('20261129-021203-6OI22D', 11, '{"time":"2026-11-29T02:12:04.078424188Z","phase":"undoing","step":"write","type":"metric","name":"step.duration","value":0.022889369,"unit":"s"}');
INSERT INTO trident_events VALUES ('20261129-021203-6OI22D', 12, '{"time":"2026-11-29T02:12:04.078426439Z","phase":"undoing","step":"fetch","type":"change","failure":{"kind":"NO_SPACE","message":"write: write image: the disk is full","hint":"free space","file":"internal/hoststate_test/freeze_test.go","line":57}}');
INSERT INTO trident_events VALUES ('20261129-021203-6OI22D', 13, '{"time":"2026-11-29T02:12:04.088962657Z","phase":"undoing","step":"fetch","type":"metric","name":"step.duration","value":0.010536927,"unit":"s"}');
INSERT INTO trident_events VALUES ('20261129-021203-6OI22D', 14, '{"time":"2026-11-29T02:12:04.088964725Z","phase":"undone","step":"fetch","type":"change","failure":{"kind":"NO_SPACE","message":"write: write image: the disk is full","hint":"free space","file":"internal/hoststate_test/freeze_test.go","line":57}}');
INSERT INTO trident_events VALUES ('20261129-021203-ELHEVL', 1, '{"time":"2026-11-29T02:12:03.509577755Z","phase":"doing","step":"fetch","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021203-ELHEVL', 2, '{"time":"2026-11-29T02:12:03.53826174Z","phase":"doing","step":"fetch","type":"log","message":"fetching https://host/good.cosi"}');
INSERT INTO trident_events VALUES ('20261129-021203-ELHEVL', 3, '{"time":"2026-11-29T02:12:03.541943255Z","phase":"doing","step":"fetch","type":"progress","done":100,"total":400}');
INSERT INTO trident_events VALUES ('20261129-021203-ELHEVL', 4, '{"time":"2026-11-29T02:12:03.545597592Z","phase":"doing","step":"fetch","type":"progress","done":300,"total":400,"part":"root","part_done":300,"part_total":400}');
INSERT INTO trident_events VALUES ('20261129-021203-ELHEVL', 5, '{"time":"2026-11-29T02:12:03.545598599Z","phase":"doing","step":"fetch","type":"metric","name":"fetch.bytes","value":400,"unit":"bytes"}');
INSERT INTO trident_events VALUES ('20261129-021203-ELHEVL', 6, '{"time":"2026-11-29T02:12:03.54563695Z","phase":"doing","step":"fetch","type":"log","level":"WARN","message":"slow","attributes":{"rate":"1"}}');
INSERT INTO trident_events VALUES ('20261129-021203-ELHEVL', 7, '{"time":"2026-11-29T02:12:03.593657263Z","phase":"doing","step":"fetch","type":"metric","name":"step.duration","value":0.084284896,"unit":"s"}');
INSERT INTO trident_events VALUES ('20261129-021203-ELHEVL', 8, '{"time":"2026-11-29T02:12:03.593661222Z","phase":"doing","step":"write","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021203-ELHEVL', 9, '{"time":"2026-11-29T02:12:03.626229583Z","phase":"doing","step":"write","type":"metric","name":"step.duration","value":0.032569492,"unit":"s"}');
INSERT INTO trident_events VALUES ('20261129-021203-ELHEVL', 10, '{"time":"2026-11-29T02:12:03.626448036Z","phase":"doing","step":"restart","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021203-ELHEVL', 11, '{"time":"2026-11-29T02:12:03.647895026Z","phase":"doing","step":"restart","type":"change","waiting":"restart"}');
INSERT INTO trident_events VALUES ('20261129-021203-ELHEVL', 12, '{"time":"2026-11-29T02:12:03.671356465Z","phase":"doing","step":"restart","type":"metric","name":"step.duration","value":0.044910441,"unit":"s"}');
INSERT INTO trident_events VALUES ('20261129-021203-ELHEVL', 13, '{"time":"2026-11-29T02:12:03.671358573Z","phase":"doing","step":"settle","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021203-ELHEVL', 14, '{"time":"2026-11-29T02:12:03.708702585Z","phase":"doing","step":"settle","type":"metric","name":"step.duration","value":0.03734452,"unit":"s"}');
INSERT INTO trident_events VALUES ('20261129-021203-ELHEVL', 15, '{"time":"2026-11-29T02:12:03.708705386Z","phase":"done","step":"settle","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021204-G3DXBG', 1, '{"time":"2026-11-29T02:12:04.262117635Z","phase":"doing","step":"fetch","type":"change"}');
INSERT INTO trident_events VALUES ('20261129-021204-G3DXBG', 2, '{"time":"2026-11-29T02:12:04.287747976Z","phase":"doing","step":"fetch","type":"log","message":"fetching https://host/cut.cosi"}');
INSERT INTO trident_events VALUES ('20261129-021204-G3DXBG', 3, '{"time":"2026-11-29T02:12:04.317530022Z","phase":"doing","step":"fetch","type":"progress","done":100,"total":400}');
INSERT INTO trident_events VALUES ('20261129-021204-G3DXBG', 4, '{"time":"2026-11-29T02:12:04.323304633Z","phase":"doing","step":"fetch","type":"progress","done":300,"total":400,"part":"root","part_done":300,"part_total":400}');
INSERT INTO trident_events VALUES ('20261129-021204-G3DXBG', 5, '{"time":"2026-11-29T02:12:04.323306607Z","phase":"doing","step":"fetch","type":"metric","name":"fetch.bytes","value":400,"unit":"bytes"}');
INSERT INTO trident_events VALUES ('20261129-021204-G3DXBG', 6, '{"time":"2026-11-29T02:12:04.323361Z","phase":"doing","step":"fetch","type":"log","level":"WARN","message":"slow","attributes":{"rate":"1"}}');
INSERT INTO trident_events VALUES ('20261129-021204-G3DXBG', 7, '{"time":"2026-11-29T02:12:04.32555596Z","phase":"doing","step":"fetch","type":"metric","name":"step.duration","value":0.063465169,"unit":"s"}');
INSERT INTO trident_events VALUES ('20261129-021204-G3DXBG', 8, '{"time":"2026-11-29T02:12:04.325558221Z","phase":"doing","step":"write","type":"change"}');
CREATE TABLE trident_blocked (
	version TEXT PRIMARY KEY,
	body TEXT NOT NULL
);
INSERT INTO trident_blocked VALUES ('2.0.0', '{"version":"2.0.0","reason":"it hung","time":"1970-01-01T00:00:01Z","operation":"20261129-021203-6OI22D","evidence":"/var/lib/trident/self/evidence/2.0.0"}');
CREATE TABLE hoststatus (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	timestamp TEXT DEFAULT CURRENT_TIMESTAMP,
	contents TEXT NOT NULL
);
INSERT INTO hoststatus VALUES (1, '2026-11-29 02:12:03', 'spec:
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
INSERT INTO hoststatus VALUES (2, '2026-11-29 02:12:03', 'spec:
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
INSERT INTO hoststatus VALUES (3, '2026-11-29 02:12:03', 'spec:
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
INSERT INTO hoststatus VALUES (4, '2026-11-29 02:12:03', 'spec:
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
INSERT INTO hoststatus VALUES (5, '2026-11-29 02:12:04', 'spec:
  os:
    hostname: first
servicingState: provisioned
lastError:
  message: ''write image: the disk is full''
  error: servicing
  category: servicing
  location: internal/hoststate_test/freeze_test.go:62
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
INSERT INTO hoststatus VALUES (6, '2026-11-29 02:12:04', 'spec:
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
INSERT INTO trident_hoststatus VALUES (5, 'd3275f534e6bc1f8307f969e6196aa2c1fe4174e85fbc06022070529161a145d');
INSERT INTO trident_hoststatus VALUES (6, 'cfe13d65939509c6755a00cc8f9ad70fde5f948f90ba8ef4c6a7ec9cd689df6d');
