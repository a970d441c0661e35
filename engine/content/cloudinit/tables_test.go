package cloudinit

import (
	"fmt"
	"strings"
	"testing"
)

// TestTables reads every table: a mistake in one panics.
func TestTables(t *testing.T) {
	if n := len(configRule().fields); n < 90 {
		t.Errorf("the table of a cloud-config has only %d keys", n)
	}
	for name, r := range map[string]*rule{"network_v1.yaml": networkV1(), "network_v2.yaml": networkV2(), "patch": patch()} {
		if r.items == nil && len(r.fields) == 0 {
			t.Errorf("%s says nothing", name)
		}
	}
	if config().rule("no_such_key") != nil {
		t.Error("there is a rule for a key that the table does not have")
	}
}

func TestTableMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"{keys: {a: txet}}":         `f:1:12: unknown kind "txet"`,
		"{kyes: {a: text}}":         `f:1:2: unknown word "kyes"`,
		"{type: text, check: mca}":  `f:1:21: unknown check "mca"`,
		"{type: text, minItems: a}": "f:1:24: want int64, got text",
		"{enum: [on]}":              "on is the bool true here",
		"{keys: [}":                 `want a value`,
	} {
		t.Run(text, func(t *testing.T) {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, want) {
					t.Errorf("%s, want %s", got, want)
				}
			}()
			tableRule("f", text)
		})
	}
}
