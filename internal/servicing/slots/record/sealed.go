package record

import "github.com/trident-project/trident/internal/slot"

// Sealed says with which tokens the TPM opens an encrypted volume when a slot boots. It is
// recorded before the tokens are made, so that each token is known after a power cut. Each
// operation takes over the list of the one before.
type Sealed struct {
	Volume string    `json:"volume"` // its ID in the configuration
	Slot   slot.Slot `json:"slot"`
	// Policies are the digests of the tokens' policies, in hexadecimal. Tokens are known by
	// them, because another program may use the number of a token again.
	Policies []string `json:"policies"`
	// Mixed are those of Policies for a boot with the boot loader of one slot and the kernel of the
	// other. They are removed with the tokens of either slot. Older releases recorded none.
	Mixed []string `json:"mixed,omitempty"`
	// Making is set while tokens are made, and Bare are the key slots without a token from
	// before. Until Making is reset, other slots without a token are halves of new tokens.
	Making bool  `json:"making,omitempty"`
	Bare   []int `json:"bare"`
	// Own is set if this operation has made the tokens; its undo removes them.
	Own bool `json:"own"`
	// Interim is set until the first boot of an installation, whose tokens do not depend on
	// the programs that the firmware starts.
	Interim bool `json:"interim,omitempty"`
}
