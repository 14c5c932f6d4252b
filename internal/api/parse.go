package api

import (
	"context"
	"fmt"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/rules"
)

// Parsing a Host Configuration takes up to 170 times its size in memory, so few are
// parsed at a time. Large ones do not delay small ones.
const (
	smallConfig    = 64 << 10 // bytes
	maxSmallParses = 16       // small ones
	maxLargeParses = 1
	maxBulkCalls   = 4 // calls with long answers; see rule.isBulk
)

// parser parses the Host Configurations of all callers.
type parser struct{ small, large slots }

func newParser() *parser { return &parser{newSlots(maxSmallParses), newSlots(maxLargeParses)} }

// parse waits for a slot and calls hostconfig.Parse. It fails only if ctx ends; faults of
// the text are in the report.
func (p *parser) parse(ctx context.Context, text []byte) (*hostconfig.Config, hostconfig.Report, error) {
	s := p.small
	if len(text) > smallConfig {
		s = p.large
	}
	release, err := s.take(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("parse the Host Configuration: %w", err)
	}
	defer release()
	config, report := hostconfig.Parse(text, rules.Check)
	return config, report, nil
}

// slots bounds how many callers do something at a time.
type slots chan struct{}

func newSlots(n int) slots { return make(slots, n) }

// take waits for a slot.
func (s slots) take(ctx context.Context) (release func(), err error) {
	select {
	case s <- struct{}{}:
		return func() { <-s }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for other callers: %w", context.Cause(ctx))
	}
}
