package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// greeting is a Source: it stands for a file of the machine that it reads when it
// runs.
type greeting struct {
	Path string
}

func (*greeting) Kind() string { return "greeting/1" }

func (g *greeting) Fingerprint(context.Context, *engine.World) (store.Digest, error) {
	text, err := os.ReadFile(g.Path)
	return store.Sum(text), err
}

func (g *greeting) Run(_ context.Context, job *engine.Job) error {
	text, err := os.ReadFile(g.Path)
	if err != nil {
		return err
	}
	if store.Sum(text) != job.Fingerprint() {
		return errors.New("the greeting was changed meanwhile: build again")
	}
	return os.WriteFile(job.Output(""), text, 0o644)
}

// A program builds a graph of its own actions.
func Example() {
	dir, err := os.MkdirTemp("", "b9-example-*")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := greet(dir); err != nil {
		log.Fatal(err)
	}
	// Output: hello: 1 step executed
}

func greet(dir string) error {
	path := filepath.Join(dir, "greeting")
	if err := os.WriteFile(path, []byte("hello"), 0o644); err != nil {
		return err
	}
	st, err := store.Open(filepath.Join(dir, "store"), store.Options{})
	if err != nil {
		return err
	}
	defer st.Close()
	n, err := engine.NewNode(&greeting{Path: path}, engine.NodeOptions{Label: "//:greeting", Outputs: []engine.Output{{Kind: store.File}}})
	if err != nil {
		return err
	}
	result, err := engine.New(engine.Config{Store: st}).Build(context.Background(), n.Ref(""))
	if err != nil {
		return err
	}
	text, err := result.Artifact(n.Ref("")).ReadAll(1 << 20)
	fmt.Printf("%s: %d step executed\n", text, result.Executed)
	return err
}
