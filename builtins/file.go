package builtins

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"go.starlark.net/starlark"
	"golang.org/x/sys/unix"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/fsys/tree"
)

func fileOperation() lang.Operation {
	return lang.Operation{
		Name:       "file",
		Doc:        "a file with the content given, or a copy of a source file or of a step's result",
		Positional: 1,
		Params: []lang.Param{
			lang.NameParam(),
			{Name: "content", Type: lang.String, Doc: "the text; exactly one of content and src is given"},
			{Name: "src", Otherwise: `text is content = %[1]q`, Type: lang.File, Doc: "the file to copy"},
			{Name: "mode", Type: lang.String | lang.Int, Default: starlark.String("0644"), Doc: `permission bits, in octal: "0755" or 0o755`},
		},
		Example: `motd = file(content = "welcome\n", mode = "0644")`,
		Make:    makeFile,
	}
}

func makeFile(c *lang.Call) (lang.Step, error) {
	mode := readMode(c, "mode")
	if c.Given("content") == c.Given("src") {
		c.Errorf("give exactly one of content and src")
	}
	return lang.Step{
		Action:  &writeFile{Content: c.String("content"), Mode: mode},
		Inputs:  []lang.StepInput{{Role: "src", From: c.Input("src")}},
		Outputs: lang.ModedFile("", mode),
	}, nil
}

// readMode reads permission bits: 0o755, or a string of three or four octal digits.
func readMode(c *lang.Call, param string) uint32 {
	if s, ok := c.Value(param).(starlark.String); ok {
		n, err := parseMode(string(s))
		if err != nil {
			c.Errorf("%s: %w", param, err)
		}
		return n
	}
	n := c.Int(param)
	if n < 0 || n > 0o777 { // 644 and its like, which were meant to be octal, are larger
		c.Errorf("%s: %d are no permission bits: write them as \"0644\" or 0o644", param, n)
	}
	return uint32(n)
}

// parseMode reads permission bits given as three or four octal digits.
func parseMode(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || len(s) < 3 || len(s) > 5 || n > 0o7777 {
		return 0, fmt.Errorf("%q are no permission bits: write three or four octal digits such as \"0644\"", s)
	}
	return uint32(n), nil
}

// writeFile makes a file of Content, or of the input src if there is one.
type writeFile struct {
	Content string
	Mode    uint32
}

// Kind implements engine.Action.
func (f *writeFile) Kind() string { return "file/1" }

// Run implements engine.Action.
func (f *writeFile) Run(ctx context.Context, job *engine.Job) error {
	if !job.Has("src") {
		return writeText(job, []byte(f.Content), f.Mode)
	}
	if err := job.Input("src").Fork(ctx, job.Output("")); err != nil {
		return err
	}
	return os.Chmod(job.Output(""), permissions(f.Mode))
}

// writeText makes the only output of a step, with permission bits.
func writeText(job *engine.Job, text []byte, mode uint32) error {
	if err := os.WriteFile(job.Output(""), text, 0o600); err != nil {
		return err
	}
	return os.Chmod(job.Output(""), permissions(mode)) // whatever the umask
}

// permissions translates octal bits into what package os calls them.
func permissions(bits uint32) os.FileMode { return tree.FileMode(unix.S_IFREG | bits&0o7777) }
