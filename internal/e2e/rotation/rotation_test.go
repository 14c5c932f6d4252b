package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTheTableHasEveryScenarioAndEachLandingFits(t *testing.T) {
	t.Chdir("../../..")
	ran := map[string]bool{}
	for landing := range cycle {
		var names, report strings.Builder
		if err := run(landing, defaultBudget, strings.NewReader(""), &names, &report); err != nil {
			t.Error(err)
		}
		t.Log(report.String())
		for _, name := range strings.Fields(names.String()) {
			ran[name] = true
		}
	}
	all, err := findScenarios(".")
	if err != nil || len(all) < 50 || len(ran) != len(all) {
		t.Errorf("%d of %d scenarios run in a cycle of landings: %v", len(ran), len(all), err)
	}
}

// A change of a folder meets some of its scenarios in the landing that has the change,
// even where the budget has no room for more than the due ones.
func TestEachLandingCoversEachFolderThatManyScenariosCover(t *testing.T) {
	table, err := readTable("scenarios.txt")
	if err != nil {
		t.Fatal(err)
	}
	turns := map[string][]int{}
	for _, s := range table {
		for _, folder := range s.covers {
			turns[folder] = append(turns[folder], s.turn)
		}
	}
	for folder, of := range turns {
		for turn := range cycle {
			if len(of) >= cycle && !slices.Contains(of, turn) {
				t.Errorf("%s has %d scenarios, and none in turn %d; give one of them that turn", folder, len(of), turn)
			}
		}
	}
}

// Whatever the table and the changes are: a plan keeps its budget, each scenario runs at
// least once in a cycle of landings, and no scenario of changed files that fits is
// postponed.
func TestEveryScenarioRunsInACycleOfLandings(t *testing.T) {
	plans := 0
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 1))
		var table []scenario
		for i := range 1 + r.IntN(60) {
			table = append(table, scenario{
				name: fmt.Sprint("Test", i), seconds: 1 + r.IntN(600), turn: r.IntN(cycle),
				covers: []string{fmt.Sprint("internal/", r.IntN(8))},
			})
		}
		budget := r.IntN(12000)
		first := r.IntN(1000)
		ran := map[string]bool{}
		fits := true
		for landing := first; landing < first+cycle; landing++ {
			changed := []string{fmt.Sprintf("internal/%d/a.go", r.IntN(10)), "docs/README.md"}
			p, err := planFor(table, landing, budget, changed)
			if err != nil {
				fits = false
				break
			}
			plans++
			again, _ := planFor(table, landing, budget, changed)
			chosen, total := slices.Concat(p.due, p.changed), 0
			if fmt.Sprint(p) != fmt.Sprint(again) {
				t.Fatalf("seed %d, landing %d: two plans for the same landing differ", seed, landing)
			}
			for _, s := range chosen {
				ran[s.name] = true
				total += s.seconds
			}
			if total != p.seconds || total > budget || len(chosen)+len(p.postponed) != len(table) {
				t.Fatalf("seed %d, landing %d: %d s in a budget of %d s; %+v", seed, landing, total, budget, p)
			}
			for _, s := range p.postponed {
				if s.isChanged(changed) && total+s.seconds <= budget {
					t.Fatalf("seed %d, landing %d: %+v is postponed although it fits", seed, landing, s)
				}
			}
		}
		if fits && len(ran) != len(table) {
			t.Fatalf("seed %d: %d of %d scenarios ran in a cycle of landings", seed, len(ran), len(table))
		}
	}
	if plans < 200 {
		t.Fatalf("only %d plans were made: the test proves little", plans)
	}
}

func TestChangedFilesBringTheirScenarios(t *testing.T) {
	table := []scenario{
		{"TestDue", 10, 3, []string{"cmd"}},
		{"TestNext", 10, 4, []string{"internal/boot"}},
		{"TestAfter", 10, 5, []string{"internal/boot", "internal/e2e/vm_x_test.go"}},
		{"TestOther", 10, 5, []string{"internal/bootloader"}},
	}
	for _, c := range []struct {
		changed, want string
		budget        int
	}{
		{"docs/boot.md", "TestDue", 100},
		{"internal/boot/deep/a.go", "TestDue TestAfter TestNext", 100}, // TestAfter waits longest
		{"internal/boot/a.go", "TestDue TestAfter", 20},
		{"internal/e2e/vm_x_test.go", "TestDue TestAfter", 100},
	} {
		p, err := planFor(table, 3, c.budget, []string{c.changed})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range slices.Concat(p.due, p.changed) {
			names = append(names, s.name)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%s in %d s: %s, want %s", c.changed, c.budget, got, c.want)
		}
	}
	if _, err := planFor(table, 3, 9, nil); err == nil || !strings.Contains(err.Error(), "another turn") {
		t.Errorf("a budget that is smaller than the due scenarios: %v", err)
	}
}

func TestATableThatDoesNotFitTheTreeIsRefused(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("internal/e2e/vm_a_test.go", "//go:build vm\n\npackage e2e\n\nfunc TestMain() {}\nfunc TestA() {}\nfunc helper() {}\n")
	write("internal/e2e/lab/b_test.go", "//go:build vm && amd64\n\npackage lab\n\nfunc TestB() {}\n")
	write("internal/e2e/vm_draft_test.go", "//go:build vm && draft\n\npackage e2e\n\nfunc TestDraft() {}\n")
	write("internal/e2e/root_test.go", "//go:build root\n\npackage e2e\n\nfunc TestRoot() {}\n")
	write("internal/e2e/plain_test.go", "package e2e\n\nfunc TestPlain() {}\n")
	for table, want := range map[string]string{
		"# a comment\n\nTestA 5 1 internal/e2e\nTestB 5 2 internal\n": "",
		"TestA 5 0 internal\n":                                "lacks the scenario TestB of internal/e2e/lab/b_test.go",
		"TestA 5 0 internal\nTestB 5 0 x\nTestC 1 1 internal": "scenario TestB covers a folder that does not exist",
		"TestC 1 1 internal\n":                                "has the scenario TestC",
		"TestRoot 1 1 internal\n":                             "has the scenario TestRoot",
		"TestA 5 0 internal\nTestA 5 0 internal\n":            "line 2: the scenario TestA has another line above",
		"TestA 5 6 internal\n":                                `turn "6" is not`,
		"TestA 0 1 internal\n":                                `"0" is not a number of seconds`,
		"TestA 5 1\n":                                         "3 fields",
	} {
		write("table", table)
		got, err := readTable(filepath.Join(root, "table"))
		if err == nil {
			err = complete(got, root)
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", table, err, want)
		}
	}
	write("internal/e2e/vm_b_test.go", "//go:build vm\n\npackage e2e\n\nfunc TestB() {}\n")
	if _, err := findScenarios(root); err == nil || !strings.Contains(err.Error(), "rename one of them") {
		t.Errorf("two scenarios of one name: %v", err)
	}
}
