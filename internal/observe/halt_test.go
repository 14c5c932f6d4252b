package observe

import "testing"

func TestAHaltedOperationIsANumber(t *testing.T) {
	t.Parallel()
	for _, is := range []bool{false, true} {
		families, err := newMetrics(Config{Halted: func() bool { return is }}).registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, f := range families {
			if f.GetName() == "trident_operation_halted" {
				found = true
				if got := f.GetMetric()[0].GetGauge().GetValue(); got != boolNumber(is) {
					t.Errorf("halted %v is %v", is, got)
				}
			}
		}
		if !found {
			t.Error("it is not there")
		}
	}
}
