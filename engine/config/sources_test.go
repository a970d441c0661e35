package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSources(t *testing.T) {
	user := write(t, "[sources]\nimages = \"/srv/images\"\nkeys = \"keys\"\n")
	space := write(t, "[sources]\nimages = \"../images\"\n")
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	c := mustLoad(t, Layers{UserFile: user, WorkspaceFile: space, Env: []string{"B9_SOURCES_env=/env"}, Flags: []string{"sources.flag=~/x"}})
	for name, dir := range map[string]string{
		"images": filepath.Join(filepath.Dir(filepath.Dir(space)), "images"), "keys": filepath.Join(filepath.Dir(user), "keys"),
		"env": "/env", "flag": filepath.Join(home, "x"),
	} {
		if c.Sources[name] != dir {
			t.Errorf("%s is %q, not %q", name, c.Sources[name], dir)
		}
		if s := find(t, c, "sources."+name); s.Value != dir || !strings.Contains(s.Doc, "@"+name+"//") || s.Origin == "default" {
			t.Errorf("%+v", s)
		}
	}
	for text, want := range map[string]string{
		"[sources]\nb9 = '/x'\n":    ":2:1: sources.b9: @b9// has the rule libraries",
		"[sources]\n'a b' = '/x'\n": `"a b" can't be the name of a source`,
		"[sources]\na.b = '/x'\n":   `"a.b" can't be the name of a source`,
		"[sources]\na = ''\n":       "sources.a: is empty: want a directory",
		"[sources]\na = 7\n":        "sources.a: wants a string, not the integer 7",
		"[source]\na = '/x'\n":      "unknown section [source]: did you mean \"sources\"?",
		"sources = '/x'\n":          "sources is a section, not a setting",
	} {
		if _, err := Load(Layers{WorkspaceFile: write(t, text)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
