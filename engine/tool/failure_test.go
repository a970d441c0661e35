package tool

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestCause picks the cause out of what programs print.
func TestCause(t *testing.T) {
	noise := strings.Repeat("copying file after file\n", 3) + "1 of 3\r2 of 3\r3 of 3\nallocating group tables\nwriting inodes\n"
	long := "sbsign --key " + strings.Repeat("x", 4000) + ": Invalid argument given, " + strings.Repeat("y", 4000)
	for _, c := range []struct {
		name, output, want string
		whole              bool
	}{
		{"nothing", " \n\n", "", true},
		{"few lines", "one\n two \r\none\n", "one; two", true},
		{"an error among much", noise + "mke2fs: No space left on device\n" + noise, "mke2fs: No space left on device", false},
		{"what only looks like one", noise + "Warning: bad block ignored\n0 errors found\nresult: failed\n", "result: failed", false},
		{"the first three", noise + "error 1\nerror 2\nerror 1\nerror 3\nerror 4\n", "error 1; error 2; error 3", false},
		{"none", noise + "a\nb\nc\n", "a; b; c", false},
		{"a command line of 8 KB", long, "..." + strings.Repeat("x", 94) + ": Invalid argument given, " + strings.Repeat("y", 164) + "...", false},
		{"what is wrong comes last", "Failed to fetch " + strings.Repeat("x", 400) + ": Could not resolve 'm'", "..." + strings.Repeat("x", 261) + ": Could not resolve 'm'", false},
		{"no character is cut in two", strings.Repeat("ä", 200), strings.Repeat("ä", 142) + "...", false},
	} {
		if got, whole := Cause(c.output); whole != c.whole || got != c.want {
			t.Errorf("%s: %q, %v; want %q, %v", c.name, got, whole, c.want, c.whole)
		}
	}
}

// TestFailure says a program's words once, and has the rest for the log.
func TestFailure(t *testing.T) {
	much := strings.Repeat("line of progress\nanother\nthird\n", 9) + "fourth\nmke2fs: invalid blocks\n"
	for _, c := range []struct {
		f          Failure
		text, rest string
	}{
		{Failure{Program: "mke2fs", Code: 1}, "mke2fs: exit status 1", ""},
		{Failure{Program: "mke2fs", Code: -1}, "mke2fs: it was killed", ""},
		{Failure{Program: "mke2fs", Code: 1, Output: much}, "mke2fs: invalid blocks", much},
		{Failure{Program: "e2fsck", Code: 4, Output: "a\nb", Found: "the file system has errors"}, "the file system has errors: a; b", ""},
	} {
		err := fmt.Errorf("/x: %w", &c.f)
		if err.Error() != "/x: "+c.text || Rest(err) != c.rest {
			t.Errorf("%q with %d bytes of rest; want %q with %d", err, len(Rest(err)), c.text, len(c.rest))
		}
	}
	if Rest(errors.New("other")) != "" {
		t.Error("an error of b9 has a rest")
	}
}

// FuzzCause bounds what is told of any output.
func FuzzCause(f *testing.F) {
	f.Add("error: " + strings.Repeat("a\nb", 99) + "\rä" + strings.Repeat("ö", 400))
	f.Fuzz(func(t *testing.T, output string) {
		if got, _ := Cause(output); len(got) > causeLines*(causeLine+2) || strings.Contains(got, "\n") {
			t.Errorf("%d bytes: %q", len(got), got)
		}
	})
}
