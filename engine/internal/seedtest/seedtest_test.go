package seedtest

import (
	"testing"
	"time"
)

// TestSameSeed draws the same again from the same seed, and another from another seed or
// under another name.
func TestSameSeed(t *testing.T) {
	draw := func(seed, name string) (list [4]time.Duration) {
		t.Setenv(Variable, seed)
		t.Run(name, func(t *testing.T) {
			moment := Moments(t)
			for i := range list {
				if list[i] = moment(time.Hour); list[i] < 0 || list[i] >= time.Hour {
					t.Errorf("drew %v", list[i])
				}
			}
		})
		return list
	}
	first := draw("7", "a")
	if again := draw("7", "a"); again == first { // the second has the name a#01
		t.Error("the name does not count")
	}
	if draw("8", "b") == first {
		t.Error("the seed does not count")
	}
	t.Setenv(Variable, "7")
	if a, b := Random(t).Uint64(), Random(t).Uint64(); a != b || Seed() != 7 {
		t.Errorf("the same seed gives %d and %d", a, b)
	}
	t.Setenv(Variable, "")
	if a := Seed(); a == 0 || a == 7 {
		t.Errorf("without a seed: %d", a)
	}
}
