package cloudinit

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"b9.build/b9/engine/content/yaml"
	"b9.build/b9/engine/internal/position"
	"b9.build/b9/engine/near"
)

// mergeRule is one merger of cloud-init with its settings, such as
// list(append). options holds more than one element, or one that settings
// gave as a bare text: Python finds a setting in that as a substring.
type mergeRule struct {
	name    string // dict, list or str
	options []string
	bare    bool
}

// has reports whether one of the settings is there, as Python's "in" finds it.
func (r *mergeRule) has(names ...string) bool {
	for _, name := range names {
		if r.bare && strings.Contains(r.options[0], name) || !r.bare && slices.Contains(r.options, name) {
			return true
		}
	}
	return false
}

// method is the first of the known methods that is set.
func (r *mergeRule) method(known ...string) string {
	for _, m := range known {
		if r.has(m) {
			return m
		}
	}
	return ""
}

// defaultRules is how cloud-init merges a part that says nothing.
func defaultRules() []mergeRule {
	return []mergeRule{{name: "dict", options: []string{"replace"}}, {name: "list"}, {name: "str"}}
}

// MergeHow is what a merge_how text says.
type MergeHow struct{ rules []mergeRule }

// ParseMergeHow reads a merge_how text such as "list(append)+dict(recurse_list)",
// and refuses settings in it that cloud-init would ignore.
func ParseMergeHow(text string) (*MergeHow, error) {
	rules, err := parseMergeHow(text)
	if err == nil && len(rules) == 0 { // in a document that is as good as none
		err = fmt.Errorf("unknown strategy %q (have strict, original, cloud-init)", text)
	}
	if err == nil {
		err = checkSettings(rules)
	}
	if err != nil {
		return nil, err
	}
	return &MergeHow{rules}, nil
}

var mergeRuleForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([a-z_][a-z0-9_]*)\((.*?)\)$`)
})

// parseMergeHow reads a merge_how text as cloud-init does.
func parseMergeHow(text string) ([]mergeRule, error) {
	var rules []mergeRule
	for part := range strings.SplitSeq(text, "+") {
		part = strings.ReplaceAll(strings.TrimSpace(strings.ToLower(part)), "-", "_")
		if part == "" {
			continue
		}
		m := mergeRuleForm().FindStringSubmatch(part)
		if m == nil {
			return nil, fmt.Errorf(`unknown strategy %q (have strict, original, cloud-init, or a merge_how such as "list(append)+dict(recurse_list)+str()")`, text)
		}
		var options []string
		for o := range strings.SplitSeq(m[2], ",") {
			if o = strings.TrimSpace(o); o != "" {
				options = append(options, o)
			}
		}
		rules = append(rules, mergeRule{name: m[1], options: options})
	}
	return rules, checkMergeRules(rules)
}

// mergeSettings are the settings that each merger of cloud-init knows.
func mergeSettings() map[string][]string {
	return map[string][]string{
		"list": {"append", "prepend", "replace", "no_replace", "recurse_list", "recurse_array", "recurse_dict", "recurse_str"},
		"dict": {"replace", "no_replace", "recurse_list", "recurse_array", "recurse_str", "allow_delete"},
		"str":  {"append"},
	}
}

// checkSettings refuses settings that cloud-init would ignore.
func checkSettings(rules []mergeRule) error {
	for _, r := range rules {
		known := mergeSettings()[r.name]
		for _, o := range r.options {
			if slices.Contains(known, o) {
				continue
			}
			msg := fmt.Sprintf("unknown setting %q of %s (have %s)", o, r.name, strings.Join(known, ", "))
			msg += near.Hint(o, known)
			return errors.New(msg)
		}
	}
	return nil
}

// checkMergeRules canonicalises names and refuses unknown ones.
func checkMergeRules(rules []mergeRule) error {
	for i := range rules {
		name := strings.TrimPrefix(rules[i].name, "m_")
		if !slices.Contains([]string{"dict", "list", "str"}, name) {
			return fmt.Errorf("unknown merger %q (have dict, list, str)", rules[i].name)
		}
		rules[i].name = name
	}
	return nil
}

// splitMergeHow splits a document into its merge_how or merge_type, if it has
// one, and the rest.
func splitMergeHow(fields yaml.Fields) ([]mergeRule, yaml.Fields, error) {
	rest := slices.Clone(fields)
	for _, name := range []string{"merge_how", "merge_type"} {
		how := fields.Get(name)
		rest = slices.DeleteFunc(rest, func(f yaml.Field) bool { return f.Key.Value == any(name) })
		if how != nil && how.Value != nil {
			rules, err := mergeRulesOf(how)
			return rules, rest, err
		}
	}
	return nil, rest, nil
}

func mergeRulesOf(how *yaml.Node) (rules []mergeRule, err error) {
	switch v := how.Value.(type) {
	case string:
		rules, err = parseMergeHow(v)
	case []*yaml.Node:
		for _, item := range v {
			rule, err := mergeRuleOf(item)
			if err != nil {
				return nil, err
			}
			rules = append(rules, rule)
		}
		err = checkMergeRules(rules)
	default:
		err = fmt.Errorf("want a text or a list, got %s", how.Kind())
	}
	if err != nil {
		return nil, how.At.Errorf("merge_how: %v", err)
	}
	return rules, nil
}

// mergeRuleOf reads an element of a merge_how list: {name: list, settings:
// [append]} or [list, append].
func mergeRuleOf(n *yaml.Node) (mergeRule, error) {
	var rule mergeRule
	bad := n.At.Errorf(`merge_how: want elements such as {name: list, settings: [append]} or [list, append]`)
	switch v := n.Value.(type) {
	case yaml.Fields:
		name, settings := v.Get("name"), v.Get("settings")
		if name == nil || settings == nil {
			return rule, bad
		}
		text, ok := name.Value.(string)
		rule.name = strings.TrimSpace(strings.ReplaceAll(text, "-", "_"))
		if bare, isText := settings.Value.(string); isText {
			rule.options, rule.bare = []string{bare}, true
			return rule, nil
		}
		list, isList := settings.Value.([]*yaml.Node)
		if !ok || !isList {
			return rule, bad
		}
		rule.options = optionTexts(list)
		return rule, nil
	case []*yaml.Node:
		texts := optionTexts(v)
		if len(texts) == 0 || len(texts) != len(v) {
			return rule, bad
		}
		return mergeRule{name: texts[0], options: texts[1:]}, nil
	}
	return rule, bad
}

func optionTexts(list []*yaml.Node) []string {
	var texts []string
	for _, n := range list {
		if s, ok := n.Value.(string); ok {
			texts = append(texts, s)
		}
	}
	return texts
}

// Merge merges documents as cloud-init does the parts of user-data:
// each as its own merge_how says, else as otherwise says, else, where that is
// nil, as cloud-init does on its own. The result of no document is nil.
func Merge(docs []*yaml.Node, otherwise *MergeHow) (*yaml.Node, error) {
	if len(docs) == 0 {
		return nil, nil
	}
	if otherwise == nil {
		otherwise = &MergeHow{defaultRules()}
	}
	all := &yaml.Node{Value: yaml.Fields{}, At: docs[0].At}
	left := yaml.MaxNodes
	for _, d := range docs {
		fields, ok := d.Value.(yaml.Fields)
		if d.Value == nil {
			continue
		}
		if !ok {
			return nil, d.At.Errorf("cloud-init merges mappings only, got %s", d.Kind())
		}
		rules, rest, err := splitMergeHow(fields)
		if err != nil {
			return nil, err
		}
		if len(rules) == 0 {
			rules = otherwise.rules
		}
		m := merger{rules: rules, left: left}
		if all, err = m.merge(all, &yaml.Node{Value: rest, At: d.At}); err != nil {
			return nil, err
		}
		left = m.left
	}
	return all, nil
}

// merger merges with the rules of one part.
type merger struct {
	rules []mergeRule
	left  int // values that may still be made
}

func (m *merger) rule(name string) *mergeRule {
	for i := range m.rules {
		if m.rules[i].name == name {
			return &m.rules[i]
		}
	}
	return nil
}

// merge dispatches on the kind of what is there already.
func (m *merger) merge(old, more *yaml.Node) (*yaml.Node, error) {
	switch v := old.Value.(type) {
	case yaml.Fields:
		if r := m.rule("dict"); r != nil {
			return m.dict(r, old, v, more)
		}
	case []*yaml.Node:
		if r := m.rule("list"); r != nil {
			return m.list(r, old, v, more)
		}
	case string:
		if r := m.rule("str"); r != nil {
			return m.text(r, old, v, more)
		}
	}
	return old, nil
}

func (m *merger) count(n int, at position.Position) error {
	if m.left -= n; m.left < 0 {
		return at.Errorf("the merged document has more than %d values", yaml.MaxNodes)
	}
	return nil
}

func (m *merger) dict(r *mergeRule, at *yaml.Node, old yaml.Fields, more *yaml.Node) (*yaml.Node, error) {
	added, ok := more.Value.(yaml.Fields)
	if !ok {
		return at, nil
	}
	if err := m.count(len(added), at.At); err != nil {
		return nil, err
	}
	s, gone := yaml.NewFieldSet(len(old)+len(added)), yaml.NewFieldSet(0)
	for _, f := range old {
		s.Set(f)
	}
	replace := r.method("replace", "no_replace") == "replace"
	for _, f := range added {
		before := s.Find(f.Key)
		switch {
		case before == nil:
			s.Set(f)
		case f.Value.Value == nil && r.has("allow_delete"):
			gone.Set(f)
		case replace:
			s.Set(f)
		default:
			v, err := m.recurse(r, before, f.Value, before, true)
			if err != nil {
				return nil, err
			}
			s.Set(yaml.Field{Key: f.Key, Value: v})
		}
	}
	fields := slices.DeleteFunc(s.Fields, func(f yaml.Field) bool { return gone.Find(f.Key) != nil })
	return &yaml.Node{Value: fields, At: at.At}, nil
}

// recurse merges two values at the same key or index where the rule says so;
// otherwise is what stays where it does not.
func (m *merger) recurse(r *mergeRule, old, more, otherwise *yaml.Node, dicts bool) (*yaml.Node, error) {
	deeper := false
	switch more.Value.(type) {
	case []*yaml.Node:
		deeper = r.has("recurse_array", "recurse_list")
	case string:
		deeper = r.has("recurse_str")
	case yaml.Fields:
		deeper = dicts || r.has("recurse_dict")
	}
	if !deeper {
		return otherwise, nil
	}
	return m.merge(old, more)
}

func (m *merger) list(r *mergeRule, at *yaml.Node, old []*yaml.Node, more *yaml.Node) (*yaml.Node, error) {
	method := r.method("append", "prepend", "replace", "no_replace")
	if _, isList := more.Value.([]*yaml.Node); !isList && (method == "" || method == "replace") {
		return more, nil
	}
	added, err := elements(more)
	if err != nil {
		return nil, err
	}
	if err := m.count(len(added), at.At); err != nil {
		return nil, err
	}
	var all []*yaml.Node
	switch method {
	case "append":
		all = slices.Concat(old, added)
	case "prepend":
		all = slices.Concat(added, old)
	default:
		if _, dict := more.Value.(yaml.Fields); dict && len(added) > 0 && len(old) > 0 {
			return nil, more.At.Errorf("a mapping can't be merged into the list at %s", at.At)
		}
		all = slices.Clone(old)
		for i := range min(len(old), len(added)) {
			if method == "no_replace" {
				break
			}
			if all[i], err = m.recurse(r, old[i], added[i], added[i], false); err != nil {
				return nil, err
			}
		}
	}
	return &yaml.Node{Value: all, At: at.At}, nil
}

// elements is what Python iterates over: of a text its characters, of a
// mapping its keys.
func elements(n *yaml.Node) ([]*yaml.Node, error) {
	var list []*yaml.Node
	switch v := n.Value.(type) {
	case []*yaml.Node:
		return v, nil
	case string:
		for _, r := range v {
			list = append(list, &yaml.Node{Value: string(r), At: n.At})
		}
		return list, nil
	case yaml.Fields:
		for _, f := range v {
			list = append(list, f.Key)
		}
		return list, nil
	}
	return nil, n.At.Errorf("%s can't be merged into a list", n.Kind())
}

func (m *merger) text(r *mergeRule, at *yaml.Node, old string, more *yaml.Node) (*yaml.Node, error) {
	if !r.has("append") {
		return more, nil
	}
	s, ok := more.Value.(string)
	if !ok {
		return nil, more.At.Errorf("%s can't be appended to the text at %s", more.Kind(), at.At)
	}
	return &yaml.Node{Value: old + s, At: at.At}, nil
}
