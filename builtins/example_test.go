package builtins_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"b9.build/b9/builtins"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// A program opens a workspace, resolves a target and builds it. One whose steps
// run in containers also opens a backend, in engine.Config, and calls
// backends.Main first in its main.
func Example() {
	dir := workspace(`file(name = "motd", content = "hello\n")`)
	defer os.RemoveAll(dir)

	ctx := context.Background()
	ws := must(lang.Open(ctx, lang.Config{Dir: dir, Operations: builtins.Operations(builtins.Settings{})}))
	ref := must(ws.Resolve(ctx, []string{"//:motd"})).Targets[0].Refs[0]
	st := must(store.Open(filepath.Join(dir, ".store"), store.Options{}))
	defer st.Close()
	eng := engine.New(engine.Config{Store: st})
	defer eng.Close()
	result := must(eng.Build(ctx, ref))
	fmt.Printf("%d step executed: %s", result.Executed, must(result.Artifact(ref).ReadAll(1<<20)))
	// Output: 1 step executed: hello
}

// workspace makes a workspace with one build file.
func workspace(text string) string {
	dir := must(os.MkdirTemp("", "b9-example-*"))
	for name, text := range map[string]string{lang.RootFile: "", lang.BuildFile: text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			log.Fatal(err)
		}
	}
	return dir
}

// must ends the program where something went wrong.
func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
