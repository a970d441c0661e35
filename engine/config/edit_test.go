package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func repositoryChange(name, location string) change {
	c := change{key: []string{"repositories", name}, value: location}
	if location == "" {
		c.value = nil
	}
	return c
}

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
		{"an inline table", "repositories = { lab = \"/l\", team = '/old' } # all\n", "/x", "repositories = { lab = \"/l\", team = \"/x\" } # all\n"},
		{"the same key elsewhere", "[options]\nteam = \"blue\"\n[repositories]\nteam = \"/old\"\n", "", "[options]\nteam = \"blue\"\n[repositories]\n"},
	} {
		got, err := repositoryChange("team", c.location).apply("f", []byte(c.text))
		if err != nil || string(got) != c.want {
			t.Errorf("%s:\n%q\nwant\n%q (%v)", c.name, got, c.want, err)
		}
	}
}

// TestSetEveryKind gives a setting of each type a value in the form of flags, and
// finds the TOML that the loader reads the same value from.
func TestSetEveryKind(t *testing.T) {
	const text = "# mine\n[build] # here\njobs = 3 # three\n\n[container]\nmemory = \"1G\"\n"
	for _, c := range []struct{ key, value, from, want string }{
		{"build.jobs", "4", "jobs = 3 # three\n", "jobs = 4 # three\n"},
		{"build.keep_going", "yes", "# three\n", "# three\nkeep_going = true\n"},
		{"container.memory", "512MiB", `memory = "1G"`, `memory = "512MiB"`},
		{"container.cpus", "1.5", "\"1G\"\n", "\"1G\"\ncpus = 1.5\n"},
		{"container.cpus", "2", "\"1G\"\n", "\"1G\"\ncpus = 2.0\n"},
		{"container.capabilities", "sys_admin,net_raw", "\"1G\"\n", "\"1G\"\ncapabilities = [\"sys_admin\", \"net_raw\"]\n"},
		{"container.capabilities", "", "\"1G\"\n", "\"1G\"\ncapabilities = []\n"},
		{"store.max_size", "20%", "\"1G\"\n", "\"1G\"\n\n[store]\nmax_size = \"20%\"\n"},
		{"store.max_age", "7d", "\"1G\"\n", "\"1G\"\n\n[store]\nmax_age = \"7d\"\n"},
		{"options.text", "a\"\\\x01\x7fé", "\"1G\"\n", "\"1G\"\n\n[options]\ntext = \"a\\\"\\\\\\u0001\\u007Fé\"\n"},
	} {
		path := filepath.Join(t.TempDir(), "b9.toml")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		err := Set(t.Context(), path, c.key, c.value, true, nil)
		got, _ := os.ReadFile(path)
		if want := strings.Replace(text, c.from, c.want, 1); err != nil || string(got) != want {
			t.Errorf("%s=%s:\n%s\nwant\n%s (%v)", c.key, c.value, got, want, err)
		}
	}
}

// TestSetReplacesAList also where it has several lines.
func TestSetReplacesAList(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b9.toml")
	for value, want := range map[string]string{"": "[]", "a,b": `["a", "b"]`} {
		if err := os.WriteFile(path, []byte("fs.ext4_features = [ \"64bit\", # one\n] # two\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		err := Set(t.Context(), path, "fs.ext4_features", value, true, nil)
		if got, _ := os.ReadFile(path); err != nil || string(got) != "fs.ext4_features = "+want+" # two\n" {
			t.Errorf("%q: %q, %v", value, got, err)
		}
	}
}

// TestSetRefuses leaves the file alone that it can't set a value in.
func TestSetRefuses(t *testing.T) {
	for _, c := range []struct{ key, value, text, want string }{
		{"build.jbos", "4", "", `unknown setting "build.jbos": did you mean "build.jobs"?`},
		{"build", "4", "", "build is a section, not a setting"},
		{"build.jobs", "many", "", `build.jobs: wants an integer, not "many"`},
		{"build.jobs", "-1", "", "build.jobs: must be at least 0"},
		{"build.verbosity", "lodu", "", `unknown value "lodu"`},
		{"build.out", "/srv", "", "is not below the workspace root"},
		{"container.memory", "4Q", "", "container.memory: "},
		{"container.memory", "512", "", "is a unit missing?"},
		{"store.max_age", "soon", "", "store.max_age: "},
		{"repositories.local", "/x", "", "give the repository another name"},
		{"sources.b9", "/x", "", "give the source another name"},
		{"options.a b", "x", "", "cannot be the name of an option"},
		{"options.a", "\xff", "", "is not UTF-8"},
		{"build.jobs", "4", "[build\n", "b9.toml:1:"},
		{"build.jobs", "4", "build = 3\n", "change the file by hand"},
		{"build.jobs", "4", "[[build]]\n", "change the file by hand"},
		{"build.jobs", "4", "build = {}\n", "change the file by hand"},
	} {
		path := filepath.Join(t.TempDir(), "b9.toml")
		if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		err := Set(t.Context(), path, c.key, c.value, true, nil)
		if got, _ := os.ReadFile(path); err == nil || !strings.Contains(err.Error(), c.want) || string(got) != c.text {
			t.Errorf("%s=%s in %q: %v, the file is %q; want %s", c.key, c.value, c.text, err, got, c.want)
		}
	}
}

func TestEditRepositoryRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"repositories = { lab = \"/l\" }\n":                "can't be edited here: change the file by hand",
		"repositories = { b.team = \"/l\", b.x = \"/b\" }": "can't be edited here: change the file by hand",
		"[repositories\n":                                  "expected",
	} {
		if got, err := repositoryChange("team", "/x").apply("f", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q became %q, %v", text, got, err)
		}
	}
	if _, err := repositoryChange("team", "").apply("f", []byte("[repositories]\nlab = \"/l\"\n")); !errors.Is(err, ErrNotSet) {
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
		edited, err := repositoryChange("team", location).apply("f", text)
		if err != nil || location == "" {
			return
		}
		back, err := repositoryChange("team", "").apply("f", edited)
		if err != nil {
			t.Fatalf("%q: %v", edited, err)
		}
		if _, err := repositoryChange("team", location).apply("f", back); err != nil {
			t.Errorf("%q: %v", back, err)
		}
	})
}
