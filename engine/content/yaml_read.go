package content

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

const (
	// maxYAMLDepth is how deep lists and mappings may be nested. PyYAML gives
	// up at about this depth, too.
	maxYAMLDepth = 200
	// maxYAMLNodes bounds a document with every alias written out.
	maxYAMLNodes = 2_000_000
)

// Document is a value that was read, and what may surprise in it.
type Document struct {
	Root     *Node
	Warnings []Finding
}

// ParseYAML reads one document as PyYAML's safe loader does, which cloud-init
// uses: YAML 1.1 bools, octal and sexagesimal ints, merge keys, of equal keys
// the last. file names it in errors, which are *Error. Beyond what PyYAML
// refuses it refuses nesting deeper than 200, aliases that blow up,
// documents that contain themselves, and the tags !!set, !!omap and !!pairs. An
// empty document is null.
func ParseYAML(file, text string) (*Document, error) {
	if err := checkCharacters(file, text); err != nil {
		return nil, err
	}
	var doc yaml.Node
	text = oneDotOne(text)
	err := yaml.Load([]byte(text), &doc, yaml.WithV3Defaults(), yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(2*maxYAMLDepth))))
	if isEmptyYAML(err) {
		return &Document{Root: &Node{Place: Place{file, 1, 1}}}, nil
	}
	if err != nil {
		return nil, syntaxError(file, err)
	}
	r := yamlReader{file: file, layout: newYAMLLayout(file, text)}
	root := &doc
	if doc.Kind == yaml.DocumentNode {
		root = doc.Content[0]
	}
	if strings.Contains(text, "\t") {
		if err := r.layout.tabs(root); err != nil {
			return nil, err
		}
	}
	n, err := r.node(root, 0)
	if err != nil {
		return nil, err
	}
	return &Document{Root: n.node, Warnings: r.warnings}, nil
}

// oneDotOne lets a document that says it is YAML 1.2 be read as 1.1, as
// PyYAML does.
func oneDotOne(text string) string {
	if rest, ok := strings.CutPrefix(text, "%YAML 1.2\n"); ok {
		return "%YAML 1.1\n" + rest
	}
	return text
}

func isEmptyYAML(err error) bool {
	return err != nil && strings.Contains(err.Error(), "no documents")
}

// syntaxError takes over the place from the YAML library.
func syntaxError(file string, err error) error {
	var load *yaml.LoadError
	if !errors.As(err, &load) {
		return &Error{File: file, Line: 1, Col: 1, Msg: err.Error()}
	}
	at, msg := load.Mark, load.Message
	if at.Line == 0 {
		at = load.ContextMark
	}
	if load.ContextMsg != "" {
		msg += " " + load.ContextMsg
	}
	return &Error{File: file, Line: max(1, at.Line), Col: max(1, at.Column), Msg: msg}
}

// checkCharacters refuses what the reader of PyYAML refuses.
func checkCharacters(file, text string) error {
	line, col := 1, 1
	for i, r := range text {
		switch {
		case r == '\n':
			line, col = line+1, 0
		case r >= ' ' && r < 0x7f || r == '\t' || r == '\r':
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			return &Error{File: file, Line: line, Col: col, Msg: "the text is not UTF-8"}
		case r < ' ', r == 0x7f, r >= 0x80 && r < 0xa0 && r != 0x85, r == 0xfffe, r == 0xffff:
			return &Error{File: file, Line: line, Col: col, Msg: fmt.Sprintf("the character U+%04X is not allowed: write it as an escape in double quotes", r)}
		}
		col++
	}
	return nil
}

// yamlReader turns the library's nodes into ours.
type yamlReader struct {
	file     string
	layout   *yamlLayout
	flow     int                  // how many flow collections are open
	names    map[string]Place     // of anchors
	total    int                  // values made, with aliases written out
	shared   map[*yaml.Node]sized // values with an anchor
	open     map[*yaml.Node]bool  // anchors that are being made
	warnings []Finding
}

// sized is a node and how many values it stands for.
type sized struct {
	node *Node
	size int
}

func (r *yamlReader) place(n *yaml.Node) Place { return Place{r.file, n.Line, n.Column} }

// node makes the value of n.
func (r *yamlReader) node(n *yaml.Node, depth int) (sized, error) {
	if depth > maxYAMLDepth {
		return sized{}, r.place(n).errorf("nested more than %d deep", maxYAMLDepth)
	}
	if n.Kind == yaml.AliasNode {
		return r.alias(n, depth)
	}
	if n.Anchor == "" {
		return r.plainNode(n, depth)
	}
	if v, ok := r.shared[n]; ok {
		return v, nil
	}
	if r.open == nil {
		r.open, r.shared, r.names = map[*yaml.Node]bool{}, map[*yaml.Node]sized{}, map[string]Place{}
	}
	if first, twice := r.names[n.Anchor]; twice {
		return sized{}, r.place(n).errorf("the anchor &%s is there already at %s", n.Anchor, first)
	}
	r.names[n.Anchor] = r.place(n)
	r.open[n] = true
	v, err := r.plainNode(n, depth)
	delete(r.open, n)
	r.shared[n] = v
	return v, err
}

func (r *yamlReader) alias(n *yaml.Node, depth int) (sized, error) {
	if r.open[n.Alias] {
		return sized{}, r.place(n).errorf("the alias *%s refers to the value it is part of", n.Value)
	}
	v, err := r.node(n.Alias, depth)
	if err != nil {
		return sized{}, err
	}
	r.total += v.size
	if r.total > maxYAMLNodes {
		return sized{}, r.place(n).errorf("the document has more than %d values with its aliases written out", maxYAMLNodes)
	}
	return v, nil
}

func (r *yamlReader) plainNode(n *yaml.Node, depth int) (sized, error) {
	before := r.total
	r.total++
	var made *Node
	var err error
	if n.Style&yaml.FlowStyle != 0 {
		r.flow++
		defer func() { r.flow-- }()
	}
	switch n.Kind {
	case yaml.ScalarNode:
		made, err = r.scalar(n)
	case yaml.SequenceNode:
		made, err = r.list(n, depth)
	default:
		made, err = r.mapping(n, depth)
	}
	return sized{made, r.total - before}, err
}

// explicitTag is the tag that was written, or "".
func explicitTag(n *yaml.Node) string {
	if n.Style&yaml.TaggedStyle == 0 {
		return ""
	}
	return n.ShortTag()
}

func (r *yamlReader) scalar(n *yaml.Node) (*Node, error) {
	out, err := r.anyScalar(n)
	if err != nil {
		return nil, err
	}
	switch out.Value.(type) {
	case special:
		return nil, out.Place.errorf("%q has a meaning only as a key: write it in quotes", n.Value)
	}
	return out, nil
}

// anyScalar makes a scalar, which may be a special key.
func (r *yamlReader) anyScalar(n *yaml.Node) (*Node, error) {
	out := &Node{Place: r.place(n)}
	var err error
	var odd surprise
	const quoted = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
	switch tag := explicitTag(n); {
	case tag != "":
		out.Value, err = resolveTagged(tag, n.Value)
	case n.Style&quoted == 0 || n.Tag == "!":
		if r.flow > 0 && n.Style&quoted == 0 {
			if err := r.layout.flowScalar(n); err != nil {
				return nil, err
			}
		}
		out.Value, odd, err = resolvePlain(n.Value)
	default:
		out.Value = n.Value
	}
	if err != nil {
		return nil, out.Place.errorf("%v", err)
	}
	if odd != "" {
		out.surprise = &surprised{odd, n.Value}
		r.warnings = append(r.warnings, Finding{Place: out.Place, Name: string(odd), Msg: out.explain(), Warning: true})
	}
	return out, nil
}

func (r *yamlReader) list(n *yaml.Node, depth int) (*Node, error) {
	if tag := explicitTag(n); tag != "" && tag != "!!seq" {
		return nil, r.place(n).errorf("the tag %s is not for a list", tag)
	}
	list := make([]*Node, len(n.Content))
	for i, c := range n.Content {
		v, err := r.node(c, depth+1)
		if err != nil {
			return nil, err
		}
		list[i] = v.node
	}
	return &Node{Value: list, Place: r.place(n)}, nil
}

func (r *yamlReader) mapping(n *yaml.Node, depth int) (*Node, error) {
	if tag := explicitTag(n); tag != "" && tag != "!!map" {
		return nil, r.place(n).errorf("the tag %s is not for a mapping", tag)
	}
	own, merged := newFieldSet(len(n.Content)/2), Fields(nil)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, err := r.key(n.Content[i], depth+1)
		if err != nil {
			return nil, err
		}
		v, err := r.node(n.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		if key.Value == any(mergeKey) {
			more, err := r.merged(n.Content[i+1], v.node)
			if err != nil {
				return nil, err
			}
			merged = append(merged, more...)
			continue
		}
		r.enter(own, Field{key, v.node})
	}
	if len(merged) == 0 {
		return &Node{Value: own.fields, Place: r.place(n)}, nil
	}
	all := newFieldSet(len(merged) + len(own.fields))
	for _, f := range append(merged, own.fields...) {
		all.set(f)
	}
	return &Node{Value: all.fields, Place: r.place(n)}, nil
}

// enter sets a field and warns when it was set before.
func (r *yamlReader) enter(s *fieldSet, f Field) {
	if old := s.set(f); old != nil {
		r.warnings = append(r.warnings, Finding{Place: f.Key.Place, Name: duplicateKey, Warning: true,
			Msg: fmt.Sprintf("the key %s is there already at %s: only this last one counts", keyText(f.Key), old.Value.Place)})
	}
}

// key makes the key of a mapping.
func (r *yamlReader) key(n *yaml.Node, depth int) (*Node, error) {
	if err := r.layout.key(n); err != nil {
		return nil, err
	}
	if n.Kind == yaml.ScalarNode && n.Anchor == "" {
		r.total++
		key, err := r.anyScalar(n)
		if err == nil && key.Value == any(valueKey) {
			key.Value = "="
		}
		return key, err
	}
	v, err := r.node(n, depth)
	if err != nil {
		return nil, err
	}
	switch v.node.Value.(type) {
	case []*Node, Fields:
		return nil, r.place(n).errorf("a %s can't be a key", v.node.kindOf())
	}
	return v.node, nil
}

// merged lists the fields that the value of a merge key brings in.
func (r *yamlReader) merged(at *yaml.Node, v *Node) (Fields, error) {
	switch m := v.Value.(type) {
	case Fields:
		return m, nil
	case []*Node:
		var all Fields
		for i := len(m) - 1; i >= 0; i-- { // the first of them wins
			f, ok := m[i].Value.(Fields)
			if !ok {
				return nil, m[i].Place.errorf(`"<<" wants a mapping or a list of mappings, got a list with a %s`, m[i].kindOf())
			}
			all = append(all, f...)
		}
		return all, nil
	}
	return nil, r.place(at).errorf(`"<<" wants a mapping or a list of mappings, got %s`, v.kindOf())
}
