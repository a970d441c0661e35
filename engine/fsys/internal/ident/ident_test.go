package ident

import (
	"bytes"
	"testing"
)

// TestParse takes back what New and Text write, and nothing else.
func TestParse(t *testing.T) {
	h := NewHash()
	h.Text("a")
	h.Numbers(1)
	id := New(h.Sum()[:16])
	b, err := Parse(id)
	if err != nil || Text(b) != id || id[14] != '8' {
		t.Errorf("%s is read as %x, %v", id, b, err)
	}
	for _, s := range []string{"", "x", id[1:], id + "0", id[:35] + "g", "6f1dc3a20-b57-4f7e-9d6c-2f8b0c1e4a55", "6f1dc3a20b574f7e9d6c2f8b0c1e4a55"} {
		if b, err := Parse(s); err == nil {
			t.Errorf("%q is read as %x", s, b)
		}
	}
	if got := Text(make([]byte, 16)); got != "" {
		t.Errorf("zeros are %q", got)
	}
}

// TestHashKeepsTextsApart counts where one text ends and the next begins.
func TestHashKeepsTextsApart(t *testing.T) {
	sum := func(texts ...string) []byte {
		h := NewHash()
		for _, s := range texts {
			h.Text(s)
		}
		return h.Sum()
	}
	if bytes.Equal(sum("ab", "c"), sum("a", "bc")) {
		t.Error("two series of texts have one hash")
	}
}
