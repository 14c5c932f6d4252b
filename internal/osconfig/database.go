package osconfig

import (
	"slices"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// database is one of the files of users and groups. Each line is one user or group:
// fields separated by colons, the name first. Lines that set does not change stay byte
// for byte, malformed lines too.
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

// find returns the fields of the first line with that name (libc ignores further
// lines), or nil if no line has it. It fails, with errkind.Corrupt, if the line has
// another number of fields than the format.
func (d *database) find(name string) ([]string, error) {
	i := d.index(name)
	if i < 0 {
		return nil, nil
	}
	fields := strings.Split(strings.TrimSuffix(d.lines[i], "\n"), ":")
	if len(fields) != d.fields {
		return nil, errkind.Errorf(errkind.Corrupt, "%s: line %d (%q) has %d fields, not %d", d.name, i+1, name, len(fields), d.fields)
	}
	return fields, nil
}

func (d *database) index(name string) int {
	return slices.IndexFunc(d.lines, func(l string) bool {
		first, _, _ := strings.Cut(strings.TrimSuffix(l, "\n"), ":")
		return first == name
	})
}

// set replaces the line with the name fields[0], or adds one. set adds it before the
// lines that begin with + or -, which include another database (nsswitch.conf(5)) and
// have to be last.
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

// ids returns the name for each number in the third field: user IDs of passwd, group
// IDs of group. The first of several names with one number counts.
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

// idRange is the range of IDs for new users or groups, both ends included.
type idRange struct{ least, most uint32 }

// next returns the ID for a new user or group: the highest of all in the range plus
// one, as useradd(8) does, else the lowest ID that is not used; false if none is free.
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

// withMember adds a name to a comma-separated list that does not have it.
func withMember(list, name string) string {
	members := strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
	if slices.Contains(members, name) {
		return list
	}
	return strings.Join(append(members, name), ",")
}
