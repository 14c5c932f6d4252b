package runtime

import "encoding/json"

// A purpose is what an operation is for.
type purpose int

const (
	updates  purpose = iota // or only logs why there is nothing to do
	adopts                  // updates a host that was never provisioned before
	goesBack                // rolls the host back
	unstages                // discards what is staged
)

// plainRecord is record without its methods.
type plainRecord record

// journaled is record in the journal, where other releases read the purpose in three fields.
type journaled struct {
	*plainRecord
	Fresh   bool `json:"fresh"`
	Back    bool `json:"back"`
	Unstage bool `json:"unstage"`
}

// MarshalJSON writes the purpose as the fields that other releases read.
func (r record) MarshalJSON() ([]byte, error) {
	return json.Marshal(journaled{(*plainRecord)(&r), r.Purpose == adopts, r.Purpose == goesBack, r.Purpose == unstages})
}

// UnmarshalJSON reads what MarshalJSON, or an earlier release, wrote.
func (r *record) UnmarshalJSON(text []byte) error {
	in := journaled{plainRecord: (*plainRecord)(r)}
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	switch r.Purpose = updates; {
	case in.Fresh:
		r.Purpose = adopts
	case in.Back:
		r.Purpose = goesBack
	case in.Unstage:
		r.Purpose = unstages
	}
	return nil
}
