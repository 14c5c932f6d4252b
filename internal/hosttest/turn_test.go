package hosttest

import "testing"

// Three successive landings run each case once.
func TestEachCaseHasItsTurnInOneOfThreeLandings(t *testing.T) {
	for n := range 9 {
		ran := 0
		for l := range turns {
			t.Setenv(everyCut, "")
			old := landing
			landing = func() int { return 7 + l }
			if InTurn(n) {
				ran++
			}
			t.Setenv(everyCut, "1")
			if !InTurn(n) {
				t.Errorf("case %d does not run with all others", n)
			}
			landing = old
		}
		if ran != 1 {
			t.Errorf("case %d runs %d times", n, ran)
		}
	}
}

// A rarer case runs once in as many more landings.
func TestARareCaseHasItsTurnOnce(t *testing.T) {
	const rarity = 4
	old := landing
	defer func() { landing = old }()
	t.Setenv(everyCut, "")
	for n := range 2 * turns * rarity {
		ran := 0
		for l := range turns * rarity {
			landing = func() int { return 7 + l }
			if InTurnOf(n, rarity) {
				ran++
			}
		}
		if ran != 1 {
			t.Errorf("case %d runs %d times", n, ran)
		}
	}
	landing = func() int { return 7 }
	if t.Setenv(everyCut, "1"); !InTurnOf(1, rarity) || InTurnOf(2, rarity) || InTurnOf(3, rarity) || !InTurnOf(4, rarity) {
		t.Error("not every third rare case runs with all others")
	}
}

// Whichever landings of three are those of a scenario: three runs make each cut once.
func TestThreeRunsOfAScenarioMakeEachCutOnce(t *testing.T) {
	old := landing
	defer func() { landing = old }()
	for _, landings := range [][]int{{0, 3, 6}, {7, 10, 13}, {5, 8, 11}, {0, 6, 12}, {4, 10, 16}, {7, 13, 19}, {3, 4, 5}, {9, 10, 11}} {
		for n := range 7 {
			ran := 0
			for _, l := range landings {
				landing = func() int { return l }
				t.Setenv(everyCut, "")
				if InRound(n) {
					ran++
				}
				if t.Setenv(everyCut, "1"); !InRound(n) {
					t.Errorf("cut %d is not made with all others", n)
				}
			}
			if ran != 1 {
				t.Errorf("cut %d is made %d times in the landings %v", n, ran, landings)
			}
		}
	}
}
