package repo

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// writeOld makes a repository as the forerunner left it.
func writeOld(t *testing.T, s site, image string) {
	t.Helper()
	dir := filepath.Join(s.dir, oldDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"web_B2.b9si":   "SharedImage\n  (SharedImageName \"web\")\n  (SharedImageDate \"2015-03-02-10:00:00\")\n  (SharedImageBuildId \"B2\")\n  QCow2\n  Ext4\n",
		"web_B1.b9si":   `SharedImage (SharedImageName "web") (SharedImageDate "2015-03-01-10:00:00") (SharedImageBuildId "B1") Raw Ext4`,
		"web_B3.b9si":   `SharedImage (SharedImageName "web") (SharedImageDate "2015-03-03-10:00:00") (SharedImageBuildId "B3") Vmdk NoFileSystem`,
		"web_B2.qcow2":  "the second",
		"other-file":    "",
		"web_B3.vmdk.1": "its image is not there",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "web_B1.raw"), slurp(t, image), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestOldLayout(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		image := sample(t, 1, 2000)
		writeOld(t, s, image)
		inner := s
		inner.loc.Path = filepath.Join(s.dir, oldDir)
		for _, s := range []site{s, inner} {
			r := s.elsewhere(t)
			list, err := r.List(t.Context(), "web")
			if err != nil || len(list) != 2 || list[0].Version != "B2" || list[0].Format != "qcow2" || list[1].Version != "B1" {
				t.Fatalf("%+v, %v", list, err)
			}
			if len(list[1].FileSystems) != 1 || list[1].FileSystems[0] != "ext4" || list[1].Created.Day() != 1 {
				t.Errorf("%+v", list[1])
			}
			dst, tr := pull(t, r, list[1])
			sameFiles(t, dst, image)
			if tr.Holes == 0 || tr.New+tr.Holes != tr.Total {
				t.Errorf("%+v", tr)
			}
			if _, _, err := r.Push(t.Context(), PushSpec{Name: "web", Path: image}); !errors.Is(err, ErrReadOnly) {
				t.Errorf("push: %v", err)
			}
			if err := r.Remove(t.Context(), list[0]); !errors.Is(err, ErrReadOnly) {
				t.Errorf("remove: %v", err)
			}
		}
	})
}

func FuzzB9si(f *testing.F) {
	f.Add(`SharedImage (SharedImageName "web") (SharedImageDate "2015-03-01-10:00:00") (SharedImageBuildId "B1") Raw Ext4`)
	f.Add(`SharedImageName "../x" SharedImageBuildId "y" QCow2`)
	f.Fuzz(func(t *testing.T, text string) {
		v, err := parseB9si(text)
		if err != nil {
			return
		}
		if name := oldImage(v); filepath.Base(name) != name || v.Format == "" {
			t.Errorf("%q gives the file %q", text, name)
		}
	})
}
