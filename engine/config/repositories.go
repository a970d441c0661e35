package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"b9.build/b9/engine/near"
)

// LocalRepository is the name of the shared images that this machine has. No
// repository can have it.
const LocalRepository = "local"

const repositoriesPrefix = "repositories."

// RepositoryKey is the key of the setting that says where a repository is.
func RepositoryKey(name string) string { return repositoriesPrefix + name }

// CheckRepositoryName says why a name can't be that of a repository, or nil.
func CheckRepositoryName(name string) error {
	switch {
	case !isName(name):
		return fmt.Errorf("%q can't be the name of a repository: use letters, digits, _ and -", name)
	case name == LocalRepository:
		return fmt.Errorf("%q is what this machine has: give the repository another name", name)
	}
	return nil
}

// repository sets what a line of [repositories] says.
func (d *loader) repository(p source, name string, value any) {
	key := RepositoryKey(name)
	if err := CheckRepositoryName(name); err != nil {
		d.fail(p, "%s: %w", key, err)
		return
	}
	location, err := asString(value)
	if err == nil && location == "" {
		err = errors.New("is empty: want a directory, ssh://host/path or host:path")
	}
	if err == nil && isDirectory(location) {
		location = resolve(p.dir, location)
	}
	if err == nil && d.location != nil {
		err = d.location(location)
	}
	if err != nil {
		d.fail(p, "%s: %w", key, err)
		return
	}
	d.config.Repositories[name] = location
	d.config.origins[key] = p
}

// isDirectory tells a directory from a location on a server: that has a ":"
// before the first "/".
func isDirectory(location string) bool {
	head, _, _ := strings.Cut(location, "/")
	return !strings.Contains(head, ":")
}

// checkRepositories checks that the names in [shared] are those of repositories.
func (d *loader) checkRepositories() {
	names := slices.Sorted(maps.Keys(d.config.Repositories))
	for key, name := range map[string]string{"shared.repository": d.config.Shared.Repository, "shared.cache": d.config.Shared.Cache} {
		if name == "" || name == LocalRepository && key == "shared.repository" || slices.Contains(names, name) {
			continue
		}
		if name == LocalRepository {
			d.errs = append(d.errs, fmt.Errorf("%s: %s: %q is what this machine has, which is looked up without it: name a repository, or leave it empty", d.config.origins[key].at, key, name))
			continue
		}
		have := slices.Clone(names)
		if key == "shared.repository" {
			have = append(have, LocalRepository)
		}
		if len(have) == 0 {
			have = []string{"none"}
		}
		d.errs = append(d.errs, fmt.Errorf("%s: %s: there is no repository %q (have %s)%s",
			d.config.origins[key].at, key, name, strings.Join(have, ", "), near.Hint(name, names)))
	}
}

// DefaultRepository is the repository that is meant where none is named: the
// configured one, else the only one there is, else LocalRepository.
func (c *Config) DefaultRepository() string {
	if c.Shared.Repository != "" {
		return c.Shared.Repository
	}
	if len(c.Repositories) == 1 {
		for name := range c.Repositories {
			return name
		}
	}
	return LocalRepository
}
