// Program rotation chooses the scenarios of the VM ring that run in one landing. A landing
// is a set of commits that goes into the main branch; the file .ci/landing has its number.
// All scenarios together take longer than .ci/run may take. So each scenario is due in one
// of any six successive landings, and the time that the due scenarios leave goes to
// scenarios that cover changed files. The choice depends on the commit alone: on the
// number of the landing, the table in scenarios.txt and the changed files.
//
//	git diff --name-only BASE | go run ./internal/e2e/rotation -landing 7
//
// Standard output has the names of the scenarios to run, one a line. Standard error has
// the reason for each, and the landing in which each other scenario is due.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

// defaultBudget is how many seconds guests may run in one run of .ci/run, all guests
// added up. Two guests run at a time, so half of that time passes on the clock.
const defaultBudget = 4000

const tablePath = "internal/e2e/rotation/scenarios.txt"

func main() {
	landing := flag.Int("landing", -1, "the number in .ci/landing")
	budget := flag.Int("budget", defaultBudget, "seconds that guests may run, all guests added up")
	flag.Parse()
	if err := run(*landing, *budget, os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "rotation:", err)
		os.Exit(1)
	}
}

// run reads the names of changed files from in, one a line. The working directory is the
// root of the tree.
func run(landing, budget int, in io.Reader, names, report io.Writer) error {
	if landing < 0 {
		return errors.New("-landing is not a number from 0 on; pass the number in .ci/landing")
	}
	table, err := readTable(tablePath)
	if err != nil {
		return err
	}
	if err := complete(table, "."); err != nil {
		return err
	}
	var changed []string
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		changed = append(changed, lines.Text())
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading the names of changed files: %w", err)
	}
	p, err := planFor(table, landing, budget, changed)
	if err != nil {
		return err
	}
	fmt.Fprintf(report, "landing %d: %d of %d scenarios, %d s of guests in a budget of %d s\n",
		landing, len(p.due)+len(p.changed), len(table), p.seconds, budget)
	for _, part := range []struct {
		reason    string
		scenarios []scenario
	}{{"due", p.due}, {"changed", p.changed}} {
		for _, s := range part.scenarios {
			fmt.Fprintln(names, s.name)
			fmt.Fprintf(report, "  runs, %-11s %4d s  %s\n", part.reason, s.seconds, s.name)
		}
	}
	for _, s := range p.postponed {
		fmt.Fprintf(report, "  due in landing %-2d %4d s  %s\n", s.due(landing), s.seconds, s.name)
	}
	return nil
}
