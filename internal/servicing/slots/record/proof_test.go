package record

import (
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/slot"
)

// A part is done only with the proof of its own file.
func TestAPartIsNotDoneWithTheProofOfAnotherFile(t *testing.T) {
	t.Parallel()
	p := Part{Name: "/", File: "images/root"}
	if err := p.Verified(image.Verified{}, image.File{Path: "images/root", SHA384: "ab"}); errkind.Of(err) != errkind.Internal || !strings.Contains(err.Error(), "/ is done without a proof of images/root") {
		t.Errorf("%v", err)
	}
	if p.Done || p.Proof != "" {
		t.Errorf("it is done: %+v", p)
	}
	for _, parts := range [][]Part{{p}, {{Name: "/", Done: true, SHA384: "ab"}}, {{Name: "/", Done: true, SHA384: "ab", Proof: "cd"}}} {
		r := Record{Slot: slot.B, Parts: parts}
		if proof, err := r.Prove(); err == nil || proof.Of(slot.B) {
			t.Errorf("%+v is a proof: %v", parts, err)
		}
	}
	for _, tree := range []Tree{{RootHash: "ef"}, {RootHash: "ef", Proof: "gh", In: "boot"}} {
		r := Record{Slot: slot.B, Parts: []Part{{Name: "/", Done: true, SHA384: "ab", Proof: "ab", Tree: &tree}}}
		if proof, err := r.Prove(); err == nil || proof.Of(slot.B) || !strings.Contains(err.Error(), "/ was not compared with its verity hash tree") {
			t.Errorf("%+v is a proof: %v", tree, err)
		}
		if err := r.Parts[0].Proven("gh", "boot"); err == nil {
			t.Error("it was compared with another root hash")
		}
		if err := r.Parts[0].Proven("ef", "boot"); err != nil || !tree.IsProven("boot") || tree.IsProven("next") {
			t.Errorf("%+v, %v", tree, err)
		}
		if proof, err := r.Prove(); err != nil || !proof.Of(slot.B) {
			t.Errorf("compared: %v", err)
		}
	}
	r := Record{Slot: slot.B, Parts: []Part{{Name: "/", Done: true, SHA384: "ab", Proof: "ab"}}}
	if proof, err := r.Prove(); err != nil || !proof.Of(slot.B) || proof.Of(slot.A) {
		t.Errorf("a proof of %+v: %v", proof, err)
	}
}

// A record whose configuration cannot be read says so, and no step runs with it.
func TestARecordWithoutAConfigurationRunsNoStep(t *testing.T) {
	t.Parallel()
	r := hosttest.RoundTrip[Record](t, strings.Replace(earlier, `"asked":"os:\n  hostname: a\n"`, `"asked":"os: [\n"`, 1))
	if _, err := r.Config(); err == nil || !strings.HasPrefix(err.Error(), "read record: ") {
		t.Errorf("%v", err)
	}
	if id := RootID(&hostconfig.Storage{}); id != "" {
		t.Errorf("the root device of no storage is %q", id)
	}
	if id := ESPID(&hostconfig.Storage{}); id != "" {
		t.Errorf("the ESP of no storage is %q", id)
	}
}

// A record that says that a part was written by blocks proves nothing without its tree.
func TestOnlyATreeProvesWhatWasWrittenByBlocks(t *testing.T) {
	t.Parallel()
	part := func(tree *Tree) Record {
		return Record{Slot: slot.B, Parts: []Part{{Name: "/usr", Done: true, ByTree: true, SHA384: "ab", Tree: tree}}}
	}
	for _, r := range []Record{part(nil), part(&Tree{RootHash: "ef"}), part(&Tree{RootHash: "ef", Proof: "gh"})} {
		if proof, err := r.Prove(); err == nil || proof.Of(slot.B) {
			t.Errorf("%+v is a proof", r.Parts[0].Tree)
		}
	}
	r := part(&Tree{RootHash: "ef", Proof: "ef", In: "boot"})
	if proof, err := r.Prove(); err != nil || !proof.Of(slot.B) {
		t.Error(err)
	}
	p := Part{Name: "/boot"}
	if err := p.WrittenByBlocks(); err == nil || p.Done {
		t.Error("a part without a hash tree is done without a proof")
	}
	for _, root := range []string{"ef", strings.Repeat("x", 64), strings.Repeat("0", 66)} {
		p := Part{Tree: &Tree{RootHash: root}}
		if _, err := p.Root(); err == nil || !strings.Contains(err.Error(), "the recorded root hash") {
			t.Errorf("%s: %v", root, err)
		}
	}
	if _, err := p.Root(); err == nil {
		t.Error("a part without a hash tree has a root hash")
	}
}
