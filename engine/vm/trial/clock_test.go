package trial

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestClock counts time for a machine that runs, a part of it for one that waits, and ends
// what has a limit then and not before.
func TestClock(t *testing.T) {
	c := &clock{limits: map[*limit]bool{}}
	over := errors.New("over")
	ctx, done := c.limit(t.Context(), time.Minute, over)
	other, end := c.limit(t.Context(), time.Minute, over)
	end()
	c.add(15*time.Second, 0)
	c.add(15*time.Second, -300*time.Second) // a thread that had waited has ended
	c.add(100*time.Second, 99*time.Second)  // of which a twentieth counts
	if ctx.Err() != nil {
		t.Error("it ends before its time")
	}
	c.add(30*time.Second, 0)
	if context.Cause(ctx) != over {
		t.Errorf("it ends with %v", context.Cause(ctx))
	}
	if context.Cause(other) == over || len(c.limits) != 0 {
		t.Error("what is done has a limit yet")
	}
	done()
	ctx, done = c.limit(t.Context(), time.Second, over)
	defer done()
	c.add(20*time.Second, 30*time.Second) // as of several threads
	if context.Cause(ctx) != over {
		t.Error("a machine that waits all the time has no limit")
	}
}

// TestText leaves of what a terminal gets the text alone, wherever reads cut it.
func TestText(t *testing.T) {
	const said = "a\x1b[1;31mb\x1b[0m\r\n\x1b]0;title\x07c\x1bPq\x1b\\d\x1b(Be\x1bcf\x00\b\tg\xc3\xa9\x7f"
	const want = "ab\ncdef\tg\xc3\xa9"
	for n := 1; n <= len(said); n++ {
		var plain text
		var got []byte
		for rest := said; rest != ""; {
			part := rest[:min(n, len(rest))]
			got = append(got, plain.of([]byte(part))...)
			rest = rest[len(part):]
		}
		if string(got) != want {
			t.Errorf("in parts of %d bytes: %q, want %q", n, got, want)
		}
	}
}

// TestValid refuses what is no check, all of it.
func TestValid(t *testing.T) {
	good := []Check{says("x"), runs(0, "", "true"), {Name: "h", Kind: kindHTTP, Port: 80, Status: 200, Path: "/"}, {Name: "r", Kind: kindReboot}, {Name: "p", Kind: kindPoweroff}}
	if err := Valid(good); err != nil {
		t.Error(err)
	}
	if Valid(nil) == nil || Valid([]Check{good[4], good[0]}) == nil {
		t.Error("nothing, or something behind poweroff, is checked")
	}
	for what, spoil := range map[string]func(c []Check){
		"no name":       func(c []Check) { c[0].Name = "" },
		"two lines":     func(c []Check) { c[0].Name = "a\nb" },
		"no kind":       func(c []Check) { c[0].Kind = "wait" },
		"no expression": func(c []Check) { c[0].Pattern = "(" },
		"no text":       func(c []Check) { c[0].Pattern = "" },
		"no command":    func(c []Check) { c[1].Argv = nil },
		"no status":     func(c []Check) { c[1].Status = 256 },
		"no port":       func(c []Check) { c[2].Port = 0 },
		"no answer":     func(c []Check) { c[2].Status = 0 },
		"no path":       func(c []Check) { c[2].Path = "x" },
	} {
		bad := append([]Check(nil), good...)
		spoil(bad)
		if err := Valid(bad); err == nil {
			t.Errorf("%s is let pass", what)
		}
	}
}
