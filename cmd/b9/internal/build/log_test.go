package build

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// grown is a writer that tells when a text has been written to it.
type grown struct {
	buf   bytes.Buffer
	until string
	seen  chan struct{}
}

func (g *grown) Write(p []byte) (int, error) {
	n, err := g.buf.Write(p)
	if g.until != "" && strings.Contains(g.buf.String(), g.until) {
		close(g.seen)
		g.until = ""
	}
	return n, err
}

// TestFollow holds that a log is followed until its step ends, and that the step of
// another workspace, or one that nobody runs any more, is none that runs.
func TestFollow(t *testing.T) {
	st, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	scratch, err := st.Scratch("//:web")
	if err != nil {
		t.Fatal(err)
	}
	name := engine.StepName("//:web", "/ws")
	log := filepath.Join(scratch.Dir(), "log")
	for file, text := range map[string]string{log: "one\n", filepath.Join(scratch.Dir(), "step"): name} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if path, err := engine.Running(st, engine.StepName("//:web", "/other")); path != "" || err != nil {
		t.Errorf("of another workspace: %q, %v", path, err)
	}
	path, err := engine.Running(st, name)
	if path != log || err != nil {
		t.Fatalf("running %q, %v, want %q", path, err, log)
	}
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := &grown{until: "one\n", seen: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- (&foundLog{st, log, name}).follow(t.Context(), out, f) }()
	<-out.seen
	more, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer more.Close()
	if _, err := more.WriteString("two\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Fatalf("ended before the step did: %v", err)
	case <-time.After(2 * followInterval):
	}
	if err := scratch.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil || out.buf.String() != "one\ntwo\n" {
		t.Errorf("followed %q, %v", out.buf.String(), err)
	}
	if path, err := engine.Running(st, name); path != "" || err != nil {
		t.Errorf("afterwards: %q, %v", path, err)
	}
}
