package debian

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"

	"b9.build/b9/engine/near"
	"b9.build/b9/engine/tool"
)

// aptErrors passes a log on and picks out what apt, dpkg and mmdebstrap call
// errors, the first few of them.
type aptErrors struct {
	to    io.Writer
	rest  []byte
	lines []string
	last  []string // whatever they say, for where nothing is an error
}

// errorLine is how the lines begin that are picked out.
var errorLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(E: |dpkg: error|dpkg-deb: error|Err:|tar: )`)
})

// maxErrors bounds the error lines that are kept, and their length in bytes.
const maxErrors, maxErrorLine = 20, 2000

// maxLast bounds the last lines that are kept.
const maxLast = 4 * maxErrors

// Write implements io.Writer.
func (a *aptErrors) Write(p []byte) (int, error) {
	n, err := a.to.Write(p)
	a.rest = append(a.rest, p[:n]...)
	for i := bytes.IndexAny(a.rest, "\n\r"); i >= 0; i = bytes.IndexAny(a.rest, "\n\r") {
		a.note(string(a.rest[:i]))
		a.rest = a.rest[i+1:]
	}
	if len(a.rest) > maxErrorLine {
		a.rest = a.rest[:0]
	}
	return n, err
}

func (a *aptErrors) note(line string) {
	line = strings.TrimSpace(line)
	if a.last = append(a.last, line); len(a.last) > maxLast {
		a.last = slices.Delete(a.last, 0, len(a.last)-maxErrors)
	}
	if errorLine().MatchString(line) && len(a.lines) < maxErrors {
		a.lines = append(a.lines, strings.TrimPrefix(line, "E: "))
	}
}

// passingError is one that another attempt may not meet.
type passingError struct{ error }

func (e *passingError) Unwrap() error { return e.error }

// explain makes one sentence of what went wrong.
func (t *tooling) explain(log *aptErrors, cause error) error {
	if said := t.unknownPackages(log.lines); said != nil {
		return said
	}
	for _, line := range log.lines {
		if said := t.diagnose(line); said != nil {
			return said
		}
	}
	lines := log.lines
	if len(lines) == 0 {
		lines = log.last
	}
	if said, _ := tool.Cause(strings.Join(lines, "\n")); said != "" {
		return fmt.Errorf("mmdebstrap: %s (the log has the rest)", said)
	}
	return fmt.Errorf("mmdebstrap: %w, and printed nothing", cause)
}

// unknownPackage is how apt says that there is no package of a name.
var unknownPackage = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`Unable to locate package (\S+)|Package '?([^\s']+)'? has no installation candidate|Couldn't find any package by (?:glob|regex) '([^']+)'`)
})

// unknownPackages is about all names that the archive has no package of, with what is
// nearest to each in the lists that apt has read; nil if there is none.
func (t *tooling) unknownPackages(lines []string) error {
	var said, asked []string
	var have []string
	hinted := false
	for _, line := range lines {
		m := unknownPackage().FindStringSubmatch(line)
		if m == nil {
			continue
		}
		name := strings.Trim(cmp.Or(m[1], m[2], m[3]), "^$")
		if slices.Contains(asked, name) {
			continue
		}
		if asked = append(asked, name); have == nil {
			have = t.offered()
		}
		hint := near.Hint(name, have)
		hinted = hinted || hint != ""
		said = append(said, line+hint)
	}
	switch {
	case len(said) == 0:
		return nil
	case hinted:
		return fmt.Errorf("%s has no package for %s: %s", t.Suite, t.Arch, strings.Join(said, "; "))
	}
	return fmt.Errorf("%s has no package for %s: %s: check its name, or add the component or suite that has it", t.Suite, t.Arch, strings.Join(said, "; "))
}

// diagnose knows the usual errors; nil for another one.
func (t *tooling) diagnose(said string) error {
	line, _ := tool.Cause(said)
	mirror := withoutPassword(t.sources[0].URI)
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(said, w) })
	}
	switch {
	case has("Version ", "Release ") && has("was not found"):
		return fmt.Errorf("%s: %s: leave out the version, or pin the archive with snapshot=", t.Suite, line)
	case has("NO_PUBKEY", "is not signed", "couldn't be verified", "EXPKEYSIG"):
		return fmt.Errorf("the signature of %s can't be checked: %s: give keyring= with the archive's keys", mirror, line)
	case has("  401 "):
		return fmt.Errorf("%s wants a user and a password, or others: %s: give them in its address, mirror=\"http://USER:PASSWORD@HOST/…\", or to the machine's apt, in /etc/apt/auth.conf.d", mirror, line)
	case has("  407 "):
		return fmt.Errorf("the proxy on the way to %s wants a user and a password, or others: %s: give them in http_proxy, or to the machine's apt", mirror, line)
	case has("does not have a Release file"):
		return fmt.Errorf("unknown suite: %s: check its spelling, or give mirror=", line)
	case has("No space left on device"):
		return fmt.Errorf("the disk with %s is full: %s: free space there, or run b9 cache gc", t.dir, line)
	case has("unexpected size", "Hash Sum mismatch"):
		return &passingError{fmt.Errorf("the archive is out of step with itself, as while it is being updated: %s: build again later, or leave a suite out with suites=", line)}
	case has("Could not resolve"):
		return &unreachableError{mirror, line}
	case passingFailure().MatchString(said):
		return &passingError{&unreachableError{mirror, line}}
	}
	return nil
}

// passingFailure is how apt tells of an answer, or of no answer, that may be
// another one the next time: RFC 9110, 15.5.9 and 15.6; RFC 6585, 4.
var passingFailure = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?:^|  )(?:408|429|5[0-9][0-9]) |Temporary failure resolving|Could not connect|Unable to connect|Error reading from server|Connection (?:timed out|failed|reset|closed)|Server closed the connection`)
})
