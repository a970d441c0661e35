//go:build cgo

package helper

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container/secret"
)

// TestHunt searches a directory that has a secret in everything that a file system
// keeps, and once more as if nothing in it had changed.
func TestHunt(t *testing.T) {
	const value = "tok-9f1cKq77"
	root := t.TempDir()
	at := func(name string) string { return filepath.Join(root, name) }
	for _, err := range []error{
		os.MkdirAll(at("a/b"), 0o755),
		os.WriteFile(at("a/b/file"), []byte(strings.Repeat("x", 4090)+value), 0o644),
		os.WriteFile(at("a/"+value), nil, 0o644),
		os.Symlink(value, at("link")),
		os.Symlink("a", at("other")),
		os.Mkdir(at("dir"), 0o755),
		os.WriteFile(at("named"), nil, 0o644),
		os.WriteFile(at("no"), []byte(value[1:]), 0o644),
		unix.Mkfifo(at("fifo"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"/a/b/file holds the secret token", "the name of /a/*** holds the secret token", "the target of /link holds the secret token",
	}
	err := errors.Join(unix.Setxattr(at("dir"), "user.x", []byte("a"+value), 0), unix.Setxattr(at("named"), "user."+value, []byte("1"), 0),
		unix.Lsetxattr(at("other"), "trusted.x", []byte(value), 0))
	if err == nil {
		want = append(want, "an attribute of /dir holds the secret token", "an attribute of /named holds the secret token", "an attribute of /other holds the secret token")
	} else {
		t.Logf("no attributes here: %v", err)
	}
	slices.Sort(want)
	for _, since := range []time.Time{time.Unix(0, 0), time.Now().Add(-time.Minute), time.Now().Add(time.Hour)} {
		dir, err := os.Open(root)
		if err != nil {
			t.Fatal(err)
		}
		h := &hunt{set: secret.Searching([]secret.Text{{Name: "token", Value: []byte(value)}}), since: since.UnixNano(), xattr: make([]byte, 1)}
		if err := h.dir(t.Context(), dir, "/"); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range h.leaks {
			got = append(got, l.String())
		}
		slices.Sort(got)
		if since.After(time.Now()) {
			want = nil
		}
		if !slices.Equal(got, want) {
			t.Errorf("since %v: got %q, want %q", since, got, want)
		}
	}
}

// TestHuntEnds with a request to stop, and with the caller's side.
func TestHuntEnds(t *testing.T) {
	for what, end := range map[string]func(*commands){
		"stop": func(c *commands) { c.stop <- stop{} }, "lost": func(c *commands) { close(c.lost) },
	} {
		c := &commands{stop: make(chan stop, 1), lost: make(chan struct{})}
		ctx, cancel := c.untilStop()
		end(c)
		<-ctx.Done()
		dir, err := os.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		h := &hunt{set: secret.Searching([]secret.Text{{Name: "token", Value: []byte("tok-9f1cKq77")}})}
		if err := h.dir(ctx, dir, "/"); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", what, err)
		}
		cancel()
	}
}
