package hostconfig

// Config is a document without a fault. Its zero value is not one.
type Config struct {
	spec   Spec
	places places
	extras extras
}

// Spec is the content of the document. It is shared: nobody changes it.
func (c *Config) Spec() *Spec { return &c.spec }

// Amend is c with what change does to its content: what only a servicing finds
// out, as the hash of an image that was asked for as ignored. No rule is looked at again. c stays as it is.
func (c *Config) Amend(change func(*Spec)) *Config {
	text := c.YAML()
	out, err := parseRecorded(text, len(text))
	if err != nil {
		// What YAML writes is read again: the fuzz tests are for this.
		panic("hostconfig: read what was written: " + err.Error())
	}
	change(&out.spec)
	return out
}

// place is a position in a document, from 1.
type place struct{ line, column int }

// places is where in the document every key and list item is, by path: the
// paths of Finding. A key's place is that of the key, an item's that of its value.
type places map[string]place

// at is where path is, or the nearest thing above it that is in the document.
func (p places) at(path string) place {
	for {
		if pos, ok := p[path]; ok || path == "" {
			return pos
		}
		path = parent(path)
	}
}

// fault is a finding of severity Error at path.
func (p places) fault(path, name, message string) Finding {
	pos := p.at(path)
	return Finding{Line: pos.line, Column: pos.column, Path: path, Severity: Error, Name: name, Message: message}
}

// parent cuts the last key or index off path.
func parent(path string) string {
	for i := len(path) - 1; i > 0; i-- {
		if path[i] == '.' || path[i] == '[' {
			return path[:i]
		}
	}
	return ""
}
