package hoststate

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
)

// Bounds of the policy: its settings are few, and each is short.
const (
	maxSettings = 100
	maxSetting  = 16 << 10 // of one value, in bytes
)

// Policy returns the settings of the owner's policy that SetPolicy has stored: a JSON value
// by the name of the setting. The map is empty if nothing is stored.
func (s *Store) Policy(ctx context.Context) (map[string]json.RawMessage, error) {
	type setting struct{ Name, Value string }
	rows, err := query(ctx, s, func(_ uint64, body string) (setting, error) { return decode[setting](body) },
		`SELECT rowid, json_object('name', name, 'value', value) FROM trident_policy ORDER BY name LIMIT ?`, maxSettings)
	if err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	out := make(map[string]json.RawMessage, len(rows))
	for _, r := range rows {
		if !json.Valid([]byte(r.Value)) {
			return nil, damaged(fmt.Errorf("read the policy: the setting %.80q is not JSON", r.Name))
		}
		out[r.Name] = json.RawMessage(r.Value)
	}
	return out, nil
}

// SetPolicy stores values, and deletes the settings that reset names, in one transaction. A
// name that is in both is stored. SetPolicy returns an error of kind Invalid for a value that
// is not JSON or has more than 16 KiB, and if there were more than 100 settings.
func (s *Store) SetPolicy(ctx context.Context, values map[string]json.RawMessage, reset []string) error {
	for name, value := range values {
		switch {
		case name == "" || !json.Valid(value):
			return errkind.Errorf(errkind.Invalid, "store the setting %.80q: its value is not JSON", name)
		case len(value) > maxSetting:
			return errkind.Errorf(errkind.Invalid, "store the setting %.80q: its value has %d bytes, and may have %d", name, len(value), maxSetting)
		}
	}
	return s.write(ctx, func(tx *sql.Tx) error {
		for _, name := range reset {
			if _, err := tx.ExecContext(ctx, `DELETE FROM trident_policy WHERE name = ?`, name); err != nil {
				return err
			}
		}
		for _, name := range slices.Sorted(maps.Keys(values)) {
			if _, err := tx.ExecContext(ctx, `INSERT INTO trident_policy (name, value) VALUES (?, ?)
				ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, string(values[name])); err != nil {
				return err
			}
		}
		var n int
		err := tx.QueryRowContext(ctx, `SELECT count(*) FROM trident_policy`).Scan(&n)
		if err == nil && n > maxSettings {
			err = errkind.Errorf(errkind.Invalid, "store the policy: it would have %d settings, and may have %d", n, maxSettings)
		}
		return err
	})
}
