package hosttest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// everyCut is the variable of the environment with which all cases run, as in .ci/run.
const everyCut = "TRIDENT_EVERY_CUT"

// turns is how many successive landings run all cases between them.
const turns = 3

// InTurn reports whether the case with that number of a power-cut test runs. There are too
// many cases for each run of make test: each runs in one of three successive landings, by the
// number in .ci/landing, and all run with TRIDENT_EVERY_CUT=1.
func InTurn(n int) bool { return InTurnOf(n, 1) }

// InTurnOf is InTurn for a test with so many cases that each runs in one of rarity times as many
// successive landings, and with TRIDENT_EVERY_CUT=1 in one of three, if rarity is more than 1.
func InTurnOf(n, rarity int) bool {
	every := turns * rarity
	switch {
	case os.Getenv(everyCut) == "":
	case rarity == 1:
		return true
	default:
		every = turns
	}
	return n%every == landing()%every
}

// InRound is InTurn for the cuts of a scenario, which itself has its turn in one of six
// successive landings: three runs that are six landings apart make all the cuts. So do runs that
// are three apart, and runs in the landings 3n, 3n+1 and 3n+2. TRIDENT_EVERY_CUT=1 makes all
// cuts in one run.
func InRound(n int) bool {
	return os.Getenv(everyCut) != "" || n%turns == (landing()+landing()/turns)%turns
}

// landing returns the number in .ci/landing of the module; 0 if there is no such file.
var landing = sync.OnceValue(func() int {
	dir, err := os.Getwd()
	for err == nil {
		if text, err := os.ReadFile(filepath.Join(dir, ".ci/landing")); err == nil {
			n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
			return n
		}
		if filepath.Dir(dir) == dir {
			break
		}
		dir = filepath.Dir(dir)
	}
	return 0
})
