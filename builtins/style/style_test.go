package style_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"b9.build/b9/builtins"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/builtins/style"
)

// starlarkFiles are those of this repository.
func starlarkFiles(t *testing.T) map[string][]byte {
	files := map[string][]byte{}
	for _, dir := range []string{"examples", "stdlib"} {
		err := filepath.WalkDir(filepath.Join("..", "..", dir), func(path string, e fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".star") {
				files[path], err = os.ReadFile(path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(files) < 5 {
		t.Fatalf("only %d Starlark files", len(files))
	}
	return files
}

func TestOwnFilesAreLaidOut(t *testing.T) {
	for name, data := range starlarkFiles(t) {
		laid, err := style.Format(name, data)
		if err != nil || !bytes.Equal(laid, data) {
			t.Errorf("%s: %v, or `b9 fmt` changes it", name, err)
		}
	}
}

func TestOwnFilesAreNotSuspicious(t *testing.T) {
	checker := style.NewChecker("", builtins.Operations(builtins.Settings{}))
	for name, data := range starlarkFiles(t) {
		found, err := checker.Check(&style.File{Name: name, Data: data})
		if err != nil || len(found) > 0 {
			t.Errorf("%s: %v, %v", name, err, found)
		}
	}
}

func TestMistakesHavePlaces(t *testing.T) {
	for _, src := range []string{"x = (", "x = '\x00'", "\xff", "def f():\n  return 1 +\n", "if x:\n"} {
		_, err := style.Format("a.star", []byte(src))
		var list lang.Errors
		if !errors.As(err, &list) || list[0].Pos.File != "a.star" || list[0].Pos.Line == 0 {
			t.Errorf("%q: %v", src, err)
		}
	}
}

// FuzzFormat lays out what b9 reads: the result is read too, and laid out already.
func FuzzFormat(f *testing.F) {
	for _, src := range []string{"load(':a.star', 'b', c='d')\nx=b(c, y=[1,2,],)\n", "def f(a,*b,**c):\n  'doc'\n  for x in b:pass\n", "x = 0o17 if y else not z\n", "x = {1:2, **{}}", "x=a[1:2](3)(4).b # c\n", "[x for x in y if x]", "'''a\nb'''\n", "x = r'\\d' + b'1'\n", `y = 'ä' + "\u00e4\x41\t\"" + 'it\'s' + '"' + r'ö'` + "\n"} {
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src string) {
		once, err := style.Format("a.star", []byte(src))
		if err != nil {
			return
		}
		twice, err := style.Format("a.star", once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%q is laid out as %q, and that as %q: %v", src, once, twice, err)
		}
	})
}
