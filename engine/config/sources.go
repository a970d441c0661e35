package config

import (
	"errors"
	"fmt"
	"strings"
)

const sourcesPrefix = "sources."

// libraries is the name that labels of b9's own rule libraries have: @b9//.
const libraries = "b9"

// sources sets what a line of [sources] says.
func (d *loader) sources(p source, name string, value any) {
	key := sourcesPrefix + name
	if err := checkSourceName(name); err != nil {
		d.fail(p, "%s: %w", key, err)
		return
	}
	dir, err := asString(value)
	if err == nil && dir == "" {
		err = errors.New("is empty: want a directory")
	}
	if err != nil {
		d.fail(p, "%s: %w", key, err)
		return
	}
	d.config.Sources[name] = resolve(p.dir, dir)
	d.config.origins[key] = p
}

// checkSourceName says why a name can't be that of a source, or nil.
func checkSourceName(name string) error {
	switch {
	case !isName(name):
		return fmt.Errorf("%q can't be the name of a source: use letters, digits, _ and -", name)
	case name == libraries:
		return fmt.Errorf("@%s// has the rule libraries: give the source another name", libraries)
	}
	return nil
}

// isName reports whether a name of at most 64 bytes has letters, digits, _ and
// - only and does not begin with a -.
func isName(name string) bool {
	bad := func(c rune) bool {
		return c != '_' && c != '-' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z')
	}
	return name != "" && name[0] != '-' && len(name) <= 64 && !strings.ContainsFunc(name, bad)
}
