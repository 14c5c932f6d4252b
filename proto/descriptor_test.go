// Package proto_test guards the wire: what a program outside was built against
// has to stay what it is.
package proto_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/trident-project/trident/proto/trident/handles/v1"
	_ "github.com/trident-project/trident/proto/trident/host/v1"
	_ "github.com/trident-project/trident/proto/trident/machine/v1"
	_ "github.com/trident-project/trident/proto/trident/operations/v1"
	_ "github.com/trident-project/trident/proto/trident/self/v1"
	_ "github.com/trident-project/trident/proto/trident/setup/v1"
	_ "github.com/trident-project/trident/proto/trident/v1"
	_ "github.com/trident-project/trident/proto/trident/v1preview"
)

var update = flag.Bool("update", false, "rewrite testdata/wire.txt")

// facts lists everything of our packages that is on the wire, one line each.
func facts() []string {
	var out []string
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		if strings.HasPrefix(string(f.Package()), "trident.") {
			out = append(out, fileFacts(f)...)
		}
		return true
	})
	slices.Sort(out)
	return out
}

func fileFacts(f protoreflect.FileDescriptor) []string {
	var out []string
	for s := range each(f.Services()) {
		out = append(out, fmt.Sprintf("service %s", s.FullName()))
		for m := range each(s.Methods()) {
			out = append(out, fmt.Sprintf("service %s method %s(%s%s) returns (%s%s)", s.FullName(), m.Name(),
				word(m.IsStreamingClient(), "stream "), m.Input().FullName(), word(m.IsStreamingServer(), "stream "), m.Output().FullName()))
		}
	}
	for e := range each(f.Enums()) {
		out = append(out, enumFacts(e)...)
	}
	for m := range each(f.Messages()) {
		out = append(out, messageFacts(m)...)
	}
	return out
}

func messageFacts(m protoreflect.MessageDescriptor) []string {
	out := []string{fmt.Sprintf("message %s", m.FullName())}
	for f := range each(m.Fields()) {
		line := fmt.Sprintf("message %s field %04d %s %s%s%s", m.FullName(), f.Number(), f.Name(),
			word(f.IsList(), "repeated "), word(f.HasOptionalKeyword(), "optional "), typeOf(f))
		if o := f.ContainingOneof(); o != nil && !o.IsSynthetic() {
			line += fmt.Sprintf(" oneof %s", o.Name())
		}
		out = append(out, line)
	}
	for e := range each(m.Enums()) {
		out = append(out, enumFacts(e)...)
	}
	for sub := range each(m.Messages()) {
		out = append(out, messageFacts(sub)...)
	}
	return out
}

func enumFacts(e protoreflect.EnumDescriptor) []string {
	out := []string{fmt.Sprintf("enum %s", e.FullName())}
	for v := range each(e.Values()) {
		out = append(out, fmt.Sprintf("enum %s value %04d %s", e.FullName(), v.Number(), v.Name()))
	}
	return out
}

func typeOf(f protoreflect.FieldDescriptor) string {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return string(f.Message().FullName())
	case protoreflect.EnumKind:
		return string(f.Enum().FullName())
	}
	return f.Kind().String()
}

func word(is bool, w string) string {
	if is {
		return w
	}
	return ""
}

// each ranges over a list of descriptors.
func each[T any](list interface {
	Len() int
	Get(int) T
}) func(func(T) bool) {
	return func(yield func(T) bool) {
		for i := range list.Len() {
			if !yield(list.Get(i)) {
				return
			}
		}
	}
}

func TestTheWireMatchesItsSnapshot(t *testing.T) {
	const path = "testdata/wire.txt"
	got := strings.Join(facts(), "\n") + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("the wire has changed: a line that is gone breaks callers; after lines were only added, run with -update (-was +is):\n%s", diff)
	}
}

// Upstream's enums and ours begin with a value that means nothing was said.
func TestEveryEnumBeginsUnspecified(t *testing.T) {
	for _, line := range facts() {
		if strings.Contains(line, " value 0000 ") && !strings.HasSuffix(line, "_UNSPECIFIED") {
			t.Errorf("%s is not an unspecified", line)
		}
	}
}
