package builtins_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"b9.build/b9/builtins"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// countOperation is an operation of this program: what build files call.
func countOperation() lang.Operation {
	return lang.Operation{
		Name: "count",
		Doc:  "the number of times that a word occurs in a file, as a file",
		Params: []lang.Param{
			{Name: "src", Type: lang.File, Required: true, Doc: "the file"},
			{Name: "word", Type: lang.String, Required: true, Doc: "what is counted"},
		},
		Make: func(c *lang.Call) (lang.Step, error) {
			return lang.Step{
				Action:  &count{Word: c.String("word")},
				Inputs:  []lang.StepInput{{Role: "src", From: c.Input("src")}},
				Outputs: lang.OneFile("txt"),
			}, nil
		},
	}
}

// count is its action: what runs when no result of it is known.
type count struct{ Word string }

func (a *count) Kind() string { return "example.org/count/1" }

func (a *count) Run(_ context.Context, job *engine.Job) error {
	text, err := lang.InputText(job, "src")
	if err != nil {
		return err
	}
	return os.WriteFile(job.Output(""), fmt.Appendln(nil, strings.Count(text, a.Word)), 0o644)
}

// A program gives operations of its own to build files, beside those of b9.
func Example_operation() {
	dir := workspace(`count(name = "lines", src = file(content = "a\nb\n"), word = "\n")`)
	defer os.RemoveAll(dir)

	ctx := context.Background()
	operations := append(builtins.Operations(builtins.Settings{}), countOperation())
	ws := must(lang.Open(ctx, lang.Config{Dir: dir, Operations: operations}))
	ref := must(ws.Resolve(ctx, []string{"//:lines"})).Targets[0].Refs[0]
	st := must(store.Open(filepath.Join(dir, ".store"), store.Options{}))
	defer st.Close()
	eng := engine.New(engine.Config{Store: st})
	defer eng.Close()
	result := must(eng.Build(ctx, ref))
	fmt.Printf("%d steps executed: %s", result.Executed, must(result.Artifact(ref).ReadAll(1<<20)))
	// Output: 2 steps executed: 2
}
