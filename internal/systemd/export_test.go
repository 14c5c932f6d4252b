package systemd

// Earliest is earliest, for tests.
var Earliest = earliest
