package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRepositories(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "b9.toml")
	load := func(text string, env ...string) (*Config, error) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return Load(Layers{WorkspaceFile: file, Env: env, Flags: []string{"store.dir=/s"}})
	}
	c, err := load("[repositories]\nteam = \"ssh://host/srv\"\nlab = \"images\"\nscp = \"host:images\"\n[shared]\nrepository = \"lab\"\ncache = \"team\"\ncache_push = true\n", "B9_REPOSITORIES_env=/e")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"team": "ssh://host/srv", "lab": dir + "/images", "scp": "host:images", "env": "/e"}
	for name, location := range want {
		if c.Repositories[name] != location {
			t.Errorf("%s is at %q, not %q", name, c.Repositories[name], location)
		}
	}
	if c.DefaultRepository() != "lab" || c.Shared.Cache != "team" || !c.Shared.CachePush {
		t.Errorf("default %s, shared %+v", c.DefaultRepository(), c.Shared)
	}
	var shown []string
	for _, s := range c.Settings() {
		if strings.HasPrefix(s.Key, "repositories.") {
			shown = append(shown, s.Key+" from "+filepath.Base(s.Origin))
		}
	}
	if got := strings.Join(shown, "; "); got != "repositories.env from environment B9_REPOSITORIES_env; repositories.lab from b9.toml:3; repositories.scp from b9.toml:4; repositories.team from b9.toml:2" {
		t.Errorf("settings: %s", got)
	}
	for text, def := range map[string]string{"": LocalRepository, "[repositories]\none = \"/1\"\n": "one", "[repositories]\none = \"/1\"\ntwo = \"/2\"\n": LocalRepository} {
		if c, err := load(text); err != nil || c.DefaultRepository() != def {
			t.Errorf("%q: default %v, %v", text, c, err)
		}
	}
}

func TestRepositoryMistakes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "b9.toml")
	for text, want := range map[string]string{
		"[repositories]\nlocal = \"/x\"\n":                               `b9.toml:2:1: repositories.local: "local" is what this machine has`,
		"[repositories]\n\"a b\" = \"/x\"\n":                             "use letters, digits, _ and -",
		"[repositories]\na = 1\n":                                        "wants a string, not the integer 1",
		"[repositories]\na = \"\"\n":                                     "is empty: want a directory",
		"[repositories]\nteam = \"/x\"\n[shared]\ncache = \"taem\"":      `shared.cache: there is no repository "taem" (have team): did you mean "team"?`,
		"[shared]\ncache = \"team\"":                                     `there is no repository "team" (have none)`,
		"[repositories]\nteam = \"/x\"\n[shared]\nrepository = \"taem\"": `shared.repository: there is no repository "taem" (have team, local)`,
		"[shared]\ncache = \"local\"":                                    `shared.cache: "local" is what this machine has, which is looked up without it`,
		"[repositoris]\na = \"/x\"\n":                                    `unknown section [repositoris]: did you mean "repositories"?`,
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Load(Layers{WorkspaceFile: file, Flags: []string{"store.dir=/s"}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
