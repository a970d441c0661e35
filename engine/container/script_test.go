package container

import (
	"strings"
	"testing"
)

func TestCheckScript(t *testing.T) {
	for _, c := range []struct {
		text       string
		shellNamed bool
		want       string // "" for none
	}{
		{"#!/bin/sh\necho\n", false, ""},
		{"#!/bin/sh", false, ""},
		{"echo\n", true, ""},
		{"echo\n", false, "no #! line"},
		{"", false, "no #! line"},
		{"", true, ""},
		{"#!/bin/sh\r\necho\r\n", false, "carriage returns"},
		{"echo\r\n", true, "carriage returns"},
		{"printf 'a\r\\n'\nx\r\n", true, ""}, // one in a later line may be meant
		{"\xef\xbb\xbf#!/bin/sh\n", false, "byte-order mark"},
		{"\xef\xbb\xbfecho\n", true, "byte-order mark"},
		{"\x00asm", false, ""}, // not a text: the kernel may know it
	} {
		err := CheckScript([]byte(c.text), c.shellNamed)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
	}
}
