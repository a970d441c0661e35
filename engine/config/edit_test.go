package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEditRepository(t *testing.T) {
	for _, c := range []struct{ name, text, location, want string }{
		{"an empty file", "", "/x", "[repositories]\nteam = \"/x\"\n"},
		{"another section", "[store]\ndir = \"/s\"\n", "/x", "[store]\ndir = \"/s\"\n\n[repositories]\nteam = \"/x\"\n"},
		{"no end of line", "[store]\ndir = \"/s\"", "/x", "[store]\ndir = \"/s\"\n\n[repositories]\nteam = \"/x\"\n"},
		{"an empty section without end of line", "[repositories]", "/x", "[repositories]\nteam = \"/x\"\n"},
		{"comments and spacing", "# mine\n\n  [ repositories ] # all\n# lab\n\tlab   =\t'/l' # here\n\n[shared]\n", "/x",
			"# mine\n\n  [ repositories ] # all\n# lab\n\tlab   =\t'/l' # here\nteam = \"/x\"\n\n[shared]\n"},
		{"another location", "[repositories]\n  \"team\"  =  '/old'   # why\nlab = \"/l\"\n", "ssh://h/x", "[repositories]\n  \"team\"  =  \"ssh://h/x\"   # why\nlab = \"/l\"\n"},
		{"quotes in the location", "[repositories]\n", `/a"b\c`, "[repositories]\nteam = \"/a\\\"b\\\\c\"\n"},
		{"lines of DOS", "[repositories]\r\nlab = \"/l\"\r\n[shared]\r\n", "/x", "[repositories]\r\nlab = \"/l\"\r\nteam = \"/x\"\r\n[shared]\r\n"},
		{"taken out", "a = 1\n[repositories]\n# the team\nteam = \"/x\" # gone\nlab = \"/l\"\n", "", "a = 1\n[repositories]\n# the team\nlab = \"/l\"\n"},
		{"taken out, lines of DOS, quoted", "[repositories]\r\n'team' = \"/x\"\r\nlab = \"/l\"", "", "[repositories]\r\nlab = \"/l\""},
		{"dotted keys", "repositories.lab = \"/l\"\n[store]\n", "/x", "repositories.lab = \"/l\"\nrepositories.team = \"/x\"\n[store]\n"},
		{"a dotted key taken out", "repositories.team = \"/l\"\n[store]\n", "", "[store]\n"},
		{"what only looks like it", "[options]\nhelp = \"\"\"\n[repositories]\nteam = \"/no\"\n\"\"\"\n[repositories]\nteam = \"/old\"\n", "/x",
			"[options]\nhelp = \"\"\"\n[repositories]\nteam = \"/no\"\n\"\"\"\n[repositories]\nteam = \"/x\"\n"},
		{"the same key elsewhere", "[options]\nteam = \"blue\"\n[repositories]\nteam = \"/old\"\n", "", "[options]\nteam = \"blue\"\n[repositories]\n"},
	} {
		got, err := editRepository("f", []byte(c.text), "team", c.location)
		if err != nil || string(got) != c.want {
			t.Errorf("%s:\n%q\nwant\n%q (%v)", c.name, got, c.want, err)
		}
	}
}

func TestEditRepositoryRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"repositories = { lab = \"/l\" }\n":            "can't be edited here: change the file by hand",
		"repositories = { team = \"/l\", b = \"/b\" }": "can't be edited here: change the file by hand",
		"[repositories\n":                              "expected",
	} {
		if got, err := editRepository("f", []byte(text), "team", "/x"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q became %q, %v", text, got, err)
		}
	}
	if _, err := editRepository("f", []byte("[repositories]\nlab = \"/l\"\n"), "team", ""); !errors.Is(err, ErrNotSet) {
		t.Errorf("taking out what is not there: %v", err)
	}
}

func TestEditRepositoryFile(t *testing.T) {
	dir := t.TempDir()
	real, path := filepath.Join(dir, "dotfiles.toml"), filepath.Join(dir, "conf", "b9", "config.toml")
	if err := os.WriteFile(real, []byte("# mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, path); err != nil {
		t.Fatal(err)
	}
	if err := EditRepository(t.Context(), path, "team", "/x", nil); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(real)
	if err != nil || string(data) != "# mine\n\n[repositories]\nteam = \"/x\"\n" {
		t.Errorf("%q, %v", data, err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Errorf("the link became %v, %v", info, err)
	}
	if info, err := os.Stat(real); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode became %v, %v", info, err)
	}
	if err := EditRepository(t.Context(), path, "local", "/x", nil); err == nil {
		t.Error("local is the name of a repository")
	}
}

func FuzzEditRepository(f *testing.F) {
	f.Add([]byte("[repositories]\r\nlab = '/l' # c\r\n\"team\" = \"\"\"/x\"\"\"\r\n[shared]"), "/y")
	f.Add([]byte("repositories.lab = \"/l\"\n"), "")
	f.Fuzz(func(t *testing.T, text []byte, location string) {
		edited, err := editRepository("f", text, "team", location)
		if err != nil || location == "" {
			return
		}
		back, err := editRepository("f", edited, "team", "")
		if err != nil {
			t.Fatalf("%q: %v", edited, err)
		}
		if _, err := editRepository("f", back, "team", location); err != nil {
			t.Errorf("%q: %v", back, err)
		}
	})
}
