package build

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sharedFiles publish an image and use it.
var sharedFiles = map[string]string{
	"b9.toml":          "",
	"B9BUILD.star":     "digest(name = \"sum\", file = shared(\"base\", repo = \"local\"))\n",
	"pub/B9BUILD.star": "share(\"base\", image(size = \"1M\", content = tree(files = {\"a\": file(content = \"a\")}), fs = \"vfat\"))\n",
}

func newSharedTest(t *testing.T) *againTest {
	at := &againTest{t, t.TempDir(), filepath.Join(t.TempDir(), "store"), 1}
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	for name, text := range sharedFiles {
		at.write(name, text)
	}
	at.publish()
	return at
}

func (t *againTest) publish() {
	t.Helper()
	b, _, progress := t.maker()
	defer b.Close()
	b.Patterns = []string{"//pub:base"}
	if _, err := b.do(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, progress)
	}
}

// A build that publishes for this machine, or uses a shared image, knows that
// it has nothing to do, and says what shared() resolved to.
func TestAgainWithSharedImages(t *testing.T) {
	test := newSharedTest(t)
	test.settle()
	if _, progress := test.build(); !strings.Contains(progress, "shared base@") || !strings.Contains(progress, "0 executed") {
		t.Errorf("standard error:\n%s", progress)
	}
	lock := filepath.Join(test.dir, "b9.lock")
	old, err := os.ReadFile(lock)
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func() error{
		"a lock file that is gone": func() error { return os.Remove(lock) },
		"another content in it": func() error {
			i := bytes.Index(old, []byte("b3:")) + 3
			return os.WriteFile(lock, append(append(bytes.Clone(old[:i]), bytes.Repeat([]byte("0"), 64)...), old[i+64:]...), 0o644)
		},
		"another repository": func() error { return os.WriteFile(lock, bytes.Replace(old, []byte("local"), []byte("team"), 1), 0o644) },
		"images that are not published any more": func() error {
			return os.Remove(filepath.Join(test.store, "shared", "images.json"))
		},
	} {
		t.Run(what, func(t *testing.T) {
			test.T = t
			test.settle()
			if err := change(); err != nil {
				t.Fatal(err)
			}
			if test.known() {
				t.Error("the change was not seen")
			}
			if err := os.WriteFile(lock, old, 0o644); err != nil {
				t.Fatal(err)
			}
			test.publish()
		})
	}
}
