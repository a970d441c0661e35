package session

import (
	"io"
	"strings"
	"testing"

	"b9.build/b9/engine/container"
)

// TestMask writes texts with secrets in pieces of every size.
func TestMask(t *testing.T) {
	const text = "proxy http://ann:hunter2@proxy:3128 and hunter2, hunt, ann:hunter and abc at the end: hunter"
	const want = "proxy http://***@proxy:3128 and ***, hunt, ann:hunter and abc at the end: hunter"
	for size := 1; size <= len(text); size++ {
		var out strings.Builder
		to, flush := mask(container.IO{Stdout: &out, Stderr: &out}, []string{"hunter2", "ann:hunter2", "abc"})
		if to.Stdout != to.Stderr {
			t.Fatal("one writer became two")
		}
		for rest := text; rest != ""; rest = rest[min(size, len(rest)):] {
			if _, err := io.WriteString(to.Stdout, rest[:min(size, len(rest))]); err != nil {
				t.Fatal(err)
			}
		}
		if err := flush(); err != nil || out.String() != want {
			t.Fatalf("in pieces of %d: %q, %v", size, out.String(), err)
		}
	}
}

func TestMaskNothing(t *testing.T) {
	var out, errs strings.Builder
	if to, _ := mask(container.IO{Stdout: &out, Stderr: &errs}, nil); to.Stdout != &out {
		t.Error("a writer was replaced for nothing")
	}
	to, _ := mask(container.IO{Stdout: &out, Stderr: &errs}, []string{"secret"})
	if to.Stdout == to.Stderr {
		t.Error("two writers became one")
	}
	if to, _ := mask(container.IO{Stdout: &out}, []string{"secret"}); to.Stderr != nil {
		t.Error("a writer was made of none")
	}
}
