package builtins

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
		{[]string{"true # false", "echo a | grep -q b", "echo 'false'"}, 1},
		{[]string{"echo $(echo hidden)", "test -n \"$(true)\"", "true"}, 1},
		{[]string{"cat <<END >/dev/null", "text", "END", "false"}, 3},
		{[]string{"(cd / && false)", "true"}, 0},
		{[]string{"X=1 sh -c 'exit 4' arg", "true"}, 0},
		{[]string{"multi() { true; }\nmulti\nsh -c 'exit 2'", "true"}, 0},
		{[]string{"test 1 = 1", "false", "true", "false"}, -1}, // either
		{[]string{"c=false", "$c"}, -1},                        // nothing says so: false is the value of a variable
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
