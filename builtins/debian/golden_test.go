package debian

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"b9.build/b9/builtins/internal/builtinstest"
)

// TestGoldenAnswer holds what is kept of an archive's answer.
func TestGoldenAnswer(t *testing.T) {
	b := &bootstrap{Arch: "i386"}
	sources := []aptSource{{URI: "http://me:secret@deb.example/debian", Suite: "bookworm", Components: []string{"main"}, Fields: []aptField{{"Signed-By", "/usr/share/keyrings/x.gpg"}}}}
	if name := b.answerName(sources); name != "release-1964425214e1b4d55c11279fc74b6a47.json" {
		t.Errorf("the answer's file is called %s", name)
	}
	file := filepath.Join(t.TempDir(), "cache", "answer.json")
	want := answer{Asked: time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC), State: strings.Repeat("00112233445566778899aabbccddeeff", 2)}
	writeAnswer(file, want)
	builtinstest.Golden(t, "answer.json", file)
	if back, ok := readAnswer(file); !ok || back != want {
		t.Errorf("read back %+v, %v", back, ok)
	}
}
