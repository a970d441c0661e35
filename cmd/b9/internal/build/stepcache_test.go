package build

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
	"b9.build/b9/engine/repo"
	"b9.build/b9/engine/store"
)

// cacheIn is a step cache in a new repository in dir, and what it prints.
func cacheIn(t *testing.T, dir string) (*stepCache, *bytes.Buffer) {
	t.Helper()
	r, err := repo.Create(t.Context(), repo.Location{Path: dir}, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	var told bytes.Buffer
	c := newStepCache(session.Repositories{}, display.NewConsole(&told), "team", true)
	c.opened.Do(func() { c.repo = r })
	return c, &told
}

// offer publishes a step with one file of this content.
func offer(t *testing.T, c *stepCache, name, content string) store.Digest {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	key := store.Sum([]byte(name))
	c.Publish(t.Context(), key, []byte("record of "+name), []engine.CachedFile{{Name: "output-0", Path: path}})
	return key
}

// has reports whether the step can be had in whole.
func has(t *testing.T, c *stepCache, key store.Digest) bool {
	t.Helper()
	_, ok := c.Lookup(t.Context(), key)
	return ok && c.Fetch(t.Context(), key, t.TempDir())
}

// TestStepCacheGoesOn damages one step of two, in each way in turn: the other
// one is still to be had, and what is new is published.
func TestStepCacheGoesOn(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"missing": os.Remove,
		"wrong":   func(path string) error { return os.WriteFile(path, []byte("wrong"), 0o600) },
	} {
		for _, dir := range []string{"packs", "manifests"} {
			t.Run(name+" "+dir, func(t *testing.T) {
				team := filepath.Join(t.TempDir(), "team")
				c, told := cacheIn(t, team)
				bad := offer(t, c, "bad", "one content")
				files, err := filepath.Glob(filepath.Join(team, dir, "*"))
				if err != nil || len(files) != 1 {
					t.Fatalf("%q, %v", files, err)
				}
				good := offer(t, c, "good", "another content")
				if err := damage(files[0]); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					if has(t, c, bad) {
						t.Error("the damaged step is to be had")
					}
				}
				if !has(t, c, good) {
					t.Error("the other step is not to be had")
				}
				if !has(t, c, offer(t, c, "next", "third content")) {
					t.Error("nothing is published any more")
				}
				if n := strings.Count(told.String(), "warning"); n != 1 || !strings.Contains(told.String(), "b9 repo check team") {
					t.Errorf("told: %s", told)
				}
			})
		}
	}
}

// TestStepThatCannotBePublished leaves the others as they are.
func TestStepThatCannotBePublished(t *testing.T) {
	for name, publish := range map[string]func(t *testing.T, c *stepCache){
		"collected": func(t *testing.T, c *stepCache) {
			c.Publish(t.Context(), store.Sum([]byte("x")), nil, []engine.CachedFile{{Name: "output-0", Path: filepath.Join(t.TempDir(), "gone")}})
		},
		"changed": func(t *testing.T, c *stepCache) {
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, []byte("new"), 0o600); err != nil {
				t.Fatal(err)
			}
			c.Publish(t.Context(), store.Sum([]byte("x")), nil, []engine.CachedFile{{Name: "output-0", Path: path, Digest: store.Sum([]byte("old"))}})
		},
		"too large": func(t *testing.T, c *stepCache) {
			c.Publish(t.Context(), store.Sum([]byte("x")), make([]byte, 2<<20), nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, told := cacheIn(t, filepath.Join(t.TempDir(), "team"))
			publish(t, c)
			if !has(t, c, offer(t, c, "next", "content")) {
				t.Error("nothing is published any more")
			}
			if n := strings.Count(told.String(), "warning: a step is not published"); n != 1 {
				t.Errorf("told: %s", told)
			}
		})
	}
}

// TestFullLog reads from a repository that takes nothing more.
func TestFullLog(t *testing.T) {
	team := filepath.Join(t.TempDir(), "team")
	c, told := cacheIn(t, team)
	key := offer(t, c, "first", "content")
	f, err := os.OpenFile(filepath.Join(team, "b9-repository"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(strings.Repeat(strings.Repeat(" ", 10000)+"\n", 6650)); err != nil {
		t.Fatal(err)
	}
	second := offer(t, c, "second", "content")
	if !has(t, c, key) || has(t, c, second) {
		t.Error("not just the first step is to be had")
	}
	if n := strings.Count(told.String(), "warning: publishing no steps"); n != 1 || !strings.Contains(told.String(), "full") {
		t.Errorf("told: %s", told)
	}
}

// TestFewAreSentAtOnce publishes while as many steps as may be are on their way.
func TestFewAreSentAtOnce(t *testing.T) {
	c, told := cacheIn(t, filepath.Join(t.TempDir(), "team"))
	for range publishing {
		c.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	key := store.Sum([]byte("waits"))
	cancel()
	c.Publish(ctx, key, []byte("record"), nil)
	if has(t, c, key) {
		t.Error("it did not wait for its turn")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Publish(t.Context(), key, []byte("record"), nil)
	}()
	<-c.slots
	<-done
	if !has(t, c, key) || told.Len() > 0 {
		t.Errorf("it was not published in its turn: %s", told)
	}
}
