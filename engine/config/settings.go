package config

import (
	"maps"
	"slices"
	"strings"
)

// Setting is one setting as people see it. Values are written as flags have
// them: the elements of a list separated by commas.
type Setting struct {
	Key     string `json:"key"` // such as "container.memory"
	Value   string `json:"value"`
	Default string `json:"default"`
	Origin  string `json:"origin"` // "default", "/path/b9.toml:12", "environment B9_...", "flag -c"
	Doc     string `json:"doc"`

	Choices []string `json:"-"` // of the values that are words
}

// Settings lists every setting in the order of the schema, then the options,
// the repositories and the sources by name.
func (c *Config) Settings() []Setting {
	var all []Setting
	for _, f := range schema() {
		doc := f.tag.Get("doc")
		if f.enum != nil && !strings.Contains(doc, f.enum[0]) {
			doc += " (" + strings.Join(f.enum, ", ") + ")"
		}
		all = append(all, Setting{Key: f.key, Value: format(f.pointer(c)), Default: f.def, Origin: c.origin(f.key), Doc: doc, Choices: f.choices()})
	}
	for _, name := range slices.Sorted(maps.Keys(c.Options)) {
		key := optionsPrefix + name
		all = append(all, Setting{Key: key, Value: c.Options[name], Origin: c.origin(key), Doc: "the workspace's default for -D " + name})
	}
	for _, name := range slices.Sorted(maps.Keys(c.Repositories)) {
		key := repositoriesPrefix + name
		all = append(all, Setting{Key: key, Value: c.Repositories[name], Origin: c.origin(key), Doc: "where the repository " + name + " is"})
	}
	for _, name := range slices.Sorted(maps.Keys(c.Sources)) {
		key := sourcesPrefix + name
		all = append(all, Setting{Key: key, Value: c.Sources[name], Origin: c.origin(key), Doc: "the directory that build files know as @" + name + "//"})
	}
	return all
}

func (c *Config) origin(key string) string {
	if o, ok := c.origins[key]; ok {
		return o.origin
	}
	return "default"
}
