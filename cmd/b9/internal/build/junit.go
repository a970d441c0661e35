package build

import (
	"encoding/xml"
	"os"
	"strconv"
	"strings"

	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
)

// The XML that JUnit and its readers (Jenkins, GitLab, GitHub's actions) have agreed upon:
// suites of cases, each of which has passed unless it holds a failure or says that it was
// skipped. Characters that XML can't have become U+FFFD.

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Skipped  int          `xml:"skipped,attr"`
	Time     string       `xml:"time,attr"` // seconds
	Suites   []junitSuite `xml:"testsuite"`
}

// junitSuite is a file of tests, or a package with targets that are tests.
type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`

	seconds float64
}

type junitCase struct {
	Name    string     `xml:"name,attr"`
	Class   string     `xml:"classname,attr"`
	Time    string     `xml:"time,attr"`
	File    string     `xml:"file,attr,omitempty"`
	Line    int        `xml:"line,attr,omitempty"`
	Failure *junitText `xml:"failure"`
	Error   *junitText `xml:"error"`
	Skipped *junitText `xml:"skipped"`
	Out     string     `xml:"system-out,omitempty"`
}

type junitText struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// writeJUnit writes the results to the file of --junit.
func (t *tester) writeJUnit(doc output.Tests) error {
	path, err := t.Path(t.junit)
	if err != nil {
		return err
	}
	text, err := xml.MarshalIndent(junit(doc), "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append([]byte(xml.Header), append(text, '\n')...), 0o666&^t.Umask); err != nil {
		return exit.Usagef("--junit %s: %w", t.junit, err)
	}
	return nil
}

// junit are the results as suites, in the order of their first tests.
func junit(doc output.Tests) junitSuites {
	all := junitSuites{Tests: len(doc.Tests), Failures: doc.Failed, Skipped: doc.NotRun, Time: xmlSeconds(doc.Seconds)}
	at := map[string]int{}
	for _, x := range doc.Tests {
		suite, name, _ := strings.Cut(x.Label, ":")
		i, ok := at[suite]
		if !ok {
			i = len(all.Suites)
			at[suite] = i
			all.Suites = append(all.Suites, junitSuite{Name: suite})
		}
		all.Suites[i].add(x, name)
	}
	if len(doc.NotBuilt) > 0 {
		all.addMistakes(doc)
	}
	return all
}

// addMistakes adds what could not be looked at because of mistakes in build files, which
// make the run fail, too.
func (all *junitSuites) addMistakes(doc output.Tests) {
	s := junitSuite{Name: "build files", Time: xmlSeconds(0), Tests: len(doc.NotBuilt), Errors: len(doc.NotBuilt)}
	for _, l := range doc.NotBuilt {
		why := &junitText{Message: l.Because + " has mistakes", Text: doc.Error}
		s.Cases = append(s.Cases, junitCase{Name: l.Label, Class: s.Name, Time: s.Time, Error: why})
	}
	all.Tests += s.Tests
	all.Errors = s.Errors
	all.Suites = append(all.Suites, s)
}

// removeJUnit removes the file of --junit that an earlier run wrote: this one may end
// before it has something to write.
func (t *tester) removeJUnit() error {
	if t.junit == "" {
		return nil
	}
	path, err := t.Path(t.junit)
	if err != nil {
		return err
	}
	if st, err := os.Lstat(path); err == nil && st.Mode().IsRegular() {
		return os.Remove(path)
	}
	return nil
}

func (s *junitSuite) add(x output.Test, name string) {
	if name == "" {
		name = x.Label
	}
	c := junitCase{Name: name, Class: s.Name, Time: xmlSeconds(x.Seconds)}
	if x.Place != nil {
		c.File, c.Line = x.Place.File, x.Place.Line
	}
	first, _, _ := strings.Cut(x.Failure, "\n")
	switch {
	case x.Status == testFailed:
		c.Failure = &junitText{Message: first, Text: x.Failure}
		s.Failures++
	case x.Status == testNotRun:
		c.Skipped = &junitText{Message: x.Because}
		s.Skipped++
	case x.Cached:
		c.Out = "cached"
	case x.Why != "":
		c.Out = "ran: " + x.Why
	}
	s.Tests++
	s.seconds += x.Seconds
	s.Time = xmlSeconds(s.seconds)
	s.Cases = append(s.Cases, c)
}

// xmlSeconds is how JUnit has a time.
func xmlSeconds(s float64) string { return strconv.FormatFloat(s, 'f', 3, 64) }
