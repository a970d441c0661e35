package cloudinit

import (
	"fmt"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"

	"b9.build/b9/engine/content/yaml"
	"b9.build/b9/engine/internal/position"
	"b9.build/b9/engine/near"
)

// The names of findings of a check, which silence them.
const (
	findUnknown     = "unknown-key" // a key that nothing reads
	findType        = "type"        // a value of the wrong kind
	findValue       = "value"       // a value that is not allowed
	findMissing     = "missing"     // a key that must be there
	findDeprecated  = "deprecated"  // works, but will not for ever
	findPermissions = "permissions" // permission bits that are none
	findNoHeader    = "no-header"   // user-data that cloud-init does not recognise
	findNetplan     = "netplan"     // valid, but some version of netplan can't read it
)

// FindingNames lists every name of a finding, of reading a document and of
// checking it.
func FindingNames() []string {
	return append(yaml.FindingNames(), findUnknown, findType, findValue, findMissing, findDeprecated, findPermissions, findNoHeader, findNetplan)
}

// kinds is a set of kinds of values.
type kinds uint8

const (
	isText kinds = 1 << iota
	isBool
	isInt
	isReal // a float, or an int
	isNull
	isList
	isMap
)

// kindNames are in the order of their bits.
func kindNames() []string {
	return []string{"text", "bool", "int", "number", "null", "list", "mapping"}
}

func (k kinds) names() []string {
	var all []string
	for i, name := range kindNames() {
		if k&(1<<i) != 0 {
			all = append(all, name)
		}
	}
	return all
}

// kindsOf returns the kinds that a value counts as. A date is of none.
func kindsOf(n *yaml.Node) kinds {
	switch n.Value.(type) {
	case nil:
		return isNull
	case bool:
		return isBool
	case int64, *big.Int:
		return isInt | isReal
	case float64:
		return isReal
	case string, yaml.Bytes:
		return isText
	case []*yaml.Node:
		return isList
	case yaml.Fields:
		return isMap
	}
	return 0
}

// rule says what a value must be, in the terms of JSON Schema draft 4: what a
// rule says of lists concerns lists only, and so on.
type rule struct {
	kinds      kinds // 0 is any
	enum       []any
	fields     map[string]*rule
	patterns   []fieldPattern
	rest       *rule // what other fields must be
	closed     bool  // there must be no other fields
	required   []string
	minFields  int
	items      *rule
	minItems   int
	maxItems   int // 0 is any number
	unique     bool
	minimum    *int64
	maximum    *int64
	form       *regexp.Regexp
	isDate     bool
	one, any   []*rule
	deprecated bool
	advice     bool  // what is wrong with the value is a warning: it has no effect
	also       check // of our own
}

type fieldPattern struct {
	name *regexp.Regexp
	rule *rule
}

// ruleCheck collects what is wrong with a tree.
type ruleCheck struct {
	findings []yaml.Finding
	silent   map[position.Position]bool // where a warning of reading is not needed: the value means what the rule wants, or is a mistake
	work     int                        // values that may still be visited
}

func (c *ruleCheck) add(n *yaml.Node, path, name, format string, args ...any) {
	f := yaml.Finding{At: n.At, Path: path, Name: name, Msg: fmt.Sprintf(format, args...)}
	if n.Surprise() != "" && name == findType {
		f.Msg += ": " + n.Explain()
		c.silence(n)
	}
	c.findings = append(c.findings, f)
}

func (c *ruleCheck) silence(n *yaml.Node) {
	if c.silent == nil {
		c.silent = map[position.Position]bool{}
	}
	c.silent[n.At] = true
}

// with joins to the findings the warnings of reading that are still needed.
func (c *ruleCheck) with(warnings []yaml.Finding) []yaml.Finding {
	for _, w := range warnings {
		if !c.silent[w.At] {
			c.findings = append(c.findings, w)
		}
	}
	return c.findings
}

// apply checks one value and all below it.
func (c *ruleCheck) apply(r *rule, n *yaml.Node, path string) {
	if c.work--; c.work < 0 {
		return
	}
	if r.deprecated {
		c.findings = append(c.findings, yaml.Finding{At: n.At, Path: path, Name: findDeprecated, Msg: "this is deprecated", Warning: true})
	}
	k := kindsOf(n)
	if r.kinds != 0 && r.kinds&k == 0 {
		c.add(n, path, findType, "want %s, got %s", strings.Join(r.kinds.names(), " or "), n.Kind())
		return
	}
	if r.kinds != 0 && n.Surprise() == yaml.SurpriseBool {
		c.silence(n)
	}
	if r.advice {
		first := len(c.findings)
		defer func() {
			for i := range c.findings[first:] {
				c.findings[first+i].Warning = true
			}
		}()
	}
	if r.enum != nil {
		c.enum(r, n, path)
	}
	switch v := n.Value.(type) {
	case yaml.Fields:
		c.mapping(r, n, v, path)
	case []*yaml.Node:
		c.list(r, n, v, path)
	case string:
		c.text(r, n, v, path)
	case yaml.Bytes:
		if r.form != nil {
			c.add(n, path, findType, "want text, got binary data")
		}
	case int64:
		if r.minimum != nil && v < *r.minimum {
			c.add(n, path, findValue, "%d is less than %d", v, *r.minimum)
		}
		if r.maximum != nil && v > *r.maximum {
			c.add(n, path, findValue, "%d is more than %d", v, *r.maximum)
		}
	}
	if r.also != nil {
		if name, problem := r.also(n); problem != "" {
			c.add(n, path, name, "%s", problem)
		}
	}
	if r.one != nil {
		c.alternatives(r.one, true, n, path)
	}
	if r.any != nil {
		c.alternatives(r.any, false, n, path)
	}
}

func (c *ruleCheck) enum(r *rule, n *yaml.Node, path string) {
	for _, v := range r.enum {
		if n.Value == v {
			if _, ok := v.(bool); ok && n.Surprise() != "" {
				c.silence(n)
			}
			return
		}
	}
	var have, words []string
	for _, v := range r.enum {
		have = append(have, fmt.Sprint(v))
		if s, ok := v.(string); ok {
			words = append(words, s)
		}
	}
	msg := fmt.Sprintf("unknown value %s (have %s)", n.Show(), strings.Join(have, ", "))
	if s, ok := n.Value.(string); ok {
		msg += near.Hint(s, words)
	} else if n.Surprise() != "" {
		c.silence(n)
		msg += ": " + n.Explain()
	}
	c.add(n, path, findValue, "%s", msg)
}

func (c *ruleCheck) text(r *rule, n *yaml.Node, v, path string) {
	if r.form != nil && !r.form.MatchString(v) {
		c.add(n, path, findValue, "%s is not of the form %s", n.Show(), r.form)
	}
	if r.isDate && !isISODate(v) {
		c.add(n, path, findValue, "%s is no date: write it as \"2038-01-19\"", n.Show())
	}
}

func isISODate(s string) bool {
	_, err := time.Parse(time.DateOnly, s)
	_, compact := time.Parse("20060102", s)
	return err == nil || compact == nil
}

func (c *ruleCheck) list(r *rule, n *yaml.Node, v []*yaml.Node, path string) {
	switch {
	case len(v) < r.minItems:
		c.add(n, path, findValue, "the list has %d elements, at least %d are needed", len(v), r.minItems)
	case r.maxItems > 0 && len(v) > r.maxItems:
		c.add(n, path, findValue, "the list has %d elements, at most %d are allowed", len(v), r.maxItems)
	}
	if r.unique {
		c.distinct(v, path)
	}
	if r.items == nil {
		return
	}
	for i, item := range v {
		c.apply(r.items, item, yaml.IndexPath(path, i))
	}
}

func (c *ruleCheck) distinct(v []*yaml.Node, path string) {
	seen := map[any]*yaml.Node{}
	for i, n := range v {
		switch n.Value.(type) {
		case []*yaml.Node, yaml.Fields, *big.Int:
			continue
		}
		if first := seen[n.Value]; first != nil {
			c.add(n, yaml.IndexPath(path, i), findValue, "%s is there already at %s", n.Show(), first.At)
		}
		seen[n.Value] = n
	}
}

func (c *ruleCheck) mapping(r *rule, n *yaml.Node, v yaml.Fields, path string) {
	for _, key := range r.required {
		if v.Get(key) == nil {
			c.add(n, path, findMissing, "the key %q is missing", key)
		}
	}
	if len(v) < r.minFields {
		c.add(n, path, findValue, "the mapping is empty")
	}
	for _, f := range v {
		c.field(r, f, yaml.JoinPath(path, f.Key))
	}
}

func (c *ruleCheck) field(r *rule, f yaml.Field, path string) {
	name, isName := f.Key.Value.(string)
	known := false
	if field := r.fields[name]; field != nil && isName {
		known = true
		c.apply(field, f.Value, path)
	}
	for _, p := range r.patterns {
		if isName && p.name.MatchString(name) {
			known = true
			c.apply(p.rule, f.Value, path)
		}
	}
	switch {
	case known:
	case r.rest != nil:
		c.apply(r.rest, f.Value, path)
	case r.closed:
		c.unknown(f.Key, path, slices.Sorted(maps.Keys(r.fields)))
	}
}

// unknown reports a key that is not among the known ones.
func (c *ruleCheck) unknown(key *yaml.Node, path string, known []string) {
	if s, ok := key.Value.(string); ok {
		if best := near.Match(s, known); best != "" {
			c.add(key, path, findUnknown, "unknown key: did you mean %q?", best)
			return
		}
	}
	if key.Surprise() != "" {
		c.silence(key)
		c.add(key, path, findUnknown, "unknown key: %s", key.Explain())
		return
	}
	const most = 12
	have := strings.Join(known[:min(most, len(known))], ", ")
	if len(known) > most {
		have += " and more"
	}
	if len(known) == 0 {
		have = "none"
	}
	c.add(key, path, findUnknown, "unknown key (have %s)", have)
}

// alternatives checks that one of the rules holds, or exactly one. When none
// does, the mistakes are those of the one that was meant, judged by the kind.
func (c *ruleCheck) alternatives(list []*rule, exactly bool, n *yaml.Node, path string) {
	var fits []*ruleCheck
	var meant *ruleCheck
	sameKind := 0
	var wanted kinds
	for _, r := range list {
		try := &ruleCheck{work: c.work}
		try.apply(r, n, path)
		if !try.failed() {
			fits = append(fits, try)
			if !exactly {
				break
			}
		}
		wanted |= r.wants()
		if k := r.wants(); k&kindsOf(n) != 0 && r.enum == nil || k == 0 && r.enum == nil {
			meant = try
			sameKind++
		}
	}
	if sameKind > 1 {
		meant, sameKind = c.byType(list, n, path)
	}
	switch {
	case len(fits) == 1:
		c.adopt(fits[0])
	case len(fits) > 1:
		c.add(n, path, findValue, "this is ambiguous: it fits more than one of the allowed forms")
	case sameKind == 1:
		c.adopt(meant)
	case wanted != 0 && wanted&kindsOf(n) == 0:
		c.add(n, path, findType, "want %s, got %s", strings.Join(wanted.names(), " or "), n.Kind())
	case !c.failedAt(n.At):
		c.add(n, path, findValue, "%s is none of the allowed forms%s", n.Show(), formsOf(list))
	}
}

// byType tries the alternative whose key "type" allows the type that a
// mapping has.
func (c *ruleCheck) byType(list []*rule, n *yaml.Node, path string) (meant *ruleCheck, found int) {
	fields, _ := n.Value.(yaml.Fields)
	kind := fields.Get("type")
	for _, r := range list {
		if t := r.fields["type"]; kind != nil && t != nil && slices.Contains(t.enum, kind.Value) {
			meant = &ruleCheck{work: c.work}
			meant.apply(r, n, path)
			found++
		}
	}
	return meant, found
}

func (c *ruleCheck) failed() bool {
	return slices.ContainsFunc(c.findings, func(f yaml.Finding) bool { return !f.Warning })
}

// failedAt reports whether a mistake at the position is known already.
func (c *ruleCheck) failedAt(at position.Position) bool {
	return slices.ContainsFunc(c.findings, func(f yaml.Finding) bool { return !f.Warning && f.At == at && at.Line > 0 })
}

func (c *ruleCheck) adopt(o *ruleCheck) {
	c.findings = append(c.findings, o.findings...)
	for at := range o.silent {
		c.silence(&yaml.Node{At: at})
	}
}

// wants is the kinds a rule accepts; 0 is any.
func (r *rule) wants() kinds {
	if r.kinds != 0 {
		return r.kinds
	}
	var k kinds
	for _, v := range r.enum {
		k |= kindsOf(&yaml.Node{Value: v})
	}
	return k
}

// formsOf lists what is allowed where that is words or keys.
func formsOf(list []*rule) string {
	var words []string
	for _, r := range list {
		for _, v := range r.enum {
			words = append(words, fmt.Sprint(v))
		}
		if len(r.required) > 0 {
			words = append(words, "with "+strings.Join(r.required, " and "))
		}
	}
	if len(words) == 0 {
		return ""
	}
	return " (have " + strings.Join(words, ", ") + ")"
}
