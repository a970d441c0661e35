package tool

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Failure is a program of the host that ran and ended badly. Its text names the
// program and what it said of the cause, on one line of at most 900 bytes; Output has
// everything. The engine writes that into the log of the step.
type Failure struct {
	Program string
	Code    int    // the exit status; -1: it was killed
	Output  string // what it printed, or the end of that
	Found   string // what the failure means, where that is known: it replaces the program's name
}

// Error implements error.
func (f *Failure) Error() string {
	cause, _ := Cause(f.Output)
	if cause == "" {
		cause = fmt.Sprintf("exit status %d", f.Code)
		if f.Code < 0 {
			cause = "it was killed"
		}
	}
	if f.Found != "" {
		return f.Found + ": " + cause
	}
	return f.Program + ": " + strings.TrimPrefix(cause, f.Program+": ")
}

// Rest returns everything that the program printed which failed with err, where the
// text of err leaves some of it out; else "".
func Rest(err error) string {
	var f *Failure
	if !errors.As(err, &f) {
		return ""
	}
	if _, whole := Cause(f.Output); whole {
		return ""
	}
	return f.Output
}

// A program that fails prints what it did before, its error, sometimes several times,
// what follows from it, and at times its whole usage or the command line that it was
// called with. The first lines that read as an error are the cause.
const (
	causeLines = 3
	causeLine  = 290 // bytes of a line that are told
)

// Cause is what a program's output says of why it failed: the lines joined with "; ", at
// most three of them, each cut after 290 bytes. Of more lines than that it takes the
// first three that read as an error, in their order, and the last three where none
// does. Empty lines, repeated ones, and all but the last state of a line that a program
// writes over itself (progress) are left out. whole says that nothing else is.
func Cause(output string) (cause string, whole bool) {
	var lines []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		line = strings.TrimSpace(line[strings.LastIndexAny(line, "\r\b")+1:])
		if line != "" && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	whole = len(lines) <= causeLines
	if !whole {
		lines = telling(lines)
	}
	for i, line := range lines {
		if len(line) > causeLine {
			whole, lines[i] = false, shortened(line)
		}
	}
	return strings.Join(lines, "; "), whole
}

// telling are the lines that say the most.
func telling(lines []string) []string {
	var found []string
	for _, line := range lines {
		if len(found) < causeLines && complaint().MatchString(line) && !harmless().MatchString(line) {
			found = append(found, line)
		}
	}
	if found == nil {
		return lines[len(lines)-causeLines:]
	}
	return found
}

// shortened cuts a line around the last word that reads as an error: a program that
// repeats its command line says behind it what is wrong.
func shortened(line string) string {
	const cut = "..."
	from := 0
	if all := complaint().FindAllStringIndex(line, -1); len(all) > 0 && all[len(all)-1][1] > causeLine-2*len(cut) {
		from = min(all[len(all)-1][0]-causeLine/3, len(line)-causeLine+2*len(cut))
	}
	to := min(from+causeLine-2*len(cut), len(line))
	text := strings.ToValidUTF8(line[from:to], "")
	if from > 0 {
		text = cut + text
	}
	if to < len(line) {
		text += cut
	}
	return text
}

// complaint is how programs tell of errors.
var complaint = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)\b(error|fatal|fail(ed|ure)?|can('|no)t|could ?n[o']t|unable|unknown|invalid|illegal|bad|not (found|supported|permitted|enough|a|valid|allowed)|no (such|space|room)|denied|refused|corrupt(ed)?|damaged|too (small|large|big|many|few|long)|unrecogni[sz]ed|unsupported|missing|panic|abort(ed)?|killed|exceeds?)\b`)
})

// harmless are lines that only look like errors.
var harmless = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)^(warning|note|info|debug)\b|\b(no|0|without) (errors?|failures?)\b`)
})
