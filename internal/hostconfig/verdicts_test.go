package hostconfig

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

func TestDraft(t *testing.T) {
	f, err := os.Open("../../../shared/testdata/hostconfig-verdicts.jsonl.gz")
	if err != nil {
		t.Skip(err)
	}
	z, _ := gzip.NewReader(f)
	sc := bufio.NewScanner(z)
	sc.Buffer(nil, 1<<24)
	out, _ := os.Create("/tmp/hostconfig-x/diff.jsonl")
	n, sv, sn := 0, 0, 0
	for sc.Scan() {
		var d struct{ ID, Verdict, Name, YAML string }
		json.Unmarshal(sc.Bytes(), &d)
		n++
		c, r := Parse([]byte(d.YAML))
		v := "accept"
		if c == nil {
			v = "refuse"
		}
		names := map[string]bool{}
		for _, x := range r {
			if x.Severity != Error {
				continue
			}
			nm := x.Name
			if x.Detail != "" {
				nm += "/" + x.Detail
			}
			if nm == "ParseHostConfiguration" {
				nm = "ParseHostConfigurationFile"
			}
			names[nm] = true
		}
		ok := v == d.Verdict
		if ok {
			sv++
		}
		nameok := ok && (v == "accept" || names[d.Name] || len(names) == 0)
		if nameok {
			sn++
			continue
		}
		var l []string
		for x := range names {
			l = append(l, x)
		}
		b, _ := json.Marshal(map[string]any{"id": d.ID, "v": d.Verdict, "name": d.Name, "ours": v, "oursnames": strings.Join(l, ","), "report": lines(r), "yaml": d.YAML})
		out.Write(append(b, '\n'))
	}
	t.Logf("%d documents, %d same verdict (%.2f), %d same name (%.2f)", n, sv, 100*float64(sv)/float64(n), sn, 100*float64(sn)/float64(n))
}
