package hostconfig

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

func TestSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Size{
		"grow": Grow, "4096": 4096, "4K": 4096, "8M": 8 << 20, "8G": 8 << 30, "3T": 3 << 40, "1073741824": 1 << 30, "12288": 12288,
		"8 G": 8 << 30, " 16 M\t": 16 << 20, " 4096 ": 4096,
	} {
		got, err := parseSize(text)
		if err != nil || got != want {
			t.Errorf("%s is %d, %v", text, got, err)
		}
		if again, err := parseSize(got.String()); err != nil || again != got {
			t.Errorf("%s is written as %s, which is %d, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "0", "K", "1", "4097", "1K", "-4096", "8m", "8 0G", "G 8", "8GB", "1.5G", "Grow", "99999999T", "18446744073709551616", "0x1000"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q is taken as %d", text, got)
		}
	}
}

// level is a made-up scalar: its methods are all that is written for it.
type level uint8

func (level) Values() form.Values { return form.Words("low", "high") }

func (l *level) parse(text, _ string) error {
	switch text {
	case "low":
		*l = 1
	case "high":
		*l = 2
	default:
		return errors.New("is not a level")
	}
	return nil
}

func (l level) String() string { return []string{"", "low", "high"}[l] }

// colour is a made-up scalar of words only.
type colour string

func (colour) Values() form.Values { return form.Words[colour]("red", "green") }

type madeUp struct {
	Level  level    `key:"level" default:"low"`
	Levels []level  `key:"levels"`
	Colour colour   `key:"colour,required"`
	More   []colour `key:"more"`
}

// A new scalar type is its methods, and nothing else: the decoder, defaults, messages and
// the writer take it from there. The package schema has the same test.
func TestANewScalarTypeIsItsMethods(t *testing.T) {
	t.Parallel()
	decode := func(text string) (madeUp, Report) {
		n, bad := load([]byte(text), maxText)
		if bad != nil {
			t.Fatal(bad.message)
		}
		var v madeUp
		d := decoder{places: places{}}
		d.decodeValue(n, reflect.ValueOf(&v).Elem(), "", 0, mustBeGiven)
		return v, d.report
	}
	v, report := decode("{levels: [high, low], colour: green, more: [red]}")
	if len(report) > 0 || v.Level != 1 || len(v.Levels) != 2 || v.Levels[0] != 2 || v.Colour != "green" {
		t.Fatalf("got %+v, %v", v, report)
	}
	var text []string
	for _, n := range (writer{}).structure(reflect.ValueOf(&v).Elem(), "").Content {
		text = append(text, n.Value)
		for _, item := range n.Content {
			text = append(text, item.Value)
		}
	}
	if got, want := strings.Join(text, " "), "levels  high low colour green more  red"; got != want { // level is at its default
		t.Errorf("it is written as %q; want %q", got, want)
	}
	for text, want := range map[string]string{
		"{colour: red, level: middle}": "level: is not a level",
		"{colour: gren}":               "colour: is \"gren\"; did you mean green? wants one of red, green",
		"{colour: [red]}":              "colour: is a list; wants one of red, green",
	} {
		if _, report := decode(text); len(report) != 1 || !strings.Contains(report[0].String(), want) {
			t.Errorf("%s: got %v; want %q", text, report, want)
		}
	}
}
