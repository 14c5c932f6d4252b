package operation

import (
	"bytes"
	"encoding/json"
	"regexp"
)

// withoutSecrets returns the record of an ended operation with users, passwords
// and queries removed from its URLs. Before the end a step may need them, also
// after a restart.
func withoutSecrets(state json.RawMessage) json.RawMessage {
	if !bytes.Contains(state, []byte("://")) {
		return state
	}
	in := json.NewDecoder(bytes.NewReader(state))
	in.UseNumber() // as they are
	var record any
	if in.Decode(&record) != nil {
		return state
	}
	out, err := json.Marshal(scrub(record))
	if err != nil {
		return state
	}
	return out
}

func scrub(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for key := range v {
			v[key] = scrub(v[key])
		}
	case []any:
		for i := range v {
			v[i] = scrub(v[i])
		}
	case string:
		user := regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#"]*@`)
		query := regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://[^\s?#"']*)\?[^\s#"']*`)
		return query.ReplaceAllString(user.ReplaceAllString(v, "$1"), "$1")
	}
	return value
}
