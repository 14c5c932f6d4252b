package form

import "reflect"

// Scalar is implemented by the types of single values whose Go kind does not say which
// values there are. The decoder, messages and the JSON Schema all ask it. A Scalar that has
// values other than Words also has the method parse of the decoder, and String if a
// document has them in another form than their Go kind.
type Scalar interface{ Values() Values }

// Values describes the values of a Scalar in a document: words, other text, or numbers.
type Values struct {
	Words   []string // in the order of the reference page
	Pattern string   // a regular expression of all other text that is a value; "" if none is
	Format  string   // of that text, as JSON Schema names it
	Numbers *Numbers // nil if no whole number is a value
}

// ValuesOf returns the Values of t; false if t is not a Scalar.
func ValuesOf(t reflect.Type) (Values, bool) {
	if t.Kind() == reflect.Pointer {
		return Values{}, false
	}
	s, ok := reflect.Zero(t).Interface().(Scalar)
	if !ok {
		return Values{}, false
	}
	return s.Values(), true
}

// Numbers are the whole numbers from Min to Max that are multiples of Step. Nil and 0 mean
// no such limit.
type Numbers struct {
	Min, Max *uint64
	Step     uint64
}

// Words returns the Values of a type that has these words only.
func Words[T ~string](words ...T) Values {
	v := Values{Words: make([]string, len(words))}
	for i, w := range words {
		v.Words[i] = string(w)
	}
	return v
}
