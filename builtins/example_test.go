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

// A program loads a workspace, resolves targets and builds them.
func Example() {
	dir, err := os.MkdirTemp("", "b9-example-*")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	write(dir, "b9.toml", "")
	write(dir, "B9BUILD.star", `file(name = "motd", content = "hello\n")`)

	if err := build(dir, "//:motd"); err != nil {
		log.Fatal(err)
	}
	// Output: //:motd: 6 bytes, 1 step executed
}

func build(dir, target string) error {
	ctx := context.Background()
	ws, err := lang.Open(ctx, lang.Config{Dir: dir, Operations: builtins.Operations(builtins.Settings{})})
	if err != nil {
		return err
	}
	graph, err := ws.Resolve(ctx, []string{target})
	if err != nil {
		return err
	}
	st, err := store.Open(filepath.Join(dir, ".store"), store.Options{})
	if err != nil {
		return err
	}
	defer st.Close()
	ref := graph.Targets[0].Refs[0]
	result, err := engine.New(engine.Config{Store: st}).Build(ctx, ref)
	if err != nil {
		return err
	}
	size, err := result.Artifact(ref).Size()
	fmt.Printf("%s: %d bytes, %d step executed\n", graph.Targets[0], size, result.Executed)
	return err
}

func write(dir, name, text string) {
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		log.Fatal(err)
	}
}
