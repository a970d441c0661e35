package repository

import (
	"testing"
	"time"

	"b9.build/b9/engine/repo"
)

func TestTransferred(t *testing.T) {
	p := repo.Progress{Name: "base", Done: 96 << 20, Total: 128 << 20, Transfer: repo.Transfer{Received: 30 << 20, Reused: 64 << 20, Elapsed: 2 * time.Second}}
	if got, want := transferred(p), "base: 75% of 128MiB, moved 30MiB (15MiB/s), 64MiB there"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
