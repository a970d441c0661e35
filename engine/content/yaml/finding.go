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
	msg := f.Msg
	if f.Path != "" {
		msg = f.Path + ": " + msg
	}
	if f.At.File == "" {
		return msg
	}
	return f.At.String() + ": " + msg
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
		msg := f.Msg
		if f.Path != "" {
			msg = f.Path + ": " + msg
		}
		errs = append(errs, f.At.Errorf("%s", msg))
	}
	if len(errs) == 0 {
		return warnings, nil
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
	written := n.surprise.written
	switch n.surprise.name {
	case SurpriseBool:
		return fmt.Sprintf("%s is the bool %v here: write %v, or %q for the text", written, n.Value, n.Value, written)
	case surpriseOctal:
		return fmt.Sprintf("%s is octal for the number %v here: write %q for the text", written, n.Show(), written)
	case surpriseSixty:
		return fmt.Sprintf("%s is the number %v here, in base 60: write %q for the text", written, n.Show(), written)
	case surpriseDate:
		return fmt.Sprintf("%s is a date here: write %q for the text", written, written)
	case surpriseNumber:
		return fmt.Sprintf("%s is the number %s here: write %q for the text", written, n.Show(), written)
	case surpriseText:
		return fmt.Sprintf("%s is text here, no number: write %q if it is meant", written, written)
	}
	return ""
}
