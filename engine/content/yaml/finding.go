package yaml

import (
	"fmt"
	"slices"
	"strings"

	"b9.build/b9/engine/internal/position"
)

// The names of the reasons why a plain scalar may not mean what it looks like,
// which silence the warnings of it.
const (
	SurpriseBool   = "yaml-bool"        // yes, no, on, off are bools
	surpriseOctal  = "yaml-octal"       // 0644 is 420
	surpriseSixty  = "yaml-sexagesimal" // 1:30 is 90
	surpriseDate   = "yaml-date"        // 2001-01-01 is a date
	surpriseNumber = "yaml-number"      // 1.10 is 1.1, 1_000 is 1000
	surpriseText   = "yaml-text"        // 1e3, 0o644 and 08 are text
	duplicateKey   = "yaml-duplicate"   // a key that occurs twice
)

// Surprise is the name of the finding that warns of what the value, a plain
// scalar, may not be meant as: "" where it means what it looks like.
func (n *Node) Surprise() string {
	if n.surprise == nil {
		return ""
	}
	return n.surprise.name
}

// surprised is a plain scalar that may not mean what it looks like.
type surprised struct {
	name    string
	written string
}

// Finding is a mistake, or something doubtful, in a document.
type Finding struct {
	At      position.Position
	Path    string // of the value, such as write_files[0].path; may be empty
	Name    string // what silences it, such as "yaml-bool"
	Msg     string
	Warning bool // the document can be used all the same
}

// Error renders the finding as file:line:col: path: message.
func (f Finding) Error() string {
	if f.At.File == "" {
		return f.text()
	}
	return f.At.String() + ": " + f.text()
}

func (f Finding) text() string {
	if f.Path == "" {
		return f.Msg
	}
	return f.Path + ": " + f.Msg
}

// Silence drops the findings that names ask not to report. A name is that of
// a finding, or with a colon behind it also the path: "deprecated",
// "unknown-key:apt.sources".
func Silence(list []Finding, names []string) []Finding {
	return slices.DeleteFunc(slices.Clone(list), func(f Finding) bool {
		return slices.Contains(names, f.Name) || f.Path != "" && slices.Contains(names, f.Name+":"+f.Path)
	})
}

// Split parts mistakes from warnings. The error is nil where there is no mistake.
func Split(list []Finding) (warnings []Finding, err error) {
	var errs []*position.Error
	for _, f := range list {
		if f.Warning {
			warnings = append(warnings, f)
			continue
		}
		errs = append(errs, f.At.Errorf("%s", f.text()))
	}
	return warnings, position.Join(errs)
}

// FindingNames lists the names of the warnings of reading a document, which
// Silence knows.
func FindingNames() []string {
	return []string{
		SurpriseBool, surpriseOctal, surpriseSixty, surpriseDate, surpriseNumber, surpriseText,
		duplicateKey,
	}
}

func intSurprise(s string) string {
	digits := strings.TrimLeft(s, "+-")
	switch {
	case strings.Contains(s, ":"):
		return surpriseSixty
	case len(digits) > 1 && digits[0] == '0' && digits[1] != 'x' && digits[1] != 'b':
		return surpriseOctal
	case strings.Contains(s, "_"):
		return surpriseNumber
	}
	return ""
}

// realSurprise finds the floats that lose what was written: 1.10 becomes 1.1.
func realSurprise(s string) string {
	_, fraction, _ := strings.Cut(s, ".")
	switch {
	case strings.Contains(s, ":"):
		return surpriseSixty
	case strings.Contains(s, "_"), len(fraction) > 1 && strings.HasSuffix(fraction, "0") && !strings.ContainsAny(fraction, "eE"):
		return surpriseNumber
	}
	return ""
}

// Explain says what a surprising scalar means, and how to write the other meaning.
func (n *Node) Explain() string {
	formats := map[string]string{
		SurpriseBool:   "%[1]s is the bool %[2]s here: write %[2]s, or %[1]q for the text",
		surpriseOctal:  "%[1]s is octal for the number %[2]s here: write %[1]q for the text",
		surpriseSixty:  "%[1]s is the number %[2]s here, in base 60: write %[1]q for the text",
		surpriseDate:   "%[1]s is a date here: write %[1]q for the text",
		surpriseNumber: "%[1]s is the number %[2]s here: write %[1]q for the text",
		surpriseText:   "%[1]s is text here, no number: write %[1]q if it is meant",
	}
	return fmt.Sprintf(formats[n.surprise.name], n.surprise.written, n.Show())
}

// warning makes the finding of something doubtful at a node.
func warning(n *Node, name, format string, args ...any) Finding {
	return Finding{At: n.At, Name: name, Msg: fmt.Sprintf(format, args...), Warning: true}
}
