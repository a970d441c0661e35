package builtins

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine"
)

// Where bash ended
//
// bash tells in its traps which line of a script file failed, whether or not it prints
// its commands. It reads the file that BASH_ENV names before the script: that takes the
// variable away again, so that only the shell of the script has the traps, and reports to
// a FIFO beside the script, which can be written to though the mount is read-only. ERR
// tells of each command that fails, with the lines of the functions around it; EXIT, at
// which command the shell ended. A script with traps of its own, or that asks for the
// shell's options, is left alone: it could see these.

const (
	bashEnv   = "bash-env"
	bashTells = "tells"
)

// bashTraps is what bash reads; its verb is the path of the FIFO. The group is so that
// set -x does not print what the traps do.
const bashTraps = `unset BASH_ENV
trap '{ printf "E%%d|%%s|%%s|%%s|%%s|%%s\0" "$?" "$-" "$LINENO" "${BASH_SOURCE[*]}" "${BASH_LINENO[*]}" "${BASH_COMMAND:0:1000}" >%[1]s; } 2>/dev/null' ERR
trap '{ printf "X%%d|%%s|%%s|%%s|%%s|%%s\0" "$?" "$-" "$LINENO" "${BASH_SOURCE[*]}" "${BASH_LINENO[*]}" "${BASH_COMMAND:0:1000}" >%[1]s; } 2>/dev/null' EXIT
set -E
`

// ownTraps are words of scripts that could see the traps.
var ownTraps = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\btrap\b|BASH_ENV|\$-|\bSHELLOPTS\b|\bset -o *[|;&\n]`)
})

// isBash reports whether a script file is run by bash, and has no traps of its own.
func isBash(interpreter []string, script []byte) bool {
	if len(interpreter) == 0 {
		line, _, _ := bytes.Cut(script, []byte("\n"))
		words, ok := bytes.CutPrefix(line, []byte("#!"))
		if !ok {
			return false
		}
		interpreter = strings.Fields(string(words))
	}
	for _, word := range interpreter {
		switch name := path.Base(word); {
		case name == "bash":
			return !ownTraps().Match(script)
		case name == "env" || strings.HasPrefix(word, "-") || strings.Contains(word, "="):
		default:
			return false
		}
	}
	return false
}

// bashWatch reads what bash reports. Nil is one of a script that is not run by bash.
type bashWatch struct {
	dir    string
	script string // its path, as bash knows it
	fifo   *os.File
	done   chan struct{}

	rest       []byte
	failed, at *bashReport // the last of ERR, and of EXIT
}

// watchBash prepares the directory of a script for it. seen is the path of that in the
// container.
func watchBash(dir, seen string) (*bashWatch, error) {
	w := &bashWatch{dir: dir, script: seen + "/script", done: make(chan struct{})}
	name := filepath.Join(dir, bashTells)
	if err := errors.Join(w.forget(), unix.Mkfifo(name, 0o600), os.Chmod(name, 0o622)); err != nil { // whoever the script runs as
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, bashEnv), fmt.Appendf(nil, bashTraps, seen+"/"+bashTells), 0o644); err != nil {
		return nil, err
	}
	var err error
	// Open for writing, too, it never ends.
	if w.fifo, err = os.OpenFile(name, os.O_RDWR|unix.O_NONBLOCK, 0); err != nil {
		return nil, err
	}
	go func() {
		defer close(w.done)
		w.read()
	}()
	return w, nil
}

// watch has bash tell where it ends, and returns the variables that this takes: nil for
// another shell, and where the call has a file for bash of its own.
func (l *lxcExec) watch(job *engine.Job) (*bashWatch, []string, error) {
	dir := filepath.Join(job.Dir(), "script")
	if _, own := l.Env["BASH_ENV"]; own || !job.Has("script") {
		return nil, nil, nil
	}
	script, err := os.ReadFile(filepath.Join(dir, "script"))
	if err != nil || !isBash(l.Interpreter, script) {
		return nil, nil, err
	}
	w, err := watchBash(dir, scriptDir)
	if err != nil {
		return nil, nil, err
	}
	return w, []string{"BASH_ENV=" + scriptDir + "/" + bashEnv}, os.Chtimes(dir, job.Epoch(), job.Epoch())
}

// read reads until it is told to end.
func (w *bashWatch) read() {
	buf := make([]byte, 4096)
	for {
		n, err := w.fifo.Read(buf)
		w.take(buf[:n])
		if err != nil {
			return
		}
	}
}

// maxReport bounds a report, in bytes: one of paths that go on for ever is dropped.
const maxReport = 64 << 10

func (w *bashWatch) take(p []byte) {
	w.rest = append(w.rest, p...)
	for {
		report, rest, ok := bytes.Cut(w.rest, []byte{0})
		if !ok {
			break
		}
		w.rest = slices.Clone(rest)
		switch r := parseReport(string(report)); {
		case r == nil:
		case r.exit:
			w.at = r
		default:
			w.failed = r
		}
	}
	if len(w.rest) > maxReport {
		w.rest = nil
	}
}

// end takes what is still to be read once the container has ended, and removes what was
// put beside the script.
func (w *bashWatch) end() {
	if w == nil {
		return
	}
	defer w.fifo.Close()
	_ = w.fifo.SetReadDeadline(time.Unix(1, 0)) // only a closed file refuses it
	<-w.done
	buf := make([]byte, maxReport) // as much as a pipe holds
	_ = w.fifo.SetReadDeadline(time.Time{})
	if raw, err := w.fifo.SyscallConn(); err == nil {
		_ = raw.Read(func(fd uintptr) bool {
			if n, err := unix.Read(int(fd), buf); err == nil {
				w.take(buf[:n])
			}
			return true
		})
	}
	_ = w.forget() // nothing looks at them
}

func (w *bashWatch) forget() error {
	var errs []error
	for _, name := range []string{bashEnv, bashTells} {
		if err := os.Remove(filepath.Join(w.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// bashReport is what a trap says.
type bashReport struct {
	exit    bool
	status  int
	flags   string   // $-
	line    int      // $LINENO
	sources []string // the files of the functions around, the innermost first
	calls   []int    // the lines at which they were called
	command string
}

// parseReport reads a report; nil for what is none.
func parseReport(text string) *bashReport {
	parts := strings.SplitN(text, "|", 6)
	if len(parts) < 6 || parts[0] == "" {
		return nil
	}
	r := &bashReport{exit: parts[0][0] == 'X', flags: parts[1], sources: strings.Fields(parts[3]), command: parts[5]}
	var err, lineErr error
	r.status, err = strconv.Atoi(parts[0][1:])
	r.line, lineErr = strconv.Atoi(parts[2])
	if errors.Join(err, lineErr) != nil {
		return nil
	}
	for _, n := range strings.Fields(parts[4]) {
		call, err := strconv.Atoi(n)
		if err != nil {
			return nil
		}
		r.calls = append(r.calls, call)
	}
	return r
}

// in is the line of the file that the report is about: the innermost of those around.
func (r *bashReport) in(file string) int {
	i := slices.Index(r.sources, file)
	switch {
	case i == 0:
		return r.line
	case i > 0 && i <= len(r.calls):
		return r.calls[i-1]
	}
	return 0
}

// line is the line, from 1 on, at which a script of these lines ended with that status; 0
// where that is not known.
func (w *bashWatch) line(status int, lines []string) int {
	if w == nil || w.at == nil || w.at.status != status {
		return 0 // ended by a signal, or by what bash itself tells of
	}
	word, _, _ := strings.Cut(w.at.command, " ")
	if word == "exit" || word == "return" { // which is told of with the line of the call
		if n := theOnlyWith(w.at.command, lines); n > 0 || word == "exit" {
			return n
		}
	}
	if e := w.failed; e != nil && e.status == status && (e.command == w.at.command || strings.Contains(e.flags, "e")) {
		if n := e.in(w.script); n >= 1 && n <= len(lines) {
			return n
		}
	}
	return 0
}

// theOnlyWith is the number, from 1 on, of the only line with the text; 0 where there are
// several or none.
func theOnlyWith(text string, lines []string) (n int) {
	word := regexp.MustCompile(`(^|[\s;&|({])` + regexp.QuoteMeta(text) + `($|[\s;&|)}#])`)
	for i, line := range lines {
		if !word.MatchString(line) {
			continue
		}
		if n > 0 {
			return 0
		}
		n = i + 1
	}
	return n
}
