package position

import (
	"fmt"
	"strings"
	"testing"
)

func TestString(t *testing.T) {
	for want, p := range map[string]Position{
		"-":     {},
		"f":     {File: "f"},
		"f:2:3": {"f", 2, 3},
	} {
		if got := p.String(); got != want {
			t.Errorf("%#v is %s, want %s", p, got, want)
		}
	}
	if got := (Position{"f", 2, 3}).Errorf("no %s", "x").Error(); got != "f:2:3: no x" {
		t.Error(got)
	}
}

func TestJoin(t *testing.T) {
	var all []*Error
	if err := Join(all); err != nil {
		t.Errorf("no mistake is %v", err)
	}
	for i := range MaxErrors + 2 {
		all = append(all, Position{"f", i + 1, 1}.Errorf("bad"))
	}
	if err := Join(all[:1]); err != error(all[0]) {
		t.Errorf("one mistake is %v", err)
	}
	if got, want := Join(all[:2]).Error(), "f:1:1: bad\nf:2:1: bad"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	lines := strings.Split(Join(all).Error(), "\n")
	if want := fmt.Sprintf("f: %d more mistakes", 2); len(lines) != MaxErrors+1 || lines[MaxErrors] != want {
		t.Errorf("got %q, want %d lines and then %s", lines, MaxErrors, want)
	}
}
