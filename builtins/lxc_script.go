package builtins

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.starlark.net/starlark"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/container"
)

func (l *lxcExec) addScript(c *lang.Call, s *lang.Step) {
	switch v := c.Value("script").(type) {
	case *lang.Handle, starlark.String:
		s.Inputs = append(s.Inputs, lang.StepInput{Role: "script", From: c.Operand(v, lang.File, "script")})
		return
	case starlark.Indexable:
		if len(l.Interpreter) == 0 {
			l.Interpreter = []string{"/bin/sh"}
		}
		shell := isShell(l.Interpreter)
		list := commands(c, v, shell)
		l.Script = scriptText(list, shell)
		if shell {
			for _, text := range list {
				l.Lengths = append(l.Lengths, 1+strings.Count(text, "\n"))
			}
		}
		if v.Len() == 0 {
			c.Errorf("script: the list is empty")
		}
		if err := engine.CheckText("script", l.Script); err != nil {
			c.Errorf("%w", err)
		}
	default:
		if v != nil {
			c.Errorf("script: want list of commands, or file (handle, label or path), got %s", v.Type())
		}
	}
}

// commands reads the elements of a script: lines of it or, for a shell, lists of words.
func commands(c *lang.Call, list starlark.Indexable, shell bool) []string {
	var lines []string
	for i := range list.Len() {
		switch v := list.Index(i).(type) {
		case starlark.String:
			lines = append(lines, string(v))
		case starlark.Indexable:
			if !shell {
				c.Errorf("script: command %d is a list of words, which only a shell runs: write it as a line of the interpreter's language", i)
			}
			var words []string
			for j := range v.Len() {
				w, ok := v.Index(j).(starlark.String)
				if !ok {
					c.Errorf("script: word %d of command %d: want string, got %s", j, i, v.Index(j).Type())
				}
				words = append(words, shellQuote(string(w)))
			}
			lines = append(lines, strings.Join(words, " "))
		default:
			c.Errorf("script: command %d: want string or list of strings, got %s", i, v.Type())
		}
	}
	return lines
}

// writeScript puts the script into a directory of the job, and returns that.
func (l *lxcExec) writeScript(ctx context.Context, job *engine.Job) (string, error) {
	dir := filepath.Join(job.Dir(), "script")
	if err := makeEmpty(dir, job.Epoch()); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "script")
	if err := l.putScript(ctx, job, path); err != nil {
		return "", err
	}
	at := job.Epoch()
	return dir, errors.Join(os.Chmod(path, 0o755), os.Chtimes(path, at, at), os.Chtimes(dir, at, at))
}

// putScript writes the script to path, and refuses a file that can't be run.
func (l *lxcExec) putScript(ctx context.Context, job *engine.Job, path string) error {
	if !job.Has("script") {
		return os.WriteFile(path, []byte(l.Script), 0o755)
	}
	if err := job.Input("script").Fork(ctx, path); err != nil {
		return err
	}
	if err := l.checkScript(path); err != nil {
		return err
	}
	return checkText("script", path)
}

// checkText finds what is no text in a script file, before a shell passes over it
// in silence. A program (ELF) is none, and is run as it is.
func checkText(name, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, lang.MaxText+1))
	switch {
	case err != nil || bytes.HasPrefix(text, []byte("\x7fELF")):
		return err
	case len(text) > lang.MaxText:
		return fmt.Errorf("%s is larger than %d bytes: mount what it holds with shares=", name, lang.MaxText)
	}
	return engine.CheckText(name, string(text))
}

// checkScript reports what a script file would end with at its first line, in words
// that say nothing of the cause. An interpreter that is no shell may take it.
func (l *lxcExec) checkScript(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return err
	}
	shell := isShell(l.Interpreter)
	if len(l.Interpreter) > 0 && !shell {
		return nil
	}
	if err := container.CheckScript(head, shell); err != nil {
		return fmt.Errorf("the script can't be executed: %w", err)
	}
	return nil
}

// shells are the names of the programs that take what a POSIX shell takes.
var shells = [...]string{"sh", "ash", "bash", "dash", "ksh", "mksh", "zsh"}

// isShell tells whether a command is a shell, alone or run by env(1) or busybox.
func isShell(command []string) bool {
	for _, word := range command {
		switch name := path.Base(word); {
		case slices.Contains(shells[:], name):
			return true
		case name == "env" || name == "busybox" || strings.HasPrefix(word, "-") || strings.Contains(word, "="):
		default:
			return false
		}
	}
	return false
}

// shellHead is before the commands of a shell.
const shellHead = "set -ex\n"

// scriptText renders commands as a script. A shell prints each one and stops at the
// first that fails.
func scriptText(commands []string, shell bool) string {
	text := strings.Join(commands, "\n") + "\n"
	if shell {
		return shellHead + text
	}
	return text
}

// shellQuote quotes a word for a POSIX shell.
func shellQuote(word string) string {
	if word != "" && strings.Trim(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
