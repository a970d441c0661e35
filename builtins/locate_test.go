package builtins

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestFailedCommands finds the command of a list that a shell ended at, with the shells
// that there are.
func TestFailedCommands(t *testing.T) {
	for _, c := range []struct {
		commands []string
		want     int // -1: it can't be told, and nothing is said
	}{
		{[]string{"true", "false", "true"}, 1},
		{[]string{"true", "exit 3"}, 1},
		{[]string{"x='a b'", `test "$x" = 'a c'`, "true"}, 1},
		{[]string{"echo one two", "cd /nowhere/at/all 2>/dev/null", "echo three"}, 1},
		{[]string{"f() {", "  grep -q nobody-has-it /etc/hostname", "}", "true", "f"}, 1},
		{[]string{"if true; then", "  ls -d /nowhere >/dev/null 2>&1", "fi"}, 1},
		{[]string{"for i in 1 2 3; do", `  test $i != 2`, "done"}, 1},
		{[]string{"true # false", "echo a | { read x; test $x = b; }", "echo 'false'"}, 1}, // test runs last, whichever traces first
		{[]string{"echo $(echo hidden)", "test -n \"$(true)\"", "true"}, 1},
		{[]string{"cat <<END >/dev/null", "text", "END", "false"}, 3},
		{[]string{"(cd / && false)", "true"}, 0},
		{[]string{"X=1 sh -c 'exit 4' arg", "true"}, 0},
		{[]string{"multi() { true; }\nmulti\nsh -c 'exit 2'", "true"}, 0},
		{[]string{"test 1 = 1", "false", "true", "false"}, -1}, // either
		{[]string{"c=false", "$c"}, -1},                        // nothing says so: false is the value of a variable
		{[]string{"sh -ec 'set -x; false'", "false"}, -1},      // the trace may be that of the other shell
		{[]string{"printf 'set -ex; false' > s", "env A=1 bash ./s", "false"}, -1},
		{[]string{"printf '#!/bin/sh -ex\nfalse' > s; chmod +x s", "nice ./s", "false"}, -1},
		{[]string{"printf '#!/bin/sh -ex\nfalse' > s; chmod +x s", "S=./s", "$S", "false"}, -1},
		{[]string{"sh -c true", "test 1 = 2"}, -1},
		{[]string{"false", "sh -c true"}, 0},
	} {
		for _, shell := range []string{"dash", "bash"} {
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Fatalf("%s is not installed", shell)
			}
			script := filepath.Join(t.TempDir(), "script")
			if err := os.WriteFile(script, []byte(scriptText(c.commands, true)), 0o600); err != nil {
				t.Fatal(err)
			}
			trace := &traced{}
			cmd := exec.Command(path, script)
			cmd.Dir = filepath.Dir(script)
			cmd.Stderr = trace
			var ended *exec.ExitError
			if err := cmd.Run(); !errors.As(err, &ended) {
				t.Fatalf("%q did not fail: %v", c.commands, err)
			}
			got, ok := trace.failedAt(c.commands)
			if !ok {
				got = -1
			}
			if got != c.want {
				t.Errorf("%s: %q ended with %q: command %d, want %d", shell, c.commands, trace.last, got, c.want)
			}
		}
	}
}

// TestSimpleCommands splits a script as a shell does, roughly.
func TestSimpleCommands(t *testing.T) {
	for text, want := range map[string]string{
		"apt-get install -y nginx":            "[apt-get install -y nginx]",
		`echo "a  b" >x 2>&1; ls *.txt`:       `[echo a b] [ls .*\.txt]`,
		"if ! test -e x; then y; fi # z":      "[test -e x] [y]",
		"a $x b":                              "[a( .*)? b]",
		"${x:-$(date)}/run --now `id -u`":     `[.*/run --now( .*)?]`,
		"'":                                   "",
		"$((1 + (2)":                          "",
		"while read l; do p \"$l\"; done < f": "[read l] [p( .*)?]",
	} {
		got := ""
		for _, p := range simpleCommands(text) {
			got += fmt.Sprintf(" [%s]", p)
		}
		if got = strings.TrimSpace(got); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// FuzzSimpleCommands reads any text to its end.
func FuzzSimpleCommands(f *testing.F) {
	f.Add("a 'b' \"$(c)\" >d; e `f` ${g} \\")
	f.Fuzz(func(t *testing.T, text string) {
		for _, p := range simpleCommands(text) {
			couldBe(p, "x")
		}
	})
}

// TestTraceInPieces reads the same of a trace however it comes.
func TestTraceInPieces(t *testing.T) {
	text := strings.Repeat("\n", 100) + "+ one\nwords\n" + strings.Repeat("x", 70<<10) + "\n+ two 'a'\nlast"
	for _, size := range []int{1, 7, 4096, len(text)} {
		trace := &traced{}
		for piece := range slices.Chunk([]byte(text), size) {
			if n, err := trace.Write(piece); n != len(piece) || err != nil {
				t.Fatal(n, err)
			}
		}
		if trace.last != "two 'a'" || string(trace.rest) != "last" || trace.full || trace.inner {
			t.Errorf("in pieces of %d bytes: %q, %q", size, trace.last, trace.rest)
		}
	}
}

// TestTraceBehindOutput: what is printed without an end of line stands before the trace.
func TestTraceBehindOutput(t *testing.T) {
	commands := []string{"printf abc", "false", "make all"}
	for text, want := range map[string]int{
		"+ printf abc\nabc+ false\n":                    1,
		"+ printf abc\n":                                0,
		"+ make all\ng++ -O2 -c x.cc\n1 + 1 is wrong\n": 2,
		"+ other\nabc+ another\n":                       -1,
	} {
		trace := &traced{}
		_, _ = trace.Write([]byte(text))
		if n, ok := trace.failedAt(commands); ok != (want >= 0) || ok && n != want {
			t.Errorf("%q: failed is %d (%v), want %d", text, n, ok, want)
		}
	}
}

// BenchmarkTrace reads what a script writes in short lines.
func BenchmarkTrace(b *testing.B) {
	text := []byte(strings.Repeat("\n", 32<<10))
	b.SetBytes(int64(len(text)))
	for trace := (&traced{}); b.Loop(); {
		_, _ = trace.Write(text)
	}
}
