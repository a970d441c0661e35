package content

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"b9.build/b9/engine/content/template"
	"b9.build/b9/engine/content/yaml"
)

// Variables are what ${name} stands for in the texts of a tree.
type Variables struct {
	Values map[string]*yaml.Node
	Keep   []string        // names that stay as they are
	Used   map[string]bool // gets every name that was wanted
}

// Expand returns the tree with values in the place of ${name}. A text that is nothing
// but ${name} becomes the value, of whatever kind; as a part of a text, or in a key, a
// value is text, a number or a bool. So no value can add keys, or end where it stands.
// $${ stands for ${. Errors are *position.Error at the text.
func Expand(n *yaml.Node, v Variables) (*yaml.Node, error) {
	switch value := n.Value.(type) {
	case string:
		return v.text(n, value)
	case []*yaml.Node:
		list := make([]*yaml.Node, len(value))
		for i := range value {
			var err error
			if list[i], err = Expand(value[i], v); err != nil {
				return nil, err
			}
		}
		return &yaml.Node{Value: list, At: n.At}, nil
	case yaml.Fields:
		return v.fields(n, value)
	}
	return n, nil
}

func (v Variables) fields(n *yaml.Node, fields yaml.Fields) (*yaml.Node, error) {
	set := yaml.NewFieldSet(len(fields))
	for _, f := range fields {
		key, err := Expand(f.Key, v)
		if err != nil {
			return nil, err
		}
		switch key.Value.(type) {
		case []*yaml.Node, yaml.Fields:
			return nil, f.Key.At.Errorf("a key can't be %s: only text, a number or a bool", key.Kind())
		}
		value, err := Expand(f.Value, v)
		if err != nil {
			return nil, err
		}
		if set.Find(key) != nil {
			return nil, f.Key.At.Errorf("the key %s is there already", key.Show())
		}
		set.Set(yaml.Field{Key: key, Value: value})
	}
	return &yaml.Node{Value: set.Fields, At: n.At}, nil
}

func (v Variables) text(n *yaml.Node, text string) (*yaml.Node, error) {
	if !strings.Contains(text, "${") {
		return n, nil
	}
	t, err := template.Parse("", text, v.Keep)
	if err != nil {
		_, reason, _ := strings.Cut(strings.SplitN(err.Error(), "\n", 2)[0], ": ")
		return nil, n.At.Errorf("in this text %s", reason)
	}
	if name := t.Only(); name != "" {
		value, err := v.value(name)
		if err != nil {
			return nil, n.At.Errorf("%v", err)
		}
		return &yaml.Node{Value: value.Value, At: n.At}, nil
	}
	expanded, err := t.Expand(v.part)
	if err != nil {
		return nil, n.At.Errorf("%v", err)
	}
	return &yaml.Node{Value: expanded, At: n.At}, nil
}

func (v Variables) value(name string) (*yaml.Node, error) {
	v.Used[name] = true
	if n := v.Values[name]; n != nil {
		return n, nil
	}
	return nil, fmt.Errorf("%s (keep = [%q] leaves it as it is)", template.UnknownName(name, slices.Collect(maps.Keys(v.Values))), name)
}

// part is a value as a part of a text.
func (v Variables) part(name string) (string, error) {
	n, err := v.value(name)
	if err != nil {
		return "", err
	}
	switch value := n.Value.(type) {
	case string:
		return value, nil
	case nil, []*yaml.Node, yaml.Fields, yaml.Bytes:
		return "", fmt.Errorf("the value of %s is %s: only text, a number or a bool can be part of a text", name, n.Kind())
	}
	return n.Show(), nil
}
