package main

import (
	"bufio"
	"cmp"
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// cycle is the number of landings within which every scenario runs.
const cycle = 6

// A scenario is one line of the table.
type scenario struct {
	name    string
	seconds int      // how long its guests run on two processors
	turn    int      // it is due in the landings that have this remainder modulo cycle
	covers  []string // folders, relative to the root of the tree; its own file last
}

// due returns the first landing from the given one on in which s has its turn.
func (s scenario) due(landing int) int {
	return landing + (s.turn-landing%cycle+cycle)%cycle
}

// isChanged reports whether one of the changed files lies in a folder that s covers.
func (s scenario) isChanged(changed []string) bool {
	return slices.ContainsFunc(s.covers, func(place string) bool {
		return slices.ContainsFunc(changed, func(file string) bool {
			return file == place || strings.HasPrefix(file, place+"/")
		})
	})
}

// A plan divides the table into what runs in one landing and what does not.
type plan struct {
	due, changed, postponed []scenario
	seconds                 int // of due and changed together
}

// planFor returns the plan of a landing. The scenarios that are due run, because each
// scenario runs at least once in cycle successive landings. Then the scenarios that cover
// changed files run, as many as fit into the budget of seconds, those first whose turn
// is farthest. planFor fails when the due scenarios exceed the budget.
func planFor(table []scenario, landing, budget int, changed []string) (plan, error) {
	var p plan
	var others []scenario
	for _, s := range table {
		if s.due(landing) == landing {
			p.due = append(p.due, s)
			p.seconds += s.seconds
		} else {
			others = append(others, s)
		}
	}
	if p.seconds > budget {
		return plan{}, fmt.Errorf("the scenarios that are due in landing %d take %d s of guests, more than the budget of %d s; give some of them another turn", landing, p.seconds, budget)
	}
	slices.SortStableFunc(others, func(a, b scenario) int { return cmp.Compare(b.due(landing), a.due(landing)) })
	for _, s := range others {
		if s.isChanged(changed) && p.seconds+s.seconds <= budget {
			p.changed = append(p.changed, s)
			p.seconds += s.seconds
		} else {
			p.postponed = append(p.postponed, s)
		}
	}
	return p, nil
}

// readTable reads the table of scenarios: lines of name, seconds, turn and folders.
func readTable(path string) ([]scenario, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var table []scenario
	seen := map[string]bool{}
	lines := bufio.NewScanner(f)
	for number := 1; lines.Scan(); number++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		s, err := parseLine(fields)
		if err == nil && seen[s.name] {
			err = fmt.Errorf("the scenario %s has another line above", s.name)
		}
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, number, err)
		}
		seen[s.name] = true
		table = append(table, s)
	}
	return table, lines.Err()
}

func parseLine(fields []string) (scenario, error) {
	if len(fields) < 4 {
		return scenario{}, fmt.Errorf("%d fields; a line is a name, seconds, a turn, and at least one folder", len(fields))
	}
	s := scenario{name: fields[0], covers: fields[3:]}
	var err error
	if s.seconds, err = strconv.Atoi(fields[1]); err != nil || s.seconds <= 0 {
		return s, fmt.Errorf("%q is not a number of seconds", fields[1])
	}
	if s.turn, err = strconv.Atoi(fields[2]); err != nil || s.turn < 0 || s.turn >= cycle {
		return s, fmt.Errorf("turn %q is not a number from 0 to %d", fields[2], cycle-1)
	}
	return s, nil
}

// findScenarios returns the file of each test below root/internal/e2e that is built
// with the tag vm only, by the name of the test; files are relative to root.
func findScenarios(root string) (map[string]string, error) {
	found := map[string]string{}
	err := filepath.WalkDir(filepath.Join(root, "internal/e2e"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil || !needsVM(file) {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Test") || f.Name.Name == "TestMain" {
				continue
			}
			if other, ok := found[f.Name.Name]; ok {
				return fmt.Errorf("%s and %s both have a scenario %s; rename one of them", other, rel, f.Name.Name)
			}
			found[f.Name.Name] = rel
		}
		return nil
	})
	return found, err
}

// needsVM reports whether a file is built with the tag vm and not without it. A draft is not:
// a scenario that has not passed yet, which is built with the tag draft alone.
func needsVM(file *ast.File) bool {
	for _, group := range file.Comments {
		for _, c := range group.List {
			if c.Pos() > file.Package || !constraint.IsGoBuild(c.Text) {
				continue
			}
			expr, err := constraint.Parse(c.Text)
			return err == nil && expr.Eval(func(tag string) bool { return tag != "draft" }) &&
				!expr.Eval(func(tag string) bool { return tag != "vm" })
		}
	}
	return false
}

// complete checks that table and tree have the same scenarios, and that the folders in
// the table exist. It adds the file of each scenario to what the scenario covers.
func complete(table []scenario, root string) error {
	files, err := findScenarios(root)
	if err != nil {
		return err
	}
	for i, s := range table {
		file, ok := files[s.name]
		if !ok {
			return fmt.Errorf("the table has the scenario %s, but no file in internal/e2e has that test; rename or remove the line", s.name)
		}
		delete(files, s.name)
		for _, folder := range s.covers {
			if _, err := os.Stat(filepath.Join(root, folder)); err != nil {
				return fmt.Errorf("the scenario %s covers a folder that does not exist: %w", s.name, err)
			}
		}
		table[i].covers = append(slices.Clone(s.covers), file)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		return fmt.Errorf("the table lacks the scenario %s of %s; add a line with its seconds, the turn that has the fewest seconds, and the folders that it covers", name, files[name])
	}
	return nil
}
