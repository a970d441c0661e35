package content

import (
	"bytes"
	"slices"
	"testing"

	"b9/engine/content/internal/mutate"
)

// erlTargets are the parsers of this package.
func erlTargets() []mutate.Target {
	return []mutate.Target{
		{
			Name:   "erlang",
			Seeds:  slices.DeleteFunc(erlCases(), func(s string) bool { return len(s) > 300 }),
			Tokens: ". , | { } [ ] ( ) #{ => << >> : / - + $ \\ ' \" \"\"\" % fun a b 16# 1.5e3 _ ~s ${a} ${b} /binary /utf8 :8 \\x{ é coding:latin-1",
			Holds:  holdsErl,
		},
	}
}

func FuzzErl(f *testing.F) { mutate.Fuzz(f, erlTargets(), "erlang") }

func TestMutationsErl(t *testing.T) { mutate.Run(t, erlTargets()) }

// holdsErl: what was read is printed so that it reads back equal and prints
// the same again.
func holdsErl(t testing.TB, text string) bool {
	vars := map[string]ErlTerm{"a": NewErlString("x"), "b": NewErlInt("1")}
	terms, err := ParseErl("x", text, ErlOptions{Vars: vars})
	if err != nil {
		mutate.Inside(t, text, err)
		return false
	}
	printed := FormatErl(terms)
	again, err := ParseErl("y", string(printed), ErlOptions{})
	if err != nil || len(again) != len(terms) {
		t.Fatalf("%q is printed as %q: %v", text, printed, err)
	}
	for i := range terms {
		if !terms[i].Equal(&again[i]) {
			t.Fatalf("%q is printed as %q", text, printed)
		}
	}
	if twice := FormatErl(again); !bytes.Equal(printed, twice) {
		t.Fatalf("%q is printed as %q and then as %q", text, printed, twice)
	}
	for _, s := range ErlStrategies() {
		_, _ = MergeErl([][]ErlTerm{terms, again}, ErlStrategy(s))
	}
	return true
}
