package display

import (
	"strings"
	"testing"
)

// TestConsole prints warnings above what a build shows, and as they are without one.
func TestConsole(t *testing.T) {
	var out strings.Builder
	c := NewConsole(&out)
	if c.Line() != nil {
		t.Error("a line is shown where there is no terminal")
	}
	c.Pause()()
	c.Warn("no %s", "build")
	_, end := c.Build(Options{Mode: "json", Getenv: environ()})
	c.Pause()()
	c.Warn("in a build")
	end()
	c.Warn("after it")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || lines[0] != "b9: warning: no build" || !strings.Contains(lines[1], `"event":"note","line":"b9: warning: in a build"`) || lines[2] != "b9: warning: after it" {
		t.Errorf("printed:\n%s", out.String())
	}
}
