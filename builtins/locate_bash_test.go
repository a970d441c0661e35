package builtins

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// runBash runs a script as a step does and returns the line at which it is said to have
// failed, and what it printed.
func runBash(t *testing.T, watched bool, files map[string]string) (line int, out string) {
	t.Helper()
	path, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal("bash is not installed")
	}
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(path, filepath.Join(dir, "script"))
	cmd.Dir = dir
	var w *bashWatch
	if watched {
		if w, err = watchBash(dir, dir); err != nil {
			t.Fatal(err)
		}
		cmd.Env = append(os.Environ(), "BASH_ENV="+filepath.Join(dir, bashEnv))
	}
	said, err := cmd.CombinedOutput()
	w.end()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != len(files) {
		t.Errorf("%v is left, %v", left, err)
	}
	return w.line(cmd.ProcessState.ExitCode(), strings.Split(files["script"], "\n")), strings.ReplaceAll(string(said), dir, "DIR")
}

// TestWhereBashEnds: the line of a script file is known whether or not it prints its
// commands, and the script prints what it prints without b9.
func TestWhereBashEnds(t *testing.T) {
	for _, c := range []struct {
		script string // its lines
		want   int    // 0: it can't be told, and nothing is said
	}{
		{"set -e\ntrue\nfalse\ntrue", 3},
		{"set -ex\ntrue\nls /nope\ntrue", 3},
		{"set -e\nf() {\n  ls /nope\n}\nf", 3},
		{"set -e\nf() {\n  exit 4\n}\nf", 3},
		{"true\nfalse\ntrue\nexit 1", 4},
		{"set -e\nf() {\n  return 7\n}\nf\ntrue", 3},
		{"set -e\nf() {\n  return 7\n}\ng() { return 7; }\nf\ntrue", 6},
		{"false\nif true; then exit 1; fi\nexit 1", 0}, // either
		{"false\ntrue\nif ! true; then exit 1; fi", 0}, // ends well
		{"true\n\nls /nope", 3},
		{"set -e\nx=$(false)\ntrue", 2},
		{"set -eo pipefail\nfalse | true\ntrue", 2},
		{"set -e\n(cd / && false)\ntrue", 2},
		{"set -e\n(false) | true\nexit 3", 3},
		{"set -e\nif true; then\n  test 1 = 2\nfi\ntrue", 3},
		{"set -e\nfor i in 1 2 3; do\n  test $i != 2\ndone", 3},
		{"set -e\nnosuchcommand a b", 2},
		{"set -e\necho a \\\n  b c; ls /nope \\\n  c", 3},
		{"set -e\ntrue\n. ./lib", 3},
		{"set -e\n. ./functions\ntrue\nfails", 4},
		{"set -e\nif ! false; then true; fi\nbash -c 'false; exit 5'", 3},
		{"set -e\nbash ./script2\n", 2},
		{"set -e\ncd /; false", 2},
		{"set -eu\ntrue\necho $nope", 0}, // bash says so
		{"set -e\nkill -9 $$", 0},
		{"set -e\nfalse || true\necho \"", 0},
		{"set -e\n:|false\u00e4\x7f 'a|b|c'\n", 2},
		{"set -e\nfor i in $(seq 3000); do ! true; (exit 1) || true; done\nset +e\nfor i in $(seq 3000); do false; done\nset -e\nfalse", 6},
		{"echo $BASH_ENV; env | grep BASH_ENV; exec false", 0},
	} {
		files := map[string]string{"script": c.script, "lib": "true\nfalse\n", "functions": "fails() {\n  false\n}\n", "script2": "set -e\ntrue\n\nfalse\n"}
		_, plain := runBash(t, false, files)
		line, said := runBash(t, true, files)
		if line != c.want || said != plain {
			t.Errorf("%s\nis at line %d, want %d; it prints\n%s\nand without b9\n%s", c.script, line, c.want, said, plain)
		}
	}
}

// TestIsBash: only bash gets traps, and no script that has some.
func TestIsBash(t *testing.T) {
	for _, c := range []struct {
		interpreter, script string
		want                bool
	}{
		{"", "#!/bin/bash\ntrue", true},
		{"", "#! /usr/bin/env -S A=1 bash -e\ntrue", true},
		{"", "#!/bin/sh\ntrue", false},
		{"", "#!/usr/bin/python3\nbash", false},
		{"", "true", false},
		{"", "", false},
		{"bash -e", "true", true},
		{"python3", "#!/bin/bash", false},
		{"/bin/bash", "x\ntrap 'rm -r x' EXIT", false},
		{"/bin/bash", "case $- in *i*) exit;; esac", false},
		{"/bin/bash", "echo entrapped", true},
	} {
		if got := isBash(strings.Fields(c.interpreter), []byte(c.script)); got != c.want {
			t.Errorf("%q, %q: %v", c.interpreter, c.script, got)
		}
	}
}

// FuzzBashReport reads whatever a script writes in place of the traps.
func FuzzBashReport(f *testing.F) {
	f.Add("E1|ehB|3|/.b9/script /.b9/script|5 0|false\x00X1|ehB|1|/.b9/script|0|false\x00")
	f.Fuzz(func(t *testing.T, text string) {
		w := &bashWatch{script: "/.b9/script"}
		w.take([]byte(text))
		if n := w.line(1, []string{"one", "two", "three"}); n < 0 || n > 3 {
			t.Errorf("line %d", n)
		}
	})
}
