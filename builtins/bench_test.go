package builtins

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"b9.build/b9/builtins/internal/builtinstest"
	"b9.build/b9/builtins/lang"
)

// BenchmarkResolve loads and resolves a workspace of 500 packages with 20
// targets each, every one of which needs the one before.
func BenchmarkResolve(b *testing.B) {
	root := b.TempDir()
	builtinstest.WriteWorkspace(b, root, generated(500, 20))
	b.ReportAllocs()
	before := cpuTime(b)
	for b.Loop() {
		w, err := openTest(context.Background(), lang.Config{Root: root})
		if err != nil {
			b.Fatal(err)
		}
		g, err := w.Resolve(context.Background(), []string{"//..."})
		if err != nil || len(g.Targets) != 10_000 {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N)/1e6, "cpu-ms/op")
}

// cpuTime is what the process has used so far, which says more than the wall
// clock on a busy machine.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func generated(packages, targets int) map[string]string {
	files := map[string]string{lang.RootFile: ""}
	for p := range packages {
		var text strings.Builder
		for i := range targets {
			switch {
			case i == 0 && p == 0:
				text.WriteString("file(name = \"t0\", content = \"start\")\n")
			case i == 0:
				fmt.Fprintf(&text, "file(name = \"t0\", src = \"//p%03d:t%d\")\n", p-1, targets-1)
			case i%2 == 0:
				fmt.Fprintf(&text, "file(name = \"t%d\", src = \":t%d\", mode = \"0600\")\n", i, i-1)
			default:
				fmt.Fprintf(&text, "template(name = \"t%d\", content = \"${a} ${b}\", vars = {\"a\": %d, \"b\": file(src = \":t%d\")})\n", i, i, i-1)
			}
		}
		files[filepath.Join(fmt.Sprintf("p%03d", p), lang.BuildFile)] = text.String()
	}
	return files
}

// TestWideAndDeep resolves the same shape smaller, from its last target only,
// which loads each package when the one after it asks for it.
func TestWideAndDeep(t *testing.T) {
	root := t.TempDir()
	builtinstest.WriteWorkspace(t, root, generated(50, 20))
	w, err := openTest(context.Background(), lang.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	g, err := w.Resolve(context.Background(), []string{"//p049:t19"})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(g.Deps(g.Targets...)); n != 50*20+50*10 {
		t.Errorf("got %d steps", n)
	}
	all := g.Deps(g.Targets...)
	if want := (lang.Label{Pkg: "p000", Name: "t0"}); all[0].Label != want {
		t.Fatalf("%s comes first, want %s", all[0], want)
	}
	if n := len(g.Rdeps(all[0])); n != len(all) {
		t.Errorf("%d steps need the first target, want all", n)
	}
	if n := readFiles(w); len(n) != 50 {
		t.Errorf("read %d files", len(n))
	}
}
