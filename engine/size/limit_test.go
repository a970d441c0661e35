package size

import "testing"

func TestParseLimit(t *testing.T) {
	for text, want := range map[string]Limit{"50%": {Percent: 50}, " 1% ": {Percent: 1}, "100%": {Percent: 100}, "2G": {Bytes: 2 << 30}, "0": {}} {
		got, err := ParseLimit(text)
		if err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
		if again, err := ParseLimit(got.String()); err != nil || again != got {
			t.Errorf("%v is written %q, which is read as %v, %v", got, got.String(), again, err)
		}
	}
	for _, text := range []string{"0%", "101%", "-5%", "x%", "%", "1.5%", "", "5%%"} {
		if got, err := ParseLimit(text); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}
