package main

import (
	"strings"
	"testing"
)

// A display that was drawn twice is shown as it is at the end.
func TestPicture(t *testing.T) {
	var screen terminal
	screen.write("$ b9\r\n\x1b[1m[1/2]\x1b[0m a\x1b[K\r\n  old\x1b[K\r\n\x1b[2A\r\x1b[J//:a <\x1b[32mdone\x1b[0m>\r\n2 steps, much too wide\r\n")
	var b strings.Builder
	if err := screen.svg(&b, "a & b", 10); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	for _, want := range []string{`aria-label="a &amp; b"`, `<tspan class="">//:a &lt;</tspan><tspan class="g">done</tspan>`, `<tspan class="">2 steps, m</tspan></text>`} {
		if !strings.Contains(got, want) {
			t.Errorf("it lacks %s:\n%s", want, got)
		}
	}
	if strings.Contains(got, "old") || strings.Count(got, "<text") != 3 {
		t.Errorf("it shows what was erased:\n%s", got)
	}
}
