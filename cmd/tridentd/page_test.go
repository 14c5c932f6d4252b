package main

import (
	"flag"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestTheManualPageHasEveryOptionAndItsDefault(t *testing.T) {
	page, err := os.ReadFile("../../packaging/man/tridentd.8")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), ".SH OPTIONS\n")
	section, _, _ = strings.Cut(section, "\n.SH ")
	described := map[string]string{}
	for _, entry := range strings.Split(section, ".TP\n")[1:] {
		head, text, _ := strings.Cut(strings.ReplaceAll(entry, `\-`, "-"), "\n")
		described[regexp.MustCompile(`-[a-z-]+`).FindString(head)] = text
	}
	var o options
	var names []string
	o.flags().VisitAll(func(f *flag.Flag) {
		names = append(names, "-"+f.Name)
		text, ok := described["-"+f.Name]
		if !ok {
			t.Errorf("tridentd(8) does not describe -%s", f.Name)
		}
		if f.DefValue != "" && f.DefValue != "false" && !strings.Contains(text, "(default "+f.DefValue+")") {
			t.Errorf("tridentd(8) does not say that -%s is %s by default", f.Name, f.DefValue)
		}
	})
	for name := range described {
		if !slices.Contains(names, name) {
			t.Errorf("tridentd(8) describes %s, which is not an option", name)
		}
	}
}
