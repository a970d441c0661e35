package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"b9.build/b9/engine/near"
	"b9.build/b9/engine/size"
)

// field is one setting of the schema.
type field struct {
	key, def, doc string
	enum          []string
	min, max      string // inclusive; "" means unbounded
	least         string // the smallest value that is not 0
	index         []int  // of the struct field, for reflect
}

// schema lists the settings in the order of the struct.
func schema() []field {
	var all []field
	for _, section := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		name := section.Tag.Get("toml")
		if name == "" {
			continue
		}
		for _, sf := range reflect.VisibleFields(section.Type) {
			all = append(all, newField(name, sf, append(section.Index[:1:1], sf.Index...)))
		}
	}
	return all
}

func newField(section string, sf reflect.StructField, index []int) field {
	f := field{
		key:   section + "." + sf.Tag.Get("toml"),
		def:   sf.Tag.Get("default"),
		doc:   sf.Tag.Get("doc"),
		min:   sf.Tag.Get("min"),
		max:   sf.Tag.Get("max"),
		least: sf.Tag.Get("least"),
		index: index,
	}
	if e := sf.Tag.Get("enum"); e != "" {
		f.enum = strings.Split(e, ",")
	}
	if f.key == "store.dir" {
		f.def = defaultStore()
	}
	return f
}

// defaultStore is "" where there is no home directory.
func defaultStore() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "b9")
}

// pointer is the address of the field in c: *int, *bool, *string, *float64,
// *[]string, *Size or *Duration.
func (f field) pointer(c *Config) any {
	return reflect.ValueOf(c).Elem().FieldByIndex(f.index).Addr().Interface()
}

// set stores value, text or what a TOML file holds, if it is a good one.
// Otherwise c is as before.
func (f field) set(c *Config, value any) error {
	dst := f.pointer(c)
	switch p := dst.(type) {
	case *int:
		return store(f, p, value, asInt)
	case *bool:
		return store(f, p, value, asBool)
	case *string:
		return store(f, p, value, asString)
	case *float64:
		return store(f, p, value, asFloat)
	case *[]string:
		return store(f, p, value, asList)
	case *Size:
		return store(f, p, value, asSize)
	case *Duration:
		return store(f, p, value, asDuration)
	}
	panic(fmt.Sprintf("config: %s has type %T, which the schema does not know", f.key, dst))
}

func store[T any](f field, dst *T, value any, convert func(any) (T, error)) error {
	v, err := convert(value)
	if err != nil {
		return err
	}
	if err := f.check(v); err != nil {
		return err
	}
	*dst = v
	return nil
}

// check enforces what the tags say, and what the keys of paths need.
func (f field) check(v any) error {
	switch x := v.(type) {
	case string:
		return f.checkString(x)
	case int:
		return f.inRange(float64(x), func(s string) (float64, error) { return strconv.ParseFloat(s, 64) })
	case float64:
		return f.inRange(x, func(s string) (float64, error) { return strconv.ParseFloat(s, 64) })
	case Size:
		return f.inRange(float64(x), func(s string) (float64, error) { n, err := size.Parse(s); return float64(n), err })
	}
	return nil
}

func (f field) checkString(s string) error {
	if f.enum != nil && !contains(f.enum, s) {
		return fmt.Errorf("unknown value %q (have %s)%s", s, strings.Join(f.enum, ", "), near.Hint(s, f.enum))
	}
	switch f.key {
	case "build.out":
		if c := filepath.Clean(s); s == "" || c == "." || c == "/" {
			return fmt.Errorf("results need a directory of their own, not %q: use one such as %q", s, f.def)
		}
	case "libvirt.emulator":
		if s != "" && !filepath.IsAbs(s) {
			return fmt.Errorf("%q is not an absolute path", s)
		}
	case "store.dir", "container.network", "libvirt.uri":
		if s == "" {
			return errors.New("must not be empty")
		}
	}
	return nil
}

func (f field) inRange(v float64, parse func(string) (float64, error)) error {
	bound := func(tag string) float64 {
		n, err := parse(tag)
		if err != nil {
			panic(fmt.Sprintf("config: a bound of %s: %v", f.key, err))
		}
		return n
	}
	switch {
	case f.min != "" && !(v >= bound(f.min)): // so that NaN is refused
		return fmt.Errorf("must be at least %s", f.min)
	case f.max != "" && v > bound(f.max):
		return fmt.Errorf("must be at most %s", f.max)
	case f.least != "" && v != 0 && v < bound(f.least):
		return fmt.Errorf("must be 0 or at least %s (is a unit missing?)", f.least)
	}
	return nil
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
