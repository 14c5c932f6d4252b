package hostconfig

import (
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

// typesIn are all types that t is made of.
func typesIn(t reflect.Type, seen map[string]reflect.Type) map[string]reflect.Type {
	if seen[t.Name()] != nil && t.Name() != "" {
		return seen
	}
	seen[t.Name()] = t
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			typesIn(t.Field(i).Type, seen)
		}
	case reflect.Slice, reflect.Pointer, reflect.Map:
		typesIn(t.Elem(), seen)
	}
	return seen
}

func TestEveryConstantIsAWordOfItsTypeAndTheOtherWayRound(t *testing.T) {
	t.Parallel()
	types := typesIn(reflect.TypeFor[Spec](), map[string]reflect.Type{})
	found := map[string][]string{}
	for _, name := range []string{"enums.go", "types.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.ValueSpec); ok && s.Type != nil {
				text, err := strconv.Unquote(s.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				found[s.Type.(*ast.Ident).Name] = append(found[s.Type.(*ast.Ident).Name], text)
			}
			return true
		})
	}
	delete(found, "ImageHash") // a word or a hash
	if len(found) < 13 {
		t.Errorf("constants of %d types only", len(found))
	}
	for name, constants := range found {
		if types[name] == nil {
			t.Errorf("no field has type %s", name)
		} else if known := wordsOf(types[name]); !slices.Equal(known, constants) {
			t.Errorf("%s has the words %q and the constants %q", name, known, constants)
		}
	}
	for name, typ := range types {
		if wordsOf(typ) != nil && found[name] == nil {
			t.Errorf("%s has words and no constants", name)
		}
	}
}

func TestEveryDefaultIsAValue(t *testing.T) {
	t.Parallel()
	for name, typ := range typesIn(reflect.TypeFor[Spec](), map[string]reflect.Type{
		"SystemdCheck": reflect.TypeFor[SystemdCheck](), "HealthCheck": reflect.TypeFor[HealthCheck]()}) {
		if typ.Kind() != reflect.Struct || name == "HealthCheck" {
			continue
		}
		setDefaults(reflect.New(typ).Elem()) // panics at one that is none
	}
}

func TestPCRsAreWrittenByName(t *testing.T) {
	t.Parallel()
	for n := range PCR(maxPCR + 1) {
		var got PCR
		if err := got.parse(n.String(), form.KindOfText(n.String())); err != nil || got != n {
			t.Errorf("%d is written %s, which is %d, %v", n, n, got, err)
		}
	}
}
