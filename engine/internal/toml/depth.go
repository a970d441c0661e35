package toml

import (
	"strings"

	"b9.build/b9/engine/internal/position"
)

// checkDepth refuses nesting that would exhaust the stack of a reader.
func checkDepth(file, text string) error {
	depth, dots, line := 0, 0, 1
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		case '.':
			dots++
		case ',', '=':
			dots = 0
		case '\n':
			dots, line = 0, line+1
		case '"', '\'', '#':
			end := i + skipLength(text[i:])
			line += strings.Count(text[i:end], "\n")
			i = end - 1
		}
		if depth > MaxDepth || dots > MaxDepth {
			return position.Position{File: file, Line: line, Col: 1}.Errorf("nested more than %d deep", MaxDepth)
		}
	}
	return nil
}

// skipLength is the length of the comment or string that s begins with.
func skipLength(s string) int {
	end := s[:1]
	switch {
	case s[0] == '#':
		end = "\n"
	case strings.HasPrefix(s, `"""`) || strings.HasPrefix(s, "'''"):
		end = s[:3]
	}
	if end == "\n" {
		if i := strings.IndexByte(s, '\n'); i >= 0 {
			return i
		}
		return len(s)
	}
	for i := len(end); i < len(s); i++ {
		switch {
		case s[i] == '\\' && end[0] == '"':
			i++
		case strings.HasPrefix(s[i:], end):
			return i + len(end)
		case s[i] == '\n' && len(end) == 1:
			return i
		}
	}
	return len(s)
}
