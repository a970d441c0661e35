package cloudinit

import (
	_ "embed" // for the tables
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"b9.build/b9/engine/content/yaml"
)

// The tables are YAML, in which a rule is one of
//
//	text                          a kind, or several with | between them: see kindNames; "any" is every value
//	[text, {items: text}]         a list of rules, of which exactly one holds
//	{keys: {name: text}}          a mapping of words, most of which are those of JSON Schema: see ruleReader.word
//
// A rule with keys or patterns is for a mapping, and one with items for a list,
// unless "type" says otherwise. A mapping has no other keys than those of the
// rule, unless "open" or "rest" says so.

//go:embed config.yaml
var configTable string

//go:embed network_v1.yaml
var networkV1Table string

//go:embed network_v2.yaml
var networkV2Table string

// The rules that the tables make are never changed.
var (
	networkV1 = sync.OnceValue(func() *rule { return tableRule("network_v1.yaml", networkV1Table) })
	networkV2 = sync.OnceValue(func() *rule { return tableRule("network_v2.yaml", networkV2Table) })
	patch     = sync.OnceValue(func() *rule { return tableRule("patch", patchTable) })
	config    = sync.OnceValue(newConfigRules)
)

// patchTable is the rule of a JSON patch (RFC 6902, section 4).
const patchTable = `items: {required: [op, path], open: true, keys: {op: {enum: [add, remove, replace, move, copy, test]}, path: text, from: text}}`

// configRules are the rules of the keys of a cloud-config. Reading the whole
// table takes some milliseconds, as long as a build that has nothing to do: so
// each block of lines, the keys of one module, is read when it is first asked
// for.
type configRules struct {
	keys   []string          // all of them, sorted
	blocks map[string]string // by their keys
	mu     sync.Mutex        // for what follows
	made   map[string]*rule
}

func newConfigRules() *configRules {
	c := &configRules{blocks: map[string]string{}, made: map[string]*rule{}}
	for block := range strings.SplitSeq(configTable, "\n\n") {
		for line := range strings.SplitSeq(block, "\n") {
			if key, _, ok := strings.Cut(line, ":"); ok && !strings.ContainsAny(key[:1], " #") {
				c.blocks[key] = block
			}
		}
	}
	c.keys = slices.Sorted(maps.Keys(c.blocks))
	return c
}

// rule returns the rule of a top-level key, nil where no module reads it.
func (c *configRules) rule(key string) *rule {
	block, ok := c.blocks[key]
	if !ok {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made[key] == nil {
		r := newRuleReader()
		maps.Copy(c.made, r.rules(parseTable("config.yaml: "+key, block)))
	}
	return c.made[key]
}

func tableRule(file, text string) *rule { return newRuleReader().rule(parseTable(file, text)) }

func parseTable(file, text string) *yaml.Node {
	doc, err := yaml.Parse(file, text)
	if err != nil {
		panic(err)
	}
	for _, w := range doc.Warnings {
		panic(w)
	}
	return doc.Root
}

// ruleReader makes rules of a table. It panics at a mistake in the table, as
// regexp.MustCompile does: the tests read every table.
type ruleReader struct {
	made   map[*yaml.Node]*rule // what has several aliases is one rule
	checks map[string]check
}

func newRuleReader() *ruleReader {
	return &ruleReader{made: map[*yaml.Node]*rule{}, checks: checks()}
}

func mistake(n *yaml.Node, format string, args ...any) {
	panic(n.At.Errorf(format, args...))
}

// value returns the value of a node that must be a T.
func value[T any](n *yaml.Node) T {
	v, ok := n.Value.(T)
	if !ok {
		mistake(n, "want %T, got %s", v, n.Kind())
	}
	return v
}

func (r *ruleReader) rule(n *yaml.Node) *rule {
	if made := r.made[n]; made != nil {
		return made
	}
	made := &rule{}
	switch v := n.Value.(type) {
	case []*yaml.Node:
		made.one = r.list(n)
	case yaml.Fields:
		r.words(made, v)
	default:
		made.kinds = kindsNamed(n)
	}
	r.made[n] = made
	return made
}

func (r *ruleReader) words(made *rule, words yaml.Fields) {
	open := words.Get("open") != nil || words.Get("rest") != nil
	switch {
	case words.Get("keys") != nil || words.Get("patterns") != nil:
		made.kinds, made.closed = isMap, !open
	case words.Get("rest") != nil:
		made.kinds = isMap
	case words.Get("items") != nil:
		made.kinds = isList
	}
	for _, f := range words {
		r.word(made, f.Key, f.Value)
	}
}

// word enters one word of a rule.
func (r *ruleReader) word(made *rule, key, n *yaml.Node) {
	switch key.Value {
	case "type":
		made.kinds = kindsNamed(n)
	case "enum":
		for _, v := range value[[]*yaml.Node](n) {
			made.enum = append(made.enum, v.Value)
		}
	case "keys":
		made.fields = r.rules(n)
	case "patterns": // of keys, each with the rule of their values
		for _, f := range value[yaml.Fields](n) {
			made.patterns = append(made.patterns, fieldPattern{regexp.MustCompile(value[string](f.Key)), r.rule(f.Value)})
		}
	case "rest":
		made.rest = r.rule(n)
	case "required":
		made.required = texts(n)
	case "items":
		made.items = r.rule(n)
	case "oneOf":
		made.one = r.list(n)
	case "anyOf":
		made.any = r.list(n)
	case "pattern":
		made.form = regexp.MustCompile(value[string](n))
	case "check":
		made.also = r.checks[value[string](n)]
		if made.also == nil {
			mistake(n, "unknown check %s", n.Show())
		}
	case "oneKey": // of several; see oneKey
		words := value[yaml.Fields](n)
		made.also = oneKey(texts(words.Get("of")), textOr(words.Get("both"), ""))
	case "form": // of a text, with what to say of others; see textForm
		words := value[yaml.Fields](n)
		form := regexp.MustCompile(value[string](words.Get("of")))
		made.also = textForm(form, textOr(words.Get("finding"), findValue), value[string](words.Get("says")))
	case "minimum":
		made.minimum = new(value[int64](n))
	case "maximum":
		made.maximum = new(value[int64](n))
	case "minProperties":
		made.minFields = int(value[int64](n))
	case "minItems":
		made.minItems = int(value[int64](n))
	case "maxItems":
		made.maxItems = int(value[int64](n))
	case "uniqueItems":
		made.unique = value[bool](n)
	case "deprecated":
		made.deprecated = value[bool](n)
	case "advice":
		made.advice = value[bool](n)
	case "date":
		made.isDate = value[bool](n)
	case "open": // read by words
	case "define": // what has an alias further down
	default:
		mistake(key, "unknown word %s", key.Show())
	}
}

func texts(n *yaml.Node) []string {
	var all []string
	for _, v := range value[[]*yaml.Node](n) {
		all = append(all, value[string](v))
	}
	return all
}

// textOr is the text of a word that may be absent.
func textOr(n *yaml.Node, absent string) string {
	if n == nil {
		return absent
	}
	return value[string](n)
}

func (r *ruleReader) list(n *yaml.Node) []*rule {
	var all []*rule
	for _, v := range value[[]*yaml.Node](n) {
		all = append(all, r.rule(v))
	}
	return all
}

func (r *ruleReader) rules(n *yaml.Node) map[string]*rule {
	all := map[string]*rule{}
	for _, f := range value[yaml.Fields](n) {
		all[value[string](f.Key)] = r.rule(f.Value)
	}
	return all
}

// kindsNamed reads kinds such as text|int.
func kindsNamed(n *yaml.Node) kinds {
	if n.Value == nil {
		return isNull
	}
	var all kinds
	for name := range strings.SplitSeq(value[string](n), "|") {
		i := slices.Index(kindNames(), name)
		if i < 0 && name != "any" {
			mistake(n, "unknown kind %q", name)
		}
		if i >= 0 {
			all |= 1 << i
		}
	}
	return all
}
