package builtins

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"

	"b9.build/b9/builtins/internal/builtinstest"
	"b9.build/b9/builtins/lang"
)

// TestATargetTakesLittleMemory bounds what a large workspace keeps of a target: evaluated and
// linked, and of what a build goes on with. No test runs beside it, so what is in use is
// its own.
func TestATargetTakesLittleMemory(t *testing.T) {
	const packages, each = 100, 20
	files := map[string]string{lang.RootFile: ""}
	for p := range packages {
		files[filepath.Join(fmt.Sprint("p", p), lang.BuildFile)] = fmt.Sprintf(`
def chain(last):
    for i in range(1, %d):
        last = template(name = "t%%d" %% i, content = "${before}%%d\n" %% i, vars = {"before": last})
chain(file(name = "t0", content = "p%d"))
`, each, p)
	}
	root := t.TempDir()
	builtinstest.WriteWorkspace(t, root, files)
	ws, err := lang.Open(context.Background(), lang.Config{Dir: root, Operations: Operations(Settings{})})
	if err != nil {
		t.Fatal(err)
	}
	before := inUse()
	graph, err := ws.Resolve(context.Background(), []string{"//..."})
	if err != nil || len(graph.Targets) != packages*each {
		t.Fatalf("%d targets: %v", len(graph.Targets), err)
	}
	evaluated := (inUse() - before) / (packages * each)
	made := graph.Detach()
	ws.Release()
	graph = nil
	released := (inUse() - before) / (packages * each)
	if evaluated > 1700 || released > 900 {
		t.Errorf("a target takes %d bytes when it is evaluated and %d when a build goes on, want 1700 and 900 at most", evaluated, released)
	}
	t.Logf("%d and %d bytes a target", evaluated, released)
	runtime.KeepAlive(made)
	runtime.KeepAlive(ws)
}

// inUse is how many bytes are in use.
func inUse() int64 {
	var m runtime.MemStats
	for range 2 { // what finalizers held goes with the second
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
