package osconfig

import (
	"slices"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// database is one of the files of users and groups: a line each, of fields that
// colons divide, the first of which is the name. Lines that are not changed stay
// byte for byte, also those that make no sense.
type database struct {
	name   string // /etc/passwd
	fields int    // of a line
	exists bool
	lines  []string
}

// Numbers of fields of a line (passwd(5), shadow(5), group(5), gshadow(5)).
const (
	passwdFields  = 7
	shadowFields  = 9
	groupFields   = 4
	gshadowFields = 4
)

func readDatabase(root, name string, fields int) (*database, error) {
	was, err := readOriginal(root, name)
	if err != nil {
		return nil, err
	}
	return &database{name, fields, was.exists(), lines(was.text)}, was.close()
}

func (d *database) text() string { return strings.Join(d.lines, "") }

// find is the first line of that name, which is the one that counts; nil for none.
func (d *database) find(name string) ([]string, error) {
	i := d.index(name)
	if i < 0 {
		return nil, nil
	}
	fields := strings.Split(strings.TrimSuffix(d.lines[i], "\n"), ":")
	if len(fields) != d.fields {
		return nil, errkind.Errorf(errkind.Corrupt, "%s: line %d, of %q, has %d fields and not %d", d.name, i+1, name, len(fields), d.fields)
	}
	return fields, nil
}

func (d *database) index(name string) int {
	return slices.IndexFunc(d.lines, func(l string) bool {
		first, _, _ := strings.Cut(strings.TrimSuffix(l, "\n"), ":")
		return first == name
	})
}

// set replaces the line of the name in the first field, or adds one: before those
// that bring in another database (+ and -, nsswitch.conf(5)), which end the file.
func (d *database) set(fields []string) {
	line := strings.Join(fields, ":")
	if i := d.index(fields[0]); i >= 0 {
		if strings.TrimSuffix(d.lines[i], "\n") != line {
			d.lines[i] = line + "\n"
		}
		return
	}
	i := slices.IndexFunc(d.lines, func(l string) bool { return l[0] == '+' || l[0] == '-' })
	if i < 0 {
		i = len(d.lines)
		if i > 0 && !strings.HasSuffix(d.lines[i-1], "\n") {
			d.lines[i-1] += "\n"
		}
	}
	d.lines = slices.Insert(d.lines, i, line+"\n")
}

// ids are the numbers in the third field, which passwd and group have, and the
// names that have them.
func (d *database) ids() map[uint32]string {
	out := map[uint32]string{}
	for _, l := range d.lines {
		fields := strings.Split(strings.TrimSuffix(l, "\n"), ":")
		if len(fields) < 3 {
			continue
		}
		id, err := strconv.ParseUint(fields[2], 10, 32)
		if _, ok := out[uint32(id)]; err == nil && !ok {
			out[uint32(id)] = fields[0]
		}
	}
	return out
}

// idRange is where new numbers come from, both ends included.
type idRange struct{ least, most uint32 }

// next is the number after the highest in use, as useradd(8) takes it, or the
// lowest free one where there is none.
func (r idRange) next(used func(uint32) bool, all []uint32) (uint32, bool) {
	next := uint64(r.least)
	for _, id := range all {
		if id >= r.least && id <= r.most {
			next = max(next, uint64(id)+1)
		}
	}
	if next <= uint64(r.most) {
		return uint32(next), true
	}
	for id := uint64(r.least); id <= uint64(r.most); id++ { // ends after len(all)+1 rounds
		if !used(uint32(id)) {
			return uint32(id), true
		}
	}
	return 0, false
}

func (r idRange) contains(id uint32) bool { return id >= r.least && id <= r.most }

// withMember adds a name to a list that commas divide.
func withMember(list, name string) string {
	members := strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
	if slices.Contains(members, name) {
		return list
	}
	return strings.Join(append(members, name), ",")
}
