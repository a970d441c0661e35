package builtins

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"b9.build/b9/builtins/internal/builtinstest"
	"b9.build/b9/builtins/lang"
)

// TestScripts resolves the patterns of each testdata/*.txt in the workspace it
// holds and compares what comes out, which is
//
//   - what print() wrote,
//   - each target: its title, operation, outputs and what it needs directly,
//   - or the mistakes.
//
// Sections: resolve (patterns), options (NAME=VALUE lines), dir (where relative
// patterns start), want. Every other section is a file of the workspace.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			runScript(t, file)
		})
	}
}

type script struct {
	cfg      lang.Config
	patterns []string
	want     string
}

func runScript(t *testing.T, file string) {
	ar, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := unpackScript(t, ar)
	got := s.run()
	if got == s.want {
		return
	}
	if !*builtinstest.Update {
		t.Errorf("got:\n%s\nwant:\n%s", got, s.want)
		return
	}
	for i := range ar.Files {
		if ar.Files[i].Name == "want" {
			ar.Files[i].Data = []byte(got)
		}
	}
	if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
		t.Fatal(err)
	}
}

func unpackScript(t *testing.T, ar *txtar.Archive) *script {
	root := t.TempDir()
	s := &script{cfg: lang.Config{Dir: root, Options: map[string]string{}}}
	builtinstest.WriteWorkspace(t, root, map[string]string{lang.RootFile: ""})
	for _, f := range ar.Files {
		switch f.Name {
		case "resolve":
			s.patterns = strings.Fields(string(f.Data))
		case "dir":
			s.cfg.Dir = filepath.Join(root, strings.TrimSpace(string(f.Data)))
		case "options":
			for _, line := range strings.Fields(string(f.Data)) {
				name, value, _ := strings.Cut(line, "=")
				s.cfg.Options[name] = value
			}
		case "want":
			s.want = string(f.Data)
		default:
			builtinstest.WriteWorkspace(t, root, map[string]string{f.Name: string(f.Data)})
		}
	}
	return s
}

func (s *script) run() string {
	var out bytes.Buffer
	s.cfg.Stderr = &out
	w, err := openTest(context.Background(), s.cfg)
	if err != nil {
		return err.Error() + "\n"
	}
	g, err := w.Resolve(context.Background(), s.patterns)
	printed := strings.SplitAfter(out.String(), "\n") // in any order, since files are evaluated in parallel
	slices.Sort(printed)
	out.Reset()
	out.WriteString(strings.Join(printed, ""))
	if err != nil {
		fmt.Fprintln(&out, err)
		return out.String()
	}
	for _, target := range g.Targets {
		fmt.Fprintf(&out, "%s %s", target.Title, target.Builtin)
		for _, ref := range target.Refs {
			fmt.Fprintf(&out, " %s", ref)
		}
		for i, d := range target.Direct() {
			fmt.Fprint(&out, map[bool]string{true: " < ", false: ", "}[i == 0], d)
		}
		fmt.Fprintln(&out)
	}
	return out.String()
}
