package config

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"b9.build/b9/engine/internal/charset"
)

// How a configuration is evaluated:
//
// The files are read line by line for one host, because whether a Match line
// holds depends on the values that the lines before it have set. Of most
// keywords the first value counts, so a file read earlier wins, and within a
// file an earlier line. A Host or Match line decides whether the lines up to
// the next one count; Include reads other files at that place, and only where
// the lines count. Values are kept as text, with their file and line, and are
// evaluated (numbers, times, paths, percent tokens) when all files are read.

// systemDir holds the system's files; Include in them is relative to it.
const systemDir = "/etc/ssh"

// maxFile bounds what is read of a file, in bytes.
const maxFile = 1 << 20

// maxInclude bounds how deep Include may nest, as in OpenSSH.
const maxInclude = 16

// reader evaluates configuration files for one host.
type reader struct {
	home   string
	alias  string              // the host as the location names it
	local  string              // the current user
	values map[string][]string // by keyword in lower case, in the order found
	where  map[string]string   // file:line of the first value, by keyword
	err    error               // the first fault of a value
}

// line is one line of a configuration file.
type line struct {
	file    string
	number  int
	keyword string // in lower case
	args    []string
}

func (l line) errorf(format string, args ...any) error {
	return fmt.Errorf("%s:%d: %w", l.file, l.number, fmt.Errorf(format, args...))
}

// read evaluates one file; depth is the number of Include lines above it.
func (r *reader) read(file string, depth int) error {
	text, err := ReadText(file, maxFile, checkOwner)
	if err != nil {
		return err
	}
	in := bufio.NewScanner(bytes.NewReader(text))
	active := true
	for number := 1; in.Scan(); number++ {
		l := line{file: file, number: number}
		if l.keyword, l.args, err = splitLine(in.Text()); err != nil {
			return l.errorf("%w", err)
		}
		if active, err = r.line(l, active, depth); err != nil {
			return err
		}
	}
	return in.Err()
}

// ReadText returns the text of a file of at most limit bytes; a larger one is an error,
// for what stands behind would be missed. check, if not nil, may refuse the open file. It
// waits for nobody: a pipe is an error.
func ReadText(file string, limit int64, check func(*os.File) error) ([]byte, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Mode()&fs.ModeNamedPipe != 0 {
		return nil, errors.Join(err, fmt.Errorf("%s is a pipe: want a file", file))
	}
	if check != nil {
		if err := check(f); err != nil {
			return nil, err
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", file, limit)
	}
	return text, charset.Check(file, string(text))
}

// checkOwner refuses a file that somebody else may write to, as ssh(1) does:
// who can, says which host keys are trusted. The system's files are the
// system's affair.
func checkOwner(f *os.File) error {
	if strings.HasPrefix(f.Name(), systemDir+"/") {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if info.Mode().IsRegular() && (info.Mode().Perm()&0o022 != 0 || ok && st.Uid != 0 && int(st.Uid) != os.Geteuid()) {
		return fmt.Errorf("%s: others may write to it (mode %04o, owner %d): chmod go-w and chown it", f.Name(), info.Mode().Perm(), st.Uid)
	}
	return nil
}

// line applies one line and returns whether the following ones count.
func (r *reader) line(l line, active bool, depth int) (bool, error) {
	switch l.keyword {
	case "":
		return active, nil
	case "host":
		return MatchList(l.args, r.alias), nil
	case "match":
		return r.match(l)
	case "include":
		return active, r.include(l, active, depth)
	}
	if active {
		return active, r.set(l)
	}
	return active, nil
}

// include reads the files that an Include line names.
func (r *reader) include(l line, active bool, depth int) error {
	if depth >= maxInclude {
		return l.errorf("Include is nested more than %d deep", maxInclude)
	}
	if !active {
		return nil
	}
	for _, pattern := range l.args {
		files, err := filepath.Glob(r.includePath(l.file, pattern))
		if err != nil {
			return l.errorf("Include %s: %w", pattern, err)
		}
		for _, file := range files {
			if err := r.read(file, depth+1); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// includePath resolves a path of an Include line in file.
func (r *reader) includePath(file, path string) string {
	path = expandTilde(path, r.home)
	switch {
	case filepath.IsAbs(path):
		return path
	case strings.HasPrefix(file, systemDir+"/"):
		return filepath.Join(systemDir, path)
	}
	return filepath.Join(r.home, ".ssh", path)
}

// MatchList reports whether a list of patterns matches a whole text: one of
// them has to, and none that begins with "!" may.
func MatchList(patterns []string, host string) bool {
	found := false
	for _, p := range patterns {
		p, negated := strings.CutPrefix(p, "!")
		if !Match(p, host) {
			continue
		}
		if negated {
			return false
		}
		found = true
	}
	return found
}

// Match reports whether a pattern matches a whole text: "*" stands for any
// text and "?" for any one byte.
func Match(pattern, text string) bool {
	star, back := -1, 0
	p, t := 0, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, back = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			p++
			t++
		case star >= 0:
			back++
			p, t = star+1, back
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// match evaluates a Match line. Criteria that b9 has no means to evaluate
// are an error, but only where the ones before them hold.
func (r *reader) match(l line) (bool, error) {
	if len(l.args) == 0 {
		return false, l.errorf("Match needs a criterion")
	}
	subjects := map[string]string{
		"host": strings.ToLower(r.hostName()), "originalhost": r.alias, "user": r.first("user", r.local), "localuser": r.local,
	}
	for args := l.args; len(args) > 0; {
		name, negated := strings.CutPrefix(strings.ToLower(args[0]), "!")
		if name == "all" {
			if len(l.args) > 1 || negated {
				return false, l.errorf("Match all goes with no other criterion")
			}
			return true, nil
		}
		text, ok := subjects[name]
		if !ok {
			return false, l.errorf("b9 can't evaluate \"Match %s\" (only all, host, originalhost, user and localuser): put the host into a Host block above it", name)
		}
		if len(args) < 2 {
			return false, l.errorf("Match %s needs a pattern", name)
		}
		if MatchList(strings.Split(args[1], ","), text) == negated {
			return false, nil
		}
		args = args[2:]
	}
	return true, nil
}

// first returns the first value of a keyword, or def.
func (r *reader) first(keyword, def string) string {
	if v := r.values[keyword]; len(v) > 0 {
		return v[0]
	}
	return def
}

// hostName is the name to connect to, as far as it is known.
func (r *reader) hostName() string {
	name := r.first("hostname", "")
	if name == "" {
		return r.alias
	}
	return strings.NewReplacer("%%", "%", "%h", r.alias).Replace(name)
}

// splitLine cuts a line into its keyword and arguments. Arguments may be
// quoted, a backslash guards a quote, a space or itself, and "#" at the
// beginning of an argument begins a comment.
func splitLine(line string) (keyword string, args []string, err error) {
	line = strings.Trim(line, " \t\r\n\f")
	if line == "" || line[0] == '#' {
		return "", nil, nil
	}
	end := strings.IndexAny(line, " \t=\"")
	if end <= 0 {
		return "", nil, fmt.Errorf("%q has no argument", line)
	}
	keyword = strings.ToLower(line[:end])
	rest := strings.TrimLeft(line[end:], " \t")
	if after, ok := strings.CutPrefix(rest, "="); ok {
		rest = strings.TrimLeft(after, " \t")
	}
	args, err = splitArgs(rest)
	if err == nil && len(args) == 0 {
		err = fmt.Errorf("%s has no argument", line[:end])
	}
	return keyword, args, err
}

// splitArgs cuts the part of a line after its keyword.
func splitArgs(rest string) ([]string, error) {
	var args []string
	for rest != "" && rest[0] != '#' {
		arg, after, err := cutArg(rest)
		if err != nil {
			return nil, err
		}
		args = append(args, arg)
		rest = strings.TrimLeft(after, " \t")
	}
	return args, nil
}

// cutArg cuts one argument off the beginning of s.
func cutArg(s string) (arg, rest string, err error) {
	var b strings.Builder
	var quote byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s) && strings.IndexByte(`"'\ `, s[i+1]) >= 0 && (s[i+1] != ' ' || quote == 0):
			i++
			b.WriteByte(s[i])
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0 && (c == ' ' || c == '\t'):
			return b.String(), s[i:], nil
		default:
			b.WriteByte(c)
		}
	}
	if quote != 0 {
		return "", "", fmt.Errorf("a quote (%c) is not closed", quote)
	}
	return b.String(), "", nil
}
