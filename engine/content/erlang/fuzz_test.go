package erlang

import (
	"bytes"
	"slices"
	"testing"

	"b9.build/b9/engine/content/internal/mutate"
)

// targets are the parsers of this package.
func targets() []mutate.Target {
	return []mutate.Target{
		{
			Name:   "erlang",
			Seeds:  slices.DeleteFunc(cases(), func(s string) bool { return len(s) > 300 }),
			Tokens: ". , | { } [ ] ( ) #{ => << >> : / - + $ \\ ' \" \"\"\" % fun a b 16# 1.5e3 _ ~s ${a} ${b} /binary /utf8 :8 \\x{ é coding:latin-1",
			Holds:  holds,
		},
	}
}

func Fuzz(f *testing.F) { mutate.Fuzz(f, targets(), "erlang") }

func TestMutations(t *testing.T) { mutate.Run(t, targets()) }

// holds: what was read is printed so that it reads back equal and prints
// the same again.
func holds(t testing.TB, text string) bool {
	vars := map[string]Term{"a": NewString("x"), "b": NewInt("1")}
	terms, err := Parse("x", text, Options{Vars: vars})
	if err != nil {
		mutate.Inside(t, text, err)
		return false
	}
	printed := Format(terms)
	again, err := Parse("y", string(printed), Options{})
	if err != nil || len(again) != len(terms) {
		t.Fatalf("%q is printed as %q: %v", text, printed, err)
	}
	for i := range terms {
		if !terms[i].equal(&again[i]) {
			t.Fatalf("%q is printed as %q", text, printed)
		}
	}
	if twice := Format(again); !bytes.Equal(printed, twice) {
		t.Fatalf("%q is printed as %q and then as %q", text, printed, twice)
	}
	for _, s := range Strategies() {
		_, _ = Merge([][]Term{terms, again}, s)
	}
	return true
}
