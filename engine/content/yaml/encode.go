package yaml

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

func dump(n *yaml.Node) (string, error) {
	out, err := yaml.Dump(n, yaml.WithV3Defaults(), yaml.WithIndent(2), yaml.WithLineWidth(-1))
	if err != nil {
		return "", fmt.Errorf("write YAML: %w", err)
	}
	return string(out), nil
}

// scalar is the node of a value that is neither a list nor a mapping.
func scalar(tag string, n *Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: keyText(n)}
}

// formatFloat writes a dot and a signed exponent, without which the number
// is a string in YAML 1.1.
func formatFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return ".nan"
	case math.IsInf(f, 1):
		return ".inf"
	case math.IsInf(f, -1):
		return "-.inf"
	}
	text := strconv.FormatFloat(f, 'g', -1, 64)
	mantissa, exponent, has := strings.Cut(text, "e")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	if has {
		return mantissa + "e" + exponent
	}
	return mantissa
}

// textNode writes text plainly only where every reader reads it as text.
func textNode(n *Node) *yaml.Node {
	out := scalar("!!str", n)
	switch {
	case blockSafe(out.Value):
		out.Style = yaml.LiteralStyle
	case !plainSafe(out.Value):
		out.Style = yaml.DoubleQuotedStyle
	}
	return out
}

// blockSafe reports whether text of several lines can stand as a literal
// block: printable, and without white space that a block would lose or blur.
func blockSafe(s string) bool {
	if !strings.Contains(s, "\n") || strings.HasPrefix(s, " ") || strings.HasPrefix(s, "\n") || strings.HasPrefix(s, "\t") {
		return false
	}
	for _, r := range s {
		if r == '\n' || r == '\t' {
			continue
		}
		if r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r == '\uFFFD' || !strconv.IsPrint(r) {
			return false
		}
	}
	return strings.Trim(s, "\n") != ""
}

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// plainSafe reports whether text is a string to every YAML reader without
// quotes: it starts with a letter or a slash and has no character, and is no word, of
// special meaning.
func plainSafe(s string) bool {
	if s == "" || !strings.Contains(letters+"/", s[:1]) || s[len(s)-1] == ' ' {
		return false
	}
	if strings.Trim(s, letters+"0123456789 _./-+@=") != "" {
		return false
	}
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf":
		return false
	}
	return true
}
