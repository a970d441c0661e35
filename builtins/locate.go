package builtins

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"b9.build/b9/builtins/lang/outline"
	"b9.build/b9/engine"
	"b9.build/b9/engine/fsys"
)

// Where a script failed
//
// A shell with -e ends at the command that fails, and with -x has printed that command
// last, as it was after every expansion. So the last line of the trace is compared with
// the commands of the script, in which whatever is expanded stands for any text. Where
// exactly one command of the list, or one line of the file, can have become that line,
// this is the place. Of a script file that bash runs, bash itself tells (locate_bash.go). Where several can, or none, because a function of another file or
// a variable's value was run, nothing is said; nor after a call of another script, whose
// trace has the same mark. The script, its key and what it prints stay as they are, and
// it is the same for every shell.

// traced keeps what a script's output tells of its end. Both streams are one, so that
// their order stays: a line of the trace can follow what was printed without an end of line.
type traced struct {
	mu    sync.Mutex
	rest  []byte
	last  string // line of the trace, without the mark
	late  string // what follows a mark within a later line; it need not be a trace
	inner bool   // the last line may be that of a script that the script has called
	full  bool   // a program found no space

	bash   *bashWatch // what bash told beside, nil for another shell
	status int        // that the shell ended with
}

// traceMark is before each line of the trace of a shell at its top level.
const traceMark = "+ "

// Write implements io.Writer.
func (t *traced) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rest = append(t.rest, p...)
	rest := t.rest
	for {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		if !whole {
			break
		}
		t.line(line)
		rest = after
	}
	if len(rest) > 64<<10 { // no line of a trace
		rest = nil
	}
	t.rest = append(t.rest[:0], rest...)
	return len(p), nil
}

// line takes a line. The caller holds mu.
func (t *traced) line(line []byte) {
	if command, ok := bytes.CutPrefix(line, []byte(traceMark)); ok {
		t.inner = t.inner || callsScript(t.last)
		t.last, t.late = string(command), ""
	} else if i := bytes.LastIndex(line, []byte(traceMark)); i > 0 {
		t.late = string(line[i+len(traceMark):])
	}
	t.full = t.full || bytes.Contains(line, []byte("No space left on device"))
}

// callsScript reports whether a line of a trace calls what may have a trace of its own,
// with the same mark: a shell, or a program that is none of the system's.
func callsScript(line string) bool {
	called := false
	for _, word := range strings.Fields(withoutQuotes(line)) {
		switch base := path.Base(word); {
		case assignment().MatchString(word):
		case slices.Contains(shells[:], base), slices.Contains(runners(), base), strings.HasSuffix(base, ".sh"):
			return true
		case strings.Contains(word, "/") && !slices.Contains(systemPaths(), path.Dir(word)):
			return true
		case slices.Contains(callers(), base):
			called = true
		case !called:
			return false
		}
	}
	return false
}

// runners are the commands that, as shells do, run a text or a file of shell.
func runners() []string {
	return []string{"busybox", "su", ".", "source", "eval"}
}

// callers are commands among whose arguments is a command.
func callers() []string {
	return []string{"builtin", "chroot", "chrt", "command", "env", "exec", "fakeroot", "find", "flock", "ionice", "nice", "nohup", "runuser", "setpriv", "setsid", "stdbuf", "sudo", "timeout", "unshare", "xargs"}
}

// systemPaths are where distributions have their programs.
func systemPaths() []string { return []string{"/bin", "/sbin", "/usr/bin", "/usr/sbin"} }

// failedAt is which of the commands the trace says was run last.
func (t *traced) failedAt(commands []string) (int, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inner {
		return 0, false
	}
	if n, ok := theOnly(commands, withoutQuotes(t.late)); ok {
		return n, true
	}
	return theOnly(commands, withoutQuotes(t.last))
}

// theOnly is the only one of the commands that can have become the line of a trace.
func theOnly(commands []string, line string) (int, bool) {
	if strings.TrimSpace(line) == "" {
		return 0, false
	}
	found := -1
	for i, text := range commands {
		if !slices.ContainsFunc(simpleCommands(text), func(p string) bool { return couldBe(p, line) }) {
			continue
		}
		if found >= 0 {
			return 0, false
		}
		found = i
	}
	return found, found >= 0
}

func couldBe(pattern, line string) bool {
	ok, err := regexp.MatchString("^"+pattern+"$", line)
	return ok && err == nil
}

func withoutQuotes(text string) string {
	return strings.Join(strings.Fields(strings.NewReplacer("'", "", `"`, "", `\`, "").Replace(text)), " ")
}

// anything is what an expansion may become, in patterns.
const anything = "\x00"

// simpleCommands lists the patterns of what a shell prints for the commands in a text.
func simpleCommands(text string) (patterns []string) {
	for _, words := range splitCommands(text) {
		for len(words) > 0 && slices.Contains(notCommands(), words[0]) {
			words = words[1:]
		}
		patterns = append(patterns, patternOf(words))
		for len(words) > 1 && assignment().MatchString(words[0]) { // which bash prints alone
			words = words[1:]
			patterns = append(patterns, patternOf(words))
		}
	}
	return slices.DeleteFunc(patterns, func(p string) bool { return p == "" })
}

var assignment = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`) })

// patternOf is the pattern of a command; "" for one that could become anything.
func patternOf(words []string) string {
	if strings.Trim(strings.Join(words, ""), anything) == "" {
		return ""
	}
	var b strings.Builder
	for i, w := range words {
		switch {
		case w == anything && i == 0:
			b.WriteString(".+")
		case w == anything: // or nothing at all
			b.WriteString("( .*)?")
		default:
			if i > 0 {
				b.WriteString(" ")
			}
			b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(w), anything, ".*"))
		}
	}
	return b.String()
}

// notCommands are the words before a command that are none of it.
func notCommands() []string {
	return []string{"if", "then", "else", "elif", "fi", "do", "done", "while", "until", "!", "{", "}", "esac", "time"}
}

// splitCommands splits a text of shell into commands of words, without redirections and
// comments. Quotes are gone, and what is expanded is anything.
func splitCommands(text string) (commands [][]string) {
	var words []string
	end := func() {
		if len(words) > 0 {
			commands = append(commands, words)
		}
		words = nil
	}
	l := shellLexer{text: text}
	for !l.done() {
		switch word, separator := l.next(); {
		case separator:
			end()
		case word != "":
			words = append(words, strings.Fields(word)...)
		}
	}
	end()
	return commands
}

// shellLexer cuts words and separators off a text of shell.
type shellLexer struct{ text string }

func (l *shellLexer) done() bool { return l.text == "" }

// next returns the next word, which may be empty, or that a command ends.
func (l *shellLexer) next() (word string, separator bool) {
	switch c := l.text[0]; {
	case c == ' ' || c == '\t':
		l.text = l.text[1:]
		return "", false
	case c == '#':
		l.skipTo("\n")
		return "", false
	case strings.IndexByte("\n;&|()", c) >= 0:
		l.text = l.text[1:]
		return "", true
	case redirection().MatchString(l.text):
		l.text = l.text[len(redirection().FindString(l.text)):]
		l.word() // where to
		return "", false
	}
	return l.word(), false
}

var redirection = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9]*[<>][<>&|-]*[ \t]*`) })

// skipTo leaves out what is before the text, or all.
func (l *shellLexer) skipTo(text string) {
	if _, rest, ok := strings.Cut(l.text, text); ok {
		l.text = text + rest
		return
	}
	l.text = ""
}

// word cuts a word off.
func (l *shellLexer) word() string {
	var b strings.Builder
	var quote byte
	for l.text != "" {
		switch c := l.text[0]; {
		case c == '\\' && quote != '\'' && len(l.text) > 1:
			if l.text[1] != '\n' {
				b.WriteByte(l.text[1])
			}
			l.text = l.text[2:]
			continue
		case c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote != '\'' && (c == '$' || c == '`'):
			b.WriteString(anything)
			l.expansion()
			continue
		case quote == 0 && strings.IndexByte("*?[~", c) >= 0:
			b.WriteString(anything)
		case quote == 0 && strings.IndexByte(" \t\n;&|()<>", c) >= 0:
			return strings.ReplaceAll(b.String(), anything+anything, anything)
		default:
			b.WriteByte(c)
		}
		l.text = l.text[1:]
	}
	return strings.ReplaceAll(b.String(), anything+anything, anything)
}

// expansion leaves out what begins with $ or `.
func (l *shellLexer) expansion() {
	if l.text[0] == '`' {
		l.text = l.text[1:]
		l.skipTo("`")
		l.text = strings.TrimPrefix(l.text, "`")
		return
	}
	l.text = l.text[1:]
	if l.text == "" || l.text[0] != '{' && l.text[0] != '(' {
		l.text = l.text[len(variableName().FindString(l.text)):]
		return
	}
	depth := 0
	for i := range len(l.text) {
		switch l.text[i] {
		case '{', '(':
			depth++
		case '}', ')':
			if depth--; depth == 0 {
				l.text = l.text[i+1:]
				return
			}
		}
	}
	l.text = ""
}

var variableName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]*|.)?`) })

// commandsOf are the elements of the list that the script was given as.
func (l *lxcExec) commandsOf() (list []string) {
	lines := strings.SplitAfter(strings.TrimPrefix(l.Script, shellHead), "\n")
	for _, n := range l.Lengths {
		if n > len(lines) {
			return nil
		}
		list = append(list, strings.TrimSuffix(strings.Join(lines[:n], ""), "\n"))
		lines = lines[n:]
	}
	return list
}

// at is the rest of a sentence: after the words, where the trace ended; "" where that is
// not known.
func (l *lxcExec) at(words string, job *engine.Job, t *traced) string {
	place := l.locate(job, t)
	if place == "" {
		return ""
	}
	return words + place
}

// locate says which command of the list, or line of the file, the trace ended with.
func (l *lxcExec) locate(job *engine.Job, t *traced) string {
	if job.Has("script") {
		return l.locateLine(job, t)
	}
	rest := filepath.Join(job.Dir(), "script", restFile)
	_ = os.Remove(rest) // of an attempt before
	commands := l.commandsOf()
	i, ok := t.failedAt(commands)
	if !ok {
		return ""
	}
	_ = os.WriteFile(rest, []byte(scriptText(commands[i:], true)), 0o755) // without it one runs the commands by hand
	place := ""
	workspace, at := job.Where()
	if text, err := os.ReadFile(filepath.Join(workspace, at.File)); err == nil {
		if file, err := outline.Parse(at.File, text); err == nil {
			if line, col, ok := outline.Element(file, at.Line, at.Col, "script", i); ok {
				place = " (" + engine.Position{File: at.File, Line: line, Col: col}.String() + ")"
			}
		}
	}
	return fmt.Sprintf("command %d%s, %s", i+1, place, firstLine(commands[i]))
}

// restFile is what is left of a script of which a command failed.
const restFile = "rest"

// locateLine does so for a script file, and shows the lines around in the log.
func (l *lxcExec) locateLine(job *engine.Job, t *traced) string {
	const around = 2
	text, err := os.ReadFile(filepath.Join(job.Dir(), "script", "script"))
	if err != nil || bytes.HasPrefix(text, []byte("\x7fELF")) {
		return ""
	}
	lines := strings.Split(string(text), "\n")
	i := t.bash.line(t.status, lines) - 1
	if i < 0 {
		var ok bool
		if i, ok = t.failedAt(lines); !ok {
			return ""
		}
	}
	for n := max(0, i-around); n < min(len(lines), i+around+1); n++ {
		mark := ' '
		if n == i {
			mark = '>'
		}
		job.Logf("%c %4d | %s", mark, n+1, lines[n])
	}
	return fmt.Sprintf("%s:%d, %s", l.File, i+1, firstLine(strings.TrimSpace(lines[i])))
}

// firstLine is a command as a message has it.
func firstLine(text string) string {
	const most = 100
	line, more, _ := strings.Cut(text, "\n")
	if len(line) > most || more != "" {
		line = strings.ToValidUTF8(line[:min(len(line), most)], "") + "..."
	}
	return line
}

// fullImages says which images the script has filled up, and what to do; "" for none.
func (l *lxcExec) fullImages(job *engine.Job, t *traced) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.full {
		return ""
	}
	for _, m := range l.Images {
		info, err := fsys.Probe(job.Output(m.Target), 0, 0)
		kept := min(info.Size/32, 24<<20) // what ext4 keeps for itself, and a little more
		if l.User != "" {
			kept += info.Size / 20 // and for root
		}
		if err == nil && info.Free >= 0 && info.Free < max(kept, 1<<20) {
			return fmt.Sprintf("; the image for %s is full: make it larger, with size= or free= of what makes it, or with resize()", m.Target)
		}
	}
	return ""
}
