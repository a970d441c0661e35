package content

import (
	"fmt"
	"slices"

	"b9.build/b9/engine/content/cloudinit"
	"b9.build/b9/engine/content/yaml"
	"b9.build/b9/engine/internal/position"
)

// Strategies lists the names of the ways to merge. Beside them Merge accepts
// merge_how strings of cloud-init, such as "list(append)+dict(recurse_list)+str()".
func Strategies() []string { return []string{"strict", "original", "cloud-init"} }

// Merge merges documents from the first to the last:
//
//   - "strict" joins mappings recursively and concatenates lists; of equal
//     scalars one is kept, unequal values of one key are an error that names
//     both positions, all of them at once;
//   - "original" joins mappings recursively, concatenates lists, appends or
//     prepends to a list what is none, concatenates texts, and makes a list of
//     two of anything else;
//   - "cloud-init" does what cloud-init makes of the documents as parts of
//     user-data: each part's own merge_how or merge_type, else
//     dict(replace)+list()+str();
//   - any other name is a merge_how for the parts that have none; a setting
//     that cloud-init does not know, and would ignore, is an error in it.
//
// Null documents count for nothing but in "original". The result of no
// document is nil.
func Merge(strategy string, docs []*yaml.Node) (*yaml.Node, error) {
	switch strategy {
	case "strict":
		kept := slices.DeleteFunc(slices.Clone(docs), func(d *yaml.Node) bool { return d.Value == nil })
		if len(kept) == 0 {
			kept = docs[:min(1, len(docs))]
		}
		return mergeAll(kept, refuseUnequal)
	case "original":
		return mergeAll(docs, (*merger).intoList)
	case "cloud-init":
		return cloudinit.Merge(docs, nil)
	}
	how, err := cloudinit.ParseMergeHow(strategy)
	if err != nil {
		return nil, err
	}
	return cloudinit.Merge(docs, how)
}

// CheckStrategy returns the error of Merge for a strategy that it does not know.
func CheckStrategy(strategy string) error {
	_, err := Merge(strategy, nil)
	return err
}

// merger merges two documents at a time by one of the simple strategies.
type merger struct {
	scalars func(m *merger, a, b *yaml.Node, path string) *yaml.Node // of values that are not both mappings or both lists
	nodes   int                                                      // what may still be made
	own     map[*yaml.Node]bool                                      // lists that this merger made, and may extend
	errs    []*position.Error
}

func mergeAll(docs []*yaml.Node, scalars func(m *merger, a, b *yaml.Node, path string) *yaml.Node) (*yaml.Node, error) {
	m := &merger{scalars: scalars, nodes: yaml.MaxNodes, own: map[*yaml.Node]bool{}}
	var all *yaml.Node
	for _, d := range docs {
		if all == nil {
			all = d
		} else {
			all = m.merge(all, d, "")
		}
	}
	if err := position.Join(m.errs); err != nil {
		return nil, err
	}
	return all, nil
}

// made counts values that are made; past the limit it records an error.
func (m *merger) made(n int, at position.Position) bool {
	m.nodes -= n
	if m.nodes < 0 && len(m.errs) == 0 {
		m.errs = append(m.errs, at.Errorf("the merged document has more than %d values", yaml.MaxNodes))
	}
	return m.nodes >= 0
}

func (m *merger) merge(a, b *yaml.Node, path string) *yaml.Node {
	switch x := a.Value.(type) {
	case yaml.Fields:
		if y, ok := b.Value.(yaml.Fields); ok {
			return m.fields(a, x, y, path)
		}
	case []*yaml.Node:
		if y, ok := b.Value.([]*yaml.Node); ok {
			return m.lists(a, x, y)
		}
	}
	return m.scalars(m, a, b, path)
}

func (m *merger) fields(a *yaml.Node, x, y yaml.Fields, path string) *yaml.Node {
	if !m.made(len(y), a.At) {
		return a
	}
	s := yaml.NewFieldSet(len(x) + len(y))
	for _, f := range x {
		s.Set(f)
	}
	for _, f := range y {
		if old := s.Find(f.Key); old != nil {
			f.Value = m.merge(old, f.Value, yaml.JoinPath(path, f.Key))
		}
		s.Set(f)
	}
	return &yaml.Node{Value: s.Fields, At: a.At}
}

func (m *merger) lists(at *yaml.Node, x, y []*yaml.Node) *yaml.Node {
	if !m.made(len(y), at.At) {
		return at
	}
	if m.own[at] {
		at.Value = append(x, y...)
		return at
	}
	all := &yaml.Node{Value: append(append(make([]*yaml.Node, 0, 2*(len(x)+len(y))), x...), y...), At: at.At}
	m.own[all] = true
	return all
}

// refuseUnequal is what "strict" does with two values of one key.
func refuseUnequal(m *merger, a, b *yaml.Node, path string) *yaml.Node {
	if yaml.Equal(a, b) {
		return a
	}
	if path == "" {
		path = "the document"
	}
	m.errs = append(m.errs, b.At.Errorf("%s is %s here and %s at %s: remove one of them, or name a strategy that decides",
		path, describeValue(b), describeValue(a), a.At))
	return a
}

// describeValue shows a value, with its kind where that could be the difference.
func describeValue(n *yaml.Node) string {
	switch n.Value.(type) {
	case string, nil, []*yaml.Node, yaml.Fields, bool:
		return n.Show()
	}
	return fmt.Sprintf("%s (%s)", n.Show(), n.Kind())
}

// intoList is what "original" does with two values of one key.
func (m *merger) intoList(a, b *yaml.Node, _ string) *yaml.Node {
	x, isListA := a.Value.([]*yaml.Node)
	y, isListB := b.Value.([]*yaml.Node)
	s, isTextA := a.Value.(string)
	t, isTextB := b.Value.(string)
	switch {
	case isListA:
		return m.lists(a, x, []*yaml.Node{b})
	case isListB:
		return m.lists(a, []*yaml.Node{a}, y)
	case isTextA && isTextB:
		return &yaml.Node{Value: s + t, At: a.At}
	}
	return m.lists(a, []*yaml.Node{a}, []*yaml.Node{b})
}
