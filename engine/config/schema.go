package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"b9.build/b9/engine/near"
	"b9.build/b9/engine/size"
)

// field is one setting of the schema. The tags min and max are inclusive bounds,
// and least is the smallest value that is not 0.
type field struct {
	key, def string
	enum     []string
	tag      reflect.StructTag
	index    []int // of the struct field, for reflect
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
	f := field{key: section + "." + sf.Tag.Get("toml"), def: sf.Tag.Get("default"), tag: sf.Tag, index: index}
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
// *[]string, *size.Bytes, *size.Limit or *size.Duration.
func (f field) pointer(c *Config) any {
	return reflect.ValueOf(c).Elem().FieldByIndex(f.index).Addr().Interface()
}

// choices are the words that a value can be, if it is one of a few.
func (f field) choices() []string {
	if _, ok := f.pointer(&Config{}).(*bool); ok {
		return []string{"true", "false"}
	}
	return f.enum
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
	case *size.Bytes:
		return store(f, p, value, asSize)
	case *size.Limit:
		return store(f, p, value, asLimit)
	case *size.Duration:
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
		return inRange(f, float64(x), asFloat)
	case float64:
		return inRange(f, x, asFloat)
	case size.Bytes:
		return inRange(f, x, asSize)
	}
	return nil
}

func (f field) checkString(s string) error {
	if f.enum != nil && !slices.Contains(f.enum, s) {
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

// inRange checks a number against the bounds, which parse reads.
func inRange[T float64 | size.Bytes](f field, v T, parse func(any) (T, error)) error {
	bound := func(name string) (n T, written string) {
		written = f.tag.Get(name)
		if written == "" {
			return v, ""
		}
		n, err := parse(text(written))
		if err != nil {
			panic(fmt.Sprintf("config: a bound of %s: %v", f.key, err))
		}
		return n, written
	}
	if n, written := bound("min"); written != "" && !(v >= n) { // so that NaN is refused
		return fmt.Errorf("must be at least %s", written)
	}
	if n, written := bound("max"); v > n {
		return fmt.Errorf("must be at most %s", written)
	}
	if n, written := bound("least"); v != 0 && v < n {
		return fmt.Errorf("must be 0 or at least %s (is a unit missing?)", written)
	}
	return nil
}
