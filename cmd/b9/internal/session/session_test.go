package session

import (
	"errors"
	"testing"

	"b9.build/b9/cmd/b9/internal/exit"
)

// TestTheTimeOfABuildIsAWholeNumber: another value would stand for a time that nobody
// asked for.
func TestTheTimeOfABuildIsAWholeNumber(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "0": 0, "1700000000": 1700000000, "9223372035": 9223372035} {
		t.Setenv("SOURCE_DATE_EPOCH", text)
		got, err := Epoch()
		if err != nil || got.Unix() != want || got.UnixNano() != want*1_000_000_000 {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"1700000000.5", "1e9", "12abc", "2020-01-01", "-1", " 5", "0x10", "9223372037", "99999999999999999999"} {
		t.Setenv("SOURCE_DATE_EPOCH", text)
		got, err := Epoch()
		var status *exit.Error
		if !errors.As(err, &status) || status.Status != 2 {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
