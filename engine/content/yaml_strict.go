package content

import (
	"strings"

	"go.yaml.in/yaml/v4"
)

// yamlLayout finds what PyYAML refuses and the YAML library takes: tabs
// between tokens, ? and : in plain scalars of flow collections, keys that are
// left out, and keys too long to be recognised. Text that is passed on as it is
// must not have them: cloud-init would not read it.
type yamlLayout struct {
	file  string
	lines []string
}

func newYAMLLayout(file, text string) *yamlLayout {
	return &yamlLayout{file, strings.Split(text, "\n")}
}

// at is the text from a place on, to the end of its line.
func (l *yamlLayout) at(line, col int) string {
	if line < 1 || line > len(l.lines) {
		return ""
	}
	rest := l.lines[line-1]
	for i := range rest {
		if col--; col == 0 {
			return rest[i:]
		}
	}
	return ""
}

const maxKeyLength = 1024 // characters, of a key without ? before it

// key checks the key of a mapping.
func (l *yamlLayout) key(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return nil
	}
	at := Place{l.file, n.Line, n.Column}
	if n.Value == "" && n.Style == 0 && n.Anchor == "" && strings.HasPrefix(l.at(n.Line, n.Column), ":") {
		return at.errorf("a key is missing before the colon")
	}
	if len(n.Value) > maxKeyLength && len([]rune(n.Value)) > maxKeyLength && !strings.Contains(l.lines[n.Line-1][:min(n.Column, len(l.lines[n.Line-1]))], "?") {
		return at.errorf("the key is longer than %d characters", maxKeyLength)
	}
	return nil
}

// flowScalar checks a plain scalar in a flow collection.
func (l *yamlLayout) flowScalar(n *yaml.Node) error {
	if strings.HasPrefix(n.Value, ":") || strings.Contains(n.Value, "?") {
		return Place{l.file, n.Line, n.Column}.errorf("%q in a list or mapping of one line: cloud-init can't read ? or a leading : there without quotes", n.Value)
	}
	return nil
}

// tabs refuses tabs that are neither in quotes, nor in a block, nor in a comment.
func (l *yamlLayout) tabs(root *yaml.Node) error {
	free := make([]bool, len(l.lines)+1) // lines whose tabs are not looked at
	var scalars []*yaml.Node
	collectScalars(root, &scalars)
	for i, n := range scalars {
		if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle|yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) == 0 {
			continue
		}
		last := len(l.lines)
		if i+1 < len(scalars) {
			last = scalars[i+1].Line - 1
		}
		for line := n.Line + 1; line <= last; line++ {
			free[line-1] = true
		}
	}
	for i, line := range l.lines {
		if col := strayTab(line); col > 0 && !free[i] {
			return &Error{File: l.file, Line: i + 1, Col: col, Msg: "a tab between values: cloud-init can't read it, use spaces"}
		}
	}
	return nil
}

// collectScalars lists scalars and other beginnings of values in the order of the text.
func collectScalars(n *yaml.Node, out *[]*yaml.Node) {
	if n.Kind == yaml.ScalarNode || n.Kind == yaml.AliasNode {
		*out = append(*out, n)
	}
	for _, c := range n.Content {
		collectScalars(c, out)
	}
}

// strayTab is the column of the first tab of a line outside quotes and
// comments, or 0.
func strayTab(line string) int {
	var quote byte
	col := 0
	for i := 0; i < len(line); i++ {
		c := line[i]
		if c&0xc0 != 0x80 {
			col++
		}
		switch {
		case quote == '"' && c == '\\':
			i++
			col++
		case quote == '\'' && strings.HasPrefix(line[i:], "''"):
			i++
			col++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case (c == '"' || c == '\'') && (i == 0 || strings.IndexByte(" [{,:-", line[i-1]) >= 0):
			quote = c
		case c == '#' && (i == 0 || line[i-1] == ' '):
			return 0
		case c == '\t':
			return col
		}
	}
	return 0
}
