package backend

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"b9.build/b9/engine/internal/sshdtest"
	"b9.build/b9/engine/ssh"
)

// kinds make each kind of backend for a directory.
func kinds() map[string]func(t *testing.T, dir string) Backend {
	return map[string]func(*testing.T, string) Backend{
		"directory": func(_ *testing.T, dir string) Backend { return NewDir(dir, nil) },
		"ssh": func(t *testing.T, dir string) Backend {
			s := sshdtest.New(t)
			return NewSFTP(Server{
				Target: ssh.Target{User: s.User(), Host: s.Addr(), Port: s.Port()}, Path: dir, Name: "test",
				Options: ssh.Options{
					Config: []string{}, KnownHosts: []string{s.KnownHosts()},
					Identities: []string{s.Path("id")}, Agent: "none", Home: s.Dir(),
				},
			}, time.Minute)
		},
	}
}

func slurp(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestBackends holds the backends to what the log needs of them.
func TestBackends(t *testing.T) {
	t.Parallel()
	for name, open := range kinds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, dir := t.Context(), filepath.Join(t.TempDir(), "repo")
			b := open(t, dir)
			defer b.Close()
			for range 2 {
				if err := b.Mkdir(ctx, "tmp"); err != nil {
					t.Fatal(err)
				}
			}
			if err := b.Create(ctx, "tmp/a", []byte("one")); err != nil {
				t.Fatal(err)
			}
			if err := b.Create(ctx, "tmp/a", nil); !errors.Is(err, fs.ErrExist) {
				t.Errorf("create what is there: %v", err)
			}
			if _, err := b.Open(ctx, "tmp/none"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("open what is not there: %v", err)
			}
			var g sync.WaitGroup
			for i := range 8 {
				g.Go(func() {
					if err := b.Append(ctx, "tmp/a", bytes.Repeat([]byte{byte('a' + i)}, 20000)); err != nil {
						t.Error(err)
					}
				})
			}
			g.Wait()
			got := slurp(t, filepath.Join(dir, "tmp/a"))
			if len(got) != 3+8*20000 {
				t.Fatalf("%d bytes after 8 appended at once", len(got))
			}
			for i := 3; i < len(got); i += 20000 {
				if !bytes.Equal(got[i:i+20000], bytes.Repeat(got[i:i+1], 20000)) {
					t.Errorf("what was appended at %d is not in one piece", i)
				}
			}
			if err := Write(ctx, b, "tmp/a", []byte("new")); err != nil || string(slurp(t, filepath.Join(dir, "tmp/a"))) != "new" {
				t.Errorf("write over what is there: %v", err)
			}
			if part, err := ReadPart(ctx, b, "tmp/a", 1, 2); err != nil || string(part) != "ew" {
				t.Errorf("a part: %q, %v", part, err)
			}
			if _, err := ReadPart(ctx, b, "tmp/a", 1, 3); !errors.Is(err, ErrDamaged) {
				t.Errorf("a part past the end: %v", err)
			}
		})
	}
}
