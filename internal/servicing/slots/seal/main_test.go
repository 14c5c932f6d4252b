package seal_test

import (
	"testing"

	"github.com/trident-project/trident/internal/hosttest"
)

func TestMain(m *testing.M) { hosttest.Main(m) }
